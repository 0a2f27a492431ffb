import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeFlags } from "../../test/support/descriptors.ts";
import { loadDescriptors } from "./load-descriptors.ts";
import { DescriptorError } from "./parse-descriptors.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-load-"));
});
afterEach(() => rm(folder, { recursive: true }));

function setOf(feature: string): Uint8Array {
  const flags = [{ number: 1, name: "on", type: "BOOL" as const }];
  return describeFlags([{ feature, flags }], { fileName: `${feature}.proto` });
}

describe("loadDescriptors() reads", () => {
  test("a file, by whatever name", async () => {
    await writeFile(join(folder, "set.binpb"), setOf("a"));
    expect((await loadDescriptors(join(folder, "set.binpb"))).flags).toMatchObject([{ id: "a/1" }]);
  });

  test("all .pb files of a directory, links too, but nothing hidden and nothing else", async () => {
    await writeFile(join(folder, "b.pb"), setOf("b"));
    await mkdir(join(folder, "..data"));
    await writeFile(join(folder, "..data", "a.pb"), setOf("a"));
    await symlink(join("..data", "a.pb"), join(folder, "a.pb"));
    await writeFile(join(folder, ".unfinished.pb"), "half");
    await writeFile(join(folder, "README.md"), "# Flags");
    expect((await loadDescriptors(folder)).features.map(({ id }) => id)).toEqual(["a", "b"]);
  });
});

test("loadDescriptors() does not parse again what it was given as known", async () => {
  const path = join(folder, "set.pb");
  await writeFile(path, setOf("a"));
  const known = await loadDescriptors(path);
  expect(await loadDescriptors(path, known)).toBe(known);
  await writeFile(path, setOf("b"));
  expect((await loadDescriptors(path, known)).features).toMatchObject([{ id: "b" }]);
});

describe("loadDescriptors() names the path and the reason where there is", () => {
  test("nothing", async () => {
    const path = join(folder, "missing.pb");
    await expect(problems(path)).resolves.toEqual([
      `${path}: it must be readable, got no such file or directory`,
    ]);
  });

  test("a path through a file", async () => {
    await writeFile(join(folder, "file"), "");
    const path = join(folder, "file", "flags.pb");
    await expect(problems(path)).resolves.toEqual([
      `${path}: it must be readable, got a path that leads through a file`,
    ]);
  });

  test("a link that leads nowhere", async () => {
    const path = join(folder, "link.pb");
    await symlink("link.pb", path);
    await expect(problems(path)).resolves.toEqual([
      `${path}: it must be readable, got a link that leads to itself`,
    ]);
  });

  test("an empty file", async () => {
    const path = join(folder, "flags.pb");
    await writeFile(path, "");
    await expect(problems(path)).resolves.toEqual([
      `${path}: it must hold a FileDescriptorSet, got an empty file`,
    ]);
  });

  test("a directory without .pb files", async () => {
    await expect(problems(folder)).resolves.toEqual([`${folder}: a directory must hold .pb files, got none`]);
  });

  test("a directory by the name of a file", async () => {
    await mkdir(join(folder, "x.pb"));
    const path = join(folder, "x.pb");
    await expect(problems(folder)).resolves.toEqual([`${path}: it must be a file, got something else`]);
  });

  test("a file too large to be read", async () => {
    const path = join(folder, "flags.pb");
    await writeFile(path, "");
    await truncate(path, 64 * 1024 * 1024 + 1);
    await expect(problems(path)).resolves.toEqual([
      `${path}: all files must have at most 67108864 bytes together, got more`,
    ]);
  });

  test("a device that never ends", async () => {
    await expect(problems("/dev/zero")).resolves.toEqual([
      "/dev/zero: it must be a file, got something else",
    ]);
  });

  test("a set that is broken", async () => {
    await writeFile(join(folder, "a.pb"), setOf("a"));
    await writeFile(join(folder, "b.pb"), "no set");
    await expect(problems(folder)).resolves.toEqual([
      expect.stringContaining(`${join(folder, "b.pb")}: it must be a usable FileDescriptorSet, got `),
    ]);
  });
});

test("loadDescriptors() says that it has no permission", async () => {
  const path = join(folder, "flags.pb");
  await writeFile(path, setOf("a"), { mode: 0o000 });
  await asOrdinaryUser(async () => {
    await expect(problems(path)).resolves.toEqual([`${path}: it must be readable, got no permission`]);
  });
});

/** Root may read everything. */
async function asOrdinaryUser(run: () => Promise<void>): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  try {
    await run();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

async function problems(path: string): Promise<readonly string[]> {
  const error: unknown = await loadDescriptors(path).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof DescriptorError) return error.problems;
  throw new Error("nothing was refused", { cause: error });
}
