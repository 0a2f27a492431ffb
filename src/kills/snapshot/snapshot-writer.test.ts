import { execFile } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { access, copyFile, mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock, settle } from "../../../test/support/fake-clock.ts";
import { asOrdinaryUser } from "../../../test/support/ordinary-user.ts";
import { judgePause, measurePauses, measureShortest, PAUSES } from "../../../test/support/pauses.ts";
import { snapshotOf } from "../../../test/support/snapshots.ts";
import { loadSnapshot } from "./load-snapshot.ts";
import type { SnapshotContent } from "./snapshot-content.ts";
import { openSnapshotWriter, type SnapshotWriter } from "./snapshot-writer.ts";

let home: string;
let folder: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pbflagd-writer-"));
  folder = join(home, "state");
});
afterEach(() => rm(home, { recursive: true, force: true }));

test("a change is written a second later, and what changes meanwhile with it", async () => {
  await using scene = await openScene();
  scene.know(1);
  scene.writer.changed();
  await scene.clock.advance(500);
  scene.know(2);
  scene.writer.changed();
  await scene.clock.advance(499);
  expect(scene.reads).toBe(0);
  await scene.clock.advance(1);
  await scene.written(1);
  expect(await scene.load()).toEqual(snapshotOf(2));

  await scene.clock.advance(100_000);
  expect(scene.reads, "nothing changed").toBe(1);
  scene.know(3);
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await scene.written(2);
  expect(await scene.load()).toEqual(snapshotOf(3));
  expect(scene.problems).toEqual([]);
});

test("what has only become younger is written within a minute, or with the next change", async () => {
  await using scene = await openScene();
  scene.know(1);
  scene.writer.refreshed();
  await scene.clock.advance(30_000);
  scene.writer.refreshed();
  await scene.clock.advance(29_999);
  expect(scene.reads).toBe(0);
  await scene.clock.advance(1);
  await scene.written(1);

  scene.writer.refreshed();
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await scene.written(2);
  await scene.clock.advance(60_000);
  expect(scene.reads).toBe(2);
});

test("changes while it is written are written after it, and never two at a time", async () => {
  await using scene = await openScene();
  scene.know(1);
  scene.writer.changed();
  await scene.clock.advance(1_000);
  for (let revision = 2; revision < 50; revision++) {
    scene.know(revision);
    scene.writer.changed();
    await scene.clock.advance(1_000);
  }
  await eventually(async () => {
    // It rests the longer, the longer the clock says that it took.
    await scene.clock.advance(100_000);
    return scene.writing === 0 && scene.lastRead === 49;
  });
  expect(scene.writingMax).toBe(1);
  expect(await scene.load()).toEqual(snapshotOf(49));
});

test("a disk that is slow is given a rest of twenty times as long", async () => {
  await using scene = await openScene();
  scene.know(1);
  // As if writing had taken this long.
  scene.duringRead = () => void scene.clock.advance(500);
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await scene.written(1);
  scene.duringRead = () => {};
  scene.writer.changed();
  await scene.clock.advance(9_999);
  await settle();
  expect(scene.reads).toBe(1);
  await scene.clock.advance(1);
  await scene.written(2);
});

test("it is written a last time when all ends, and the lock is let go", async () => {
  const scene = await openScene();
  scene.know(1);
  await scene[Symbol.asyncDispose]();
  expect(await scene.load()).toEqual(snapshotOf(1));
  expect(await readdir(folder)).toEqual(["snapshot"]);
  expect(scene.clock.sleeperCount).toBe(0);
});

test("where nothing is known there is nothing to write", async () => {
  const scene = await openScene();
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await eventually(() => scene.reads === 1);
  await scene[Symbol.asyncDispose]();
  expect(await readdir(folder)).toEqual([]);
  expect(scene.problems).toEqual([]);
});

