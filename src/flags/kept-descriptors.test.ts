import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { describeFlags, manyFeatures } from "../../test/support/descriptors.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { asOrdinaryUser } from "../../test/support/ordinary-user.ts";
import { size } from "../../test/support/size.ts";
import { hashBytes } from "../system/hash-bytes.ts";
import type { DescriptorSet } from "./definition.ts";
import { loadKeptDescriptors, openDescriptorKeep } from "./kept-descriptors.ts";
import { loadDescriptors } from "./load-descriptors.ts";

let home: string;
let folder: string;
let path: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pbflagd-kept-"));
  folder = join(home, "state", "here");
  path = join(folder, "descriptors.pb");
});
afterEach(() => rm(home, { recursive: true, force: true }));

test("what was kept is loaded again, flag by flag and byte by byte", async () => {
  const set = await setOf(24);
  expect(await keep(set)).toEqual([]);
  const { table, problems } = await load();
  expect(problems).toEqual([]);
  expect(table?.flags.map(({ id }) => id)).toHaveLength(24);
  expect(table?.descriptorSet?.hash).toBe(set.hash);
  expect(Buffer.from(table?.descriptorSet?.bytes ?? []).equals(set.bytes)).toBe(true);
});

test("nobody else may read it, and nothing is left beside it", async () => {
  await keep(await setOf(3));
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect((await stat(folder)).mode & 0o777).toBe(0o700);
  expect(await readdir(folder)).toEqual(["descriptors.pb"]);
});

test("it can be used as a descriptor file, too", async () => {
  await keep(await setOf(3));
  expect((await loadDescriptors(path)).flags).toHaveLength(3);
});

test("where nothing was kept there is no table, and no problem", async () => {
  expect(await load()).toEqual({ table: undefined, problems: [] });
  await mkdir(folder, { recursive: true });
  expect(await load()).toEqual({ table: undefined, problems: [] });
});

test("of several sets at once the last one is kept, whole", async () => {
  const keeping = openKeep();
  for (const count of [1, 2, 3, 4, 5]) keeping.keep(await setOf(count));
  await keeping[Symbol.asyncDispose]();
  expect((await load()).table?.flags).toHaveLength(5);
});

test("two daemons with one folder leave the set of one of them, whole", async () => {
  for (let round = 0; round < 10; round += 1) {
    expect(await Promise.all([keep(await setOf(8)), keep(await setOf(16))])).toEqual([[], []]);
    const { table, problems } = await load();
    expect(problems).toEqual([]);
    expect([8, 16]).toContain(table?.flags.length);
  }
  expect(await readdir(folder)).toEqual(["descriptors.pb"]);
});

test("what a daemon left that died while it wrote is removed", async () => {
  await keep(await setOf(3));
  await writeFile(`${path}.unfinished-0123456789ab`, "half");
  await writeFile(join(folder, "descriptors.pb.mine"), "something else");
  expect((await load()).table?.flags).toHaveLength(3);
  expect(await readdir(folder)).toEqual(["descriptors.pb", "descriptors.pb.mine"]);
});

describe("is set aside, and said to be:", () => {
  const cases: readonly (readonly [
    what: string,
    content: () => Promise<Uint8Array | string>,
    reason: RegExp,
  ])[] = [
    ["a torn file", async () => (await kept(3)).subarray(0, -20), /bytes that do not fit their checksum/],
    ["an empty file", async () => "", /bytes that do not fit their checksum/],
    ["a descriptor file of somebody else", async () => (await setOf(3)).bytes, /do not fit their checksum/],
    ["a set that cannot be parsed", async () => sealed("no set"), /must be a usable FileDescriptorSet/],
    ["an empty set", async () => sealed(""), /must hold a FileDescriptorSet/],
  ];

  test.for(cases)("%s", async ([, content, reason]) => {
    await mkdir(folder, { recursive: true });
    const bytes = await content();
    await writeFile(path, bytes);
    const { table, problems } = await load();
    expect(table).toBeUndefined();
    expect(problems).toEqual([expect.stringMatching(reason)]);
    expect(problems[0]).toContain(`it is ${path}.unusable now`);
    expect(await readdir(folder)).toEqual(["descriptors.pb.unusable"]);
    expect((await readFile(`${path}.unusable`)).equals(Buffer.from(bytes))).toBe(true);
    expect(await load()).toEqual({ table: undefined, problems: [] });
  });

  test("a folder of that name, whatever was set aside before", async () => {
    await mkdir(path, { recursive: true });
    await writeFile(`${path}.unusable`, "before");
    const { table, problems } = await load();
    expect(table).toBeUndefined();
    expect(problems).toEqual([
      expect.stringMatching(/it must be a file, got something else; it could not be renamed/),
    ]);
  });
});

