import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { directoriesBehind } from "./directories-behind.ts";

let folder: string;
beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "pbflagd-behind-")));
});
afterEach(() => rm(folder, { recursive: true }));

/** Directories, each with the names that matter in it; "*": all. */
async function behind(path: string): Promise<readonly string[]> {
  const places = await directoriesBehind(join(folder, path));
  return Array.from(
    places,
    ([directory, names]) => `${directory.replace(folder, "")}: ${[...(names ?? ["*"])].join(" ")}`,
  ).toSorted();
}

test("behind a file is its directory", async () => {
  await mkdir(join(folder, "a/b"), { recursive: true });
  await writeFile(join(folder, "a/b/flags.pb"), "");
  expect(await behind("a/b/flags.pb")).toEqual(["/a/b: flags.pb"]);
});

test("behind a directory are itself and its parent", async () => {
  await mkdir(join(folder, "a/b"), { recursive: true });
  expect(await behind("a/b")).toEqual(["/a/b: *", "/a: b"]);
});

test("behind what does not exist is where it would be created", async () => {
  await mkdir(join(folder, "a"));
  expect(await behind("a/b/c/flags.pb")).toEqual(["/a: b"]);
});

test("behind links, as Kubernetes mounts a volume, is every directory with one of them", async () => {
  await mkdir(join(folder, "etc/..2026_11"), { recursive: true });
  await writeFile(join(folder, "etc/..2026_11/flags.pb"), "");
  await symlink("..2026_11", join(folder, "etc/..data"));
  await symlink("..data/flags.pb", join(folder, "etc/flags.pb"));
  await symlink(join(folder, "etc"), join(folder, "current"));
  expect(await behind("current/flags.pb")).toEqual([
    "/etc/..2026_11: flags.pb",
    "/etc: flags.pb ..data",
    ": current",
  ]);
});

test("behind links in a circle are their directories", async () => {
  await symlink("b", join(folder, "a"));
  await symlink("a", join(folder, "b"));
  expect(await behind("a/flags.pb")).toEqual([": a b"]);
});