test("a second daemon on one folder says so at once and keeps none, until the first has ended", async () => {
  const first = await openScene();
  await using second = await openScene();
  await eventually(() => second.problems.length > 0);
  const problem = `Cannot keep a snapshot in ${folder}: it must be of one daemon only, got another daemon, process ${process.pid}; this one keeps none`;
  expect(second.problems).toEqual([problem]);
  expect([first.writer.problem, second.writer.problem]).toEqual([undefined, problem]);
  first.know(1);
  second.know(2);
  second.writer.changed();
  await second.clock.advance(1_000);
  await settle();
  expect(second.writer.problem).toBe(problem);
  await first[Symbol.asyncDispose]();
  expect(await second.load()).toEqual(snapshotOf(1));

  second.writer.changed();
  await second.clock.advance(1_000);
  await second.written(1);
  expect(await second.load()).toEqual(snapshotOf(2));
  expect(second.problems, "said once").toHaveLength(1);
  await eventually(() => second.writer.problem === undefined);
});

test("once the first of two daemons has ended the second takes over within ten seconds, without any change", async () => {
  const first = await openScene();
  await using second = await openScene();
  second.know(2);
  await eventually(() => second.problems.length > 0);
  first.know(1);
  await second.clock.advance(60_000);
  await settle();
  await first[Symbol.asyncDispose]();
  // A look at the folder may be under way still.
  await eventually(async () => {
    await second.clock.advance(10_000);
    return second.reads > 0;
  });
  await second.written(1);
  expect(await second.load()).toEqual(snapshotOf(2));
  expect(second.problems).toHaveLength(1);
});

test("a folder that cannot be made is a problem, at the start too, and tried again at the next change or a minute later", async () => {
  await writeFile(folder, "a file");
  await using scene = await openScene();
  await eventually(() => scene.problems.length === 1);
  scene.know(1);
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await eventually(() => scene.problems.length === 2);
  expect(scene.problems[1]).toMatch(/^Cannot keep a snapshot in .*\/state: it must be writable, got /);
  expect(scene.writer.problem).toBe(scene.problems[1]);
  await scene.clock.advance(59_999);
  await settle();
  expect(scene.problems, "not tried without a change").toHaveLength(2);

  await rm(folder);
  await scene.clock.advance(1);
  await scene.written(1);
  expect(await scene.load()).toEqual(snapshotOf(1));
  await eventually(() => scene.writer.problem === undefined);
});

test("a folder that cannot be written to any more leaves the last snapshot as it is", async () => {
  await using scene = await openScene();
  scene.know(1);
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await scene.written(1);
  const before = await readFile(join(folder, "snapshot"));
  await asOrdinaryUser([home, folder], async () => {
    scene.know(2);
    scene.writer.changed();
    await scene.clock.advance(1_000);
    await eventually(() => scene.problems.length === 1);
  });
  expect(scene.problems[0]).toMatch(/it must be writable, got EACCES/);
  expect((await readFile(join(folder, "snapshot"))).equals(before)).toBe(true);
  expect(await readdir(folder)).toEqual(["snapshot", "snapshot.lock"]);
});

test("what is too large even without entities is a problem, and the last snapshot stays", async () => {
  await using scene = await openScene();
  scene.know(1);
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await scene.written(1);
  const content = snapshotOf(2);
  const flagIds = Array.from({ length: 70 }, (_, i) => `${i}`.repeat(600_000));
  scene.content = { ...content, kills: { ...content.kills, flagIds } };
  scene.writer.changed();
  await scene.clock.advance(1_000);
  await eventually(() => scene.problems.length === 1);
  expect(scene.problems[0]).toMatch(/got more than 67108864 bytes without any entity$/);
  expect(await scene.load()).toEqual(snapshotOf(1));
  scene.know(3);
});