test("a folder that cannot be read stops nothing", async () => {
  await writeFile(join(home, "state"), "a file");
  const { table, problems } = await load();
  expect(table).toBeUndefined();
  expect(problems).toEqual([expect.stringMatching(/it must be readable, got ENOTDIR/)]);
});

test("a folder that cannot be written to is a problem, and the next set is tried all the same", async () => {
  await writeFile(join(home, "state"), "a file");
  const problems: string[] = [];
  const keeping = openKeep(problems);
  keeping.keep(await setOf(1));
  await keeping[Symbol.asyncDispose]();
  expect(problems).toEqual([
    expect.stringContaining(`Cannot keep the descriptor set in ${folder}: it must be writable, got `),
  ]);

  await rm(join(home, "state"));
  keeping.keep(await setOf(2));
  await keeping[Symbol.asyncDispose]();
  expect(problems).toHaveLength(1);
  expect((await load()).table?.flags).toHaveLength(2);
});

test("a set that cannot be written leaves the one before as it is, and nothing beside it", async () => {
  await keep(await setOf(3));
  await asOrdinaryUser([home, join(home, "state"), folder], async () => {
    expect(await keep(await setOf(4))).toHaveLength(1);
  });
  expect(await readdir(folder)).toEqual(["descriptors.pb"]);
  expect((await load()).table?.flags).toHaveLength(3);
});

test("a set that cannot be put in its place leaves nothing beside it", async () => {
  await mkdir(join(path, "something"), { recursive: true });
  expect(await keep(await setOf(3))).toHaveLength(1);
  expect(await readdir(folder)).toEqual(["descriptors.pb"]);
});

test("no damage to the file gives another table, or stops the start", async () => {
  const whole = await kept(12);
  await mkdir(folder, { recursive: true });
  const damage = fc.oneof(
    fc.record({ kind: fc.constant("cut" as const), at: fc.nat(whole.length - 1) }),
    fc.record({ kind: fc.constant("flip" as const), at: fc.nat(whole.length - 1), bit: fc.nat(7) }),
    fc.record({ kind: fc.constant("add" as const), bytes: fc.uint8Array({ minLength: 1, maxLength: 60 }) }),
    fc.record({ kind: fc.constant("zero" as const), at: fc.nat(whole.length - 1) }),
  );
  const wholeTable = { flags: 12, problems: 0 };
  let losses = 0;
  await fc.assert(
    fc.asyncProperty(damage, async (how) => {
      const damaged = apply(how, whole);
      const isLost = !damaged.equals(whole);
      losses += Number(isLost);
      await writeFile(path, damaged);
      const { table, problems } = await load();
      const found = { flags: table?.flags.length, problems: problems.length };
      expect(found).toEqual(isLost ? { flags: undefined, problems: 1 } : wholeTable);
    }),
    { numRuns: size(500, 20_000) },
  );
  expect(losses).toBeGreaterThan(0);
});

type Damage =
  | { readonly kind: "cut" | "zero"; readonly at: number }
  | { readonly kind: "flip"; readonly at: number; readonly bit: number }
  | { readonly kind: "add"; readonly bytes: Uint8Array };

function apply(how: Damage, whole: Buffer): Buffer {
  const damaged = Buffer.from(whole);
  switch (how.kind) {
    case "cut":
      return damaged.subarray(0, how.at);
    case "flip":
      damaged[how.at] = (damaged[how.at] ?? 0) ^ (1 << how.bit);
      return damaged;
    case "zero":
      // A file system that knew the length, and not the content, when the power went.
      return damaged.fill(0, how.at);
    case "add":
      return Buffer.concat([damaged, how.bytes]);
  }
  return how satisfies never;
}

async function setOf(flags: number): Promise<DescriptorSet> {
  return toSet(describeFlags(manyFeatures(flags, 8)));
}

async function toSet(bytes: Uint8Array): Promise<DescriptorSet> {
  return { bytes, hash: await hashBytes(bytes) };
}

/** Resolves with the problems there were. */
async function keep(set: DescriptorSet): Promise<readonly string[]> {
  const problems: string[] = [];
  await using keeping = openKeep(problems);
  keeping.keep(set);
  await keeping[Symbol.asyncDispose]();
  return problems;
}

function openKeep(problems: string[] = []) {
  return openDescriptorKeep({
    folder,
    clock: new FakeClock(),
    onProblem: (problem) => problems.push(problem),
  });
}

/** The file that is written for a set of so many flags; it is gone again. */
async function kept(flags: number): Promise<Buffer> {
  return written(await setOf(flags));
}

/** The same for bytes that need not be a set. */
async function sealed(text: string): Promise<Buffer> {
  return written(await toSet(Buffer.from(text)));
}

async function written(set: DescriptorSet): Promise<Buffer> {
  await keep(set);
  const content = await readFile(path);
  await rm(path);
  return content;
}

async function load() {
  const problems: string[] = [];
  const table = await loadKeptDescriptors(folder, (problem) => problems.push(problem));
  return { table, problems };
}
