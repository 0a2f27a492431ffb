import { chmod, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openEmbeddedPostgres } from "../../src/store/embedded/embedded-postgres.ts";
import { systemClock } from "../../src/system/clock.ts";
import { runCli } from "./run-cli.ts";

test("without --database, commands work on the database that runs on --data-dir", async () => {
  // As root, Postgres runs as somebody else, who must get there.
  const dataDir = await mkdtemp(join("/tmp", "pbflagd-cli-data-"));
  await chmod(dataDir, 0o711);
  try {
    await useEmbedded(dataDir);
    expect(await runCli(["sql", "SELECT 1", "--data-dir", dataDir])).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining(`none runs in ${dataDir}`),
    });
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});

async function useEmbedded(dataDir: string): Promise<void> {
  await using embedded = await openEmbeddedPostgres({
    dataDir,
    clock: systemClock,
    binaries: "npm",
    noSync: true,
  });
  const env = { PBFLAGS_DATA_DIR: dataDir };
  expect(await runCli(["migrate"], { env })).toMatchObject({ exitCode: 0, stderr: "" });
  expect(await runCli(["list"], { env })).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("pbflagd sync"),
  });
  const { stdout } = await runCli(["sql", "SELECT current_setting('port') AS port", "--data-dir", dataDir]);
  expect(stdout).toBe(`port\n${new URL(embedded.url).port}\n(1 row)\n`);
}
