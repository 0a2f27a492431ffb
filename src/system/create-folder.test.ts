import { existsSync } from "node:fs";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createFolder } from "./create-folder.ts";

let home = "";
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "pbflagd-folder-"));
});
afterAll(() => rm(home, { recursive: true, force: true }));

test("makes what is missing, and is content with what is there", async () => {
  const path = join(home, "a", "b", "c");
  await Promise.all([createFolder(path, 0o700), createFolder(path, 0o700)]);
  expect((await stat(path)).isDirectory()).toBe(true);
  await createFolder(path, 0o700);
});

test("says why where it cannot", async () => {
  await writeFile(join(home, "file"), "");
  await expect(createFolder(join(home, "file"), 0o700)).rejects.toThrow("is not a folder");
  await expect(createFolder(join(home, "file", "below"), 0o700)).rejects.toThrow("ENOTDIR");
});

test.skipIf(!existsSync("/proc/self"))(
  "gives up where the system has no folder to give (needs /proc)",
  async () => {
    await expect(createFolder("/proc/pbflagd/data", 0o700)).rejects.toThrow(/ENOENT|EACCES|EPERM/);
  },
);
