import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { snapshotOf } from "../../../test/support/snapshots.ts";
import type { Version } from "../../evaluation/version.ts";
import { writeKeptFile } from "../../system/kept-file.ts";
import { encodeSnapshot } from "./encode-snapshot.ts";
import { loadSnapshot, snapshotPath } from "./load-snapshot.ts";
import type { SnapshotContent } from "./snapshot-content.ts";
import { openSnapshotLock } from "./snapshot-lock.ts";

let home: string;
let folder: string;
let path: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pbflagd-snapshot-"));
  folder = join(home, "state");
  path = snapshotPath(folder);
});
afterEach(() => rm(home, { recursive: true, force: true }));

test("what was written is loaded again", async () => {
  const content = snapshotOf(3);
  await writeKeptFile(path, encodeSnapshot(content));
  expect(await load()).toEqual({ content, problems: [] });
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder)).toEqual(["snapshot"]);
});

test("whether it is of the same store its version will tell, whatever that is called", async () => {
  const content = ofOtherStore({ epoch: "epoch-1", revision: 3 });
  await writeKeptFile(path, encodeSnapshot(content));
  expect(await load()).toEqual({ content, problems: [] });
});

test("where there is none, or no folder, that is no problem", async () => {
  expect(await load()).toEqual({ content: undefined, problems: [] });
  await mkdir(folder);
  expect(await load()).toEqual({ content: undefined, problems: [] });
});

describe("is set aside, and said to be:", () => {
  const cases: readonly (readonly [what: string, write: () => Promise<unknown>, reason: RegExp])[] = [
    ["an empty file", () => writeFile(path, ""), /bytes that do not fit their checksum/],
    ["a file of somebody else", () => writeFile(path, "notes"), /bytes that do not fit their checksum/],
    [
      "a later format",
      () => writeKeptFile(path, [Buffer.from([8, 2])]),
      /it must be of format 1, got 2, as a later pbflagd writes it/,
    ],
    [
      "what was learnt of another store that has no versions",
      () => writeKeptFile(path, encodeSnapshot(ofOtherStore(undefined))),
      /it must be of this store and these descriptors, got one of others/,
    ],
    ["another sealed message", () => writeKeptFile(path, [Buffer.from([10, 1, 65])]), /it must be /],
    [
      "one that is too large",
      () => sparse(65 * 1024 * 1024),
      /it must have at most 671\d+ bytes, got 681\d+/,
    ],
  ];

  test.for(cases)("%s", async ([, write, reason]) => {
    await mkdir(folder);
    await write();
    const { content, problems } = await load();
    expect(content).toBeUndefined();
    expect(problems).toEqual([expect.stringMatching(reason)]);
    expect(problems[0]).toContain(`Cannot use ${path}: `);
    expect(problems[0]).toContain(`it is ${path}.unusable now`);
    expect(await readdir(folder)).toEqual(["snapshot.unusable"]);
    expect(await load(), "only once").toEqual({ content: undefined, problems: [] });
  });

  test("a folder of that name", async () => {
    await mkdir(join(path, "something"), { recursive: true });
    const { problems } = await load();
    expect(problems).toEqual([expect.stringMatching(/it must be a file, got something else; it is /)]);
  });

  test("a pipe, without waiting for anybody to write to it", async () => {
    await mkdir(folder);
    await promisify(execFile)("mkfifo", [path]);
    const { problems } = await load();
    expect(problems).toEqual([expect.stringMatching(/it must be a file, got something else; it is /)]);
  });
});

test("a folder that cannot be read stops nothing", async () => {
  await writeFile(folder, "a file");
  const { content, problems } = await load();
  expect(content).toBeUndefined();
  expect(problems).toEqual([expect.stringMatching(/it must be readable, got ENOTDIR/)]);
});

test("what a daemon left that died while it wrote is removed", async () => {
  await writeKeptFile(path, encodeSnapshot(snapshotOf(3)));
  await writeFile(`${path}.unfinished-0123456789ab`, "half");
  expect((await load()).content).toEqual(snapshotOf(3));
  expect(await readdir(folder)).toEqual(["snapshot"]);
});

test("while a daemon that runs keeps its own there, it is not touched", async () => {
  await writeKeptFile(path, encodeSnapshot(snapshotOf(3)));
  const before = await readFile(path);
  await using lock = openSnapshotLock(folder);
  await lock.hold();
  expect(await load()).toEqual({
    content: undefined,
    problems: [
      `Cannot use ${path}: it must be of one daemon only, got another daemon, process ${process.pid}`,
    ],
  });
  expect((await readFile(path)).equals(before)).toBe(true);
});

async function load() {
  const problems: string[] = [];
  const content = await loadSnapshot(folder, { store: "", onProblem: (problem) => problems.push(problem) });
  return { content, problems };
}

function ofOtherStore(version: Version | undefined): SnapshotContent {
  const content = snapshotOf(3);
  return { ...content, store: "another", kills: { ...content.kills, version } };
}

/** A file of so many zeros that takes no room on the disk. */
async function sparse(bytes: number): Promise<void> {
  await promisify(execFile)("truncate", ["-s", String(bytes), path]);
}