test("a disk that hangs does not hold up the end", async () => {
  const scene = await openScene();
  scene.know(1);
  const pipe = join(home, "pipe");
  await promisify(execFile)("mkfifo", [pipe]);
  // Opening it waits for somebody to write, and holds a thread of those that look after files.
  const threads = Number(process.env["UV_THREADPOOL_SIZE"] ?? 4);
  const opening = Array.from({ length: threads }, async () => (await open(pipe, "r")).close());
  const ending = scene[Symbol.asyncDispose]();
  await scene.clock.advance(1_999);
  const ended = vi.fn<() => void>();
  const end = ending.then(ended);
  await settle();
  expect(ended).not.toHaveBeenCalled();
  await scene.clock.advance(1);
  await end;
  expect(scene.reads).toBe(0);

  const writer = openSync(pipe, "r+");
  await Promise.all(opening);
  closeSync(writer);
  await eventually(() => scene.reads === 1 && scene.writing === 0);
});

test("10,000 entities are written, and hold nothing up", PAUSES, async () => {
  await using scene = await openScene();
  scene.content = snapshotOf(1, { flags: 5_000, entities: 10_000 });
  let count = 0;
  const { pauseMs } = await measureShortest(() =>
    measurePauses(async () => {
      scene.writer.changed();
      await scene.clock.advance(1_000);
      count += 1;
      await scene.written(count);
    }),
  );
  expect((await scene.load())?.entities).toHaveLength(10_000);
  judgePause("writing a snapshot of 10000 entities", pauseMs);
});

interface Scene extends AsyncDisposable {
  readonly writer: SnapshotWriter;
  readonly clock: FakeClock;
  readonly problems: readonly string[];
  content: SnapshotContent | undefined;
  /** Runs whenever the writer asks what is known. */
  duringRead: () => void;
  readonly reads: number;
  /** Which revision was written last. */
  readonly lastRead: number | undefined;
  /** Writings under way, and the most there ever were at a time. */
  readonly writing: number;
  readonly writingMax: number;
  know(revision: number): void;
  /** Resolves once so many have been written. */
  written(count: number): Promise<void>;
  /** What a start would find, but for the lock. */
  load(): Promise<SnapshotContent | undefined>;
}

async function openScene(): Promise<Scene> {
  const clock = new FakeClock();
  const problems: string[] = [];
  let writes = 0;
  let ended = 0;
  const scene = {
    clock,
    problems,
    content: undefined as SnapshotContent | undefined,
    duringRead: () => {},
    reads: 0,
    get writing() {
      return this.reads - ended;
    },
    writingMax: 0,
    lastRead: undefined as number | undefined,
    know(revision: number) {
      this.content = snapshotOf(revision);
    },
    written: (count: number) => eventually(() => writes === count, { what: `${count} writings` }),
    load: loadUnlocked,
  };
  const writer = openSnapshotWriter({
    folder,
    read() {
      scene.reads += 1;
      scene.writingMax = Math.max(scene.writingMax, scene.writing);
      scene.lastRead = scene.content?.kills.version?.revision;
      scene.duringRead();
      return scene.content;
    },
    clock,
    onWritten({ bytes, durationMs }) {
      expect(bytes).toBeGreaterThan(0);
      expect(durationMs).toBeGreaterThanOrEqual(0);
      writes += 1;
      ended += 1;
    },
    onProblem(problem) {
      problems.push(problem);
      if (scene.reads > ended) ended += 1;
    },
  });
  // It has tried for the lock.
  await eventually(async () => problems.length > 0 || (await exists(join(folder, "snapshot.lock"))));
  return Object.assign(scene, { writer, [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose]() });
}

/** What a start would find if the writer that runs had ended just now. */
async function loadUnlocked(): Promise<SnapshotContent | undefined> {
  const copy = await mkdtemp(join(home, "copy-"));
  await copyFile(join(folder, "snapshot"), join(copy, "snapshot"));
  return loadSnapshot(copy, {
    store: "",
    onProblem(problem) {
      throw new Error(problem);
    },
  });
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
