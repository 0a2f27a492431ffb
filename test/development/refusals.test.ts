import { chmod, cp, mkdir, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { expect, inject, onTestFinished, test } from "vitest";
import { copyProductionPackages } from "../deploy/production-packages.ts";
import { listen } from "../support/listen.ts";
import { startDev } from "./start-dev.ts";

const root = new URL("../..", import.meta.url).pathname;
const NOBODY = 65_534;

test("a data directory that another one uses is refused in one line, and the first one serves on", async () => {
  const dataDir = await folderFor("in-use");
  await using first = startDev({ args: ["--listen", "127.0.0.1:0", "--data-dir", dataDir] });
  const port = await first.whenServing();

  await using second = startDev({ args: ["--listen", "127.0.0.1:0", "--data-dir", dataDir] });
  expect(await second.ended).not.toBe(0);
  expect(second.stderr).toMatch(
    /^error: Cannot use data directory .*in-use: it is in use by another pbflagd \(pid \d+\).*\n$/,
  );
  expect(second.banner).toBe("");
  expect(await second.listProcesses()).toEqual([]);
  expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200);
});

test("a port that is taken is refused in one line, and nothing is left running", async () => {
  const dataDir = await folderFor("port-taken");
  const other = createServer();
  onTestFinished(() => void other.close());
  const address = `127.0.0.1:${await listen(other)}`;

  await using dev = startDev({ args: ["--listen", address, "--data-dir", dataDir] });
  expect(await dev.ended).not.toBe(0);
  expect(dev.stderr).toMatch(new RegExp(`^error: Cannot listen on ${address}: .*\n$`));
  expect(dev.banner).toBe("");
  expect(await dev.listProcesses()).toEqual([]);
});

test("a data directory without write permission is refused in one line", async () => {
  const folder = await folderFor("closed");
  await chmod(folder, 0o555);
  const dataDir = join(folder, "data");

  await using dev = startDev({
    packageDir: await readableByAll(),
    cwd: "/",
    args: ["--listen", "127.0.0.1:0", "--data-dir", dataDir],
    uid: NOBODY,
  });
  expect(await dev.ended).not.toBe(0);
  expect(dev.stderr).toMatch(/^error: Cannot use data directory .*closed\/data: .*permission.*\n$/i);
  expect(dev.banner).toBe("");
  expect(await dev.listProcesses()).toEqual([]);
});

async function folderFor(name: string): Promise<string> {
  const folder = join(inject("runFolder"), name);
  await mkdir(folder);
  onTestFinished(async () => {
    await chmod(folder, 0o755);
    await rm(folder, { recursive: true, force: true, maxRetries: 10 });
  });
  return folder;
}

/** Root becomes somebody else to be refused anything, who may not even read a clone in a folder of root's own. */
async function readableByAll(): Promise<string> {
  if (userInfo().uid !== 0) return root;
  const folder = await folderFor("installed");
  for (const part of ["dist", "migrations", "package.json"]) {
    await cp(join(root, part), join(folder, part), { recursive: true });
  }
  await copyProductionPackages(folder);
  return folder;
}
