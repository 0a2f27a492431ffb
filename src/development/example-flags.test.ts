import { cp, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { loadDescriptors } from "../flags/load-descriptors.ts";
import { buildExampleFlags, ExampleFlagsError, exampleProtosDir } from "./example-flags.ts";

const searchPath = process.env["PATH"] ?? "";
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-examples-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
});

test("the examples show every type, two layers, and flags with and without a default", async () => {
  const path = await buildExampleFlags({ intoDir: join(folder, "made"), searchPath });
  const { features, flags } = await loadDescriptors(path);
  expect(features.length).toBeGreaterThanOrEqual(3);
  expect([...new Set(flags.map(({ type }) => type))].toSorted()).toEqual([
    "BOOL",
    "BOOL_LIST",
    "DOUBLE",
    "DOUBLE_LIST",
    "INT64",
    "INT64_LIST",
    "STRING",
    "STRING_LIST",
  ]);
  expect(
    new Set(flags.map(({ layer }) => layer).filter((layer) => !["", "global"].includes(layer))).size,
  ).toBe(2);
  expect(flags.some(({ defaultValue }) => defaultValue === undefined)).toBe(true);
  expect(flags.some(({ defaultValue }) => defaultValue !== undefined)).toBe(true);
});

test("builds without a home, and leaves nothing beside the set", async () => {
  const path = await buildExampleFlags({ intoDir: folder, searchPath });
  expect(path).toBe(join(folder, "example-flags.pb"));
  expect(await readdir(folder)).toEqual(["example-flags.pb"]);
});

test("does not touch a set that has not changed", async () => {
  const path = await buildExampleFlags({ intoDir: folder, searchPath });
  const before = await stat(path);
  await buildExampleFlags({ intoDir: folder, searchPath });
  expect((await stat(path)).ino).toBe(before.ino);
  expect((await stat(path)).mtimeMs).toBe(before.mtimeMs);
});

test("protos that are wrong are refused in one line, and the last set stays", async () => {
  const packageDir = join(folder, "package");
  await copyExamples(packageDir);
  const path = await buildExampleFlags({ intoDir: folder, searchPath, packageDir });
  const before = await loadDescriptors(path);

  await writeFile(join(exampleProtosDir(packageDir), "broken.proto"), "message {\n}\nenum {\n");
  const failure = await buildExampleFlags({ intoDir: folder, searchPath, packageDir }).catch(
    (error: unknown) => error,
  );
  expect(failure).toBeInstanceOf(ExampleFlagsError);
  expect(String(failure)).toMatch(/Cannot build the example flags: .*broken\.proto:1:1/);
  expect(String(failure)).not.toContain("\n");
  expect((await loadDescriptors(path)).flags).toEqual(before.flags);
  expect((await readdir(folder)).toSorted()).toEqual(["example-flags.pb", "package"]);
});

test("a folder that cannot be written to is named", async () => {
  const notAFolder = join(folder, "file");
  await writeFile(notAFolder, "");
  await expect(buildExampleFlags({ intoDir: notAFolder, searchPath })).rejects.toThrow(
    /^Cannot build the example flags: .*file/,
  );
});

async function copyExamples(packageDir: string): Promise<void> {
  for (const part of ["examples", "proto", "buf.yaml"]) {
    await cp(new URL(`../../${part}`, import.meta.url).pathname, join(packageDir, part), { recursive: true });
  }
}
