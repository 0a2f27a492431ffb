import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, expect, inject, test } from "vitest";
import { encodeSnapshot } from "../../src/kills/snapshot/encode-snapshot.ts";
import { loadSnapshot, snapshotPath } from "../../src/kills/snapshot/load-snapshot.ts";
import { writeKeptFile } from "../../src/system/kept-file.ts";
import { bundleScript, linkPackages } from "../support/bundle.ts";
import { eventually } from "../support/eventually.ts";
import { limitFiles } from "../support/limit-files.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { size } from "../support/size.ts";
import type { KeeperOrders, KeeperWord } from "../support/snapshot-keeper.ts";
import { snapshotOf } from "../support/snapshots.ts";

// Fault 5: whatever happened to the snapshot, a start finds the last complete knowledge, or none.

const ROUNDS = size(20, 200);
const CUTS = 64;
const FLIPS = 1_000;
/** Writing so many takes long enough to be killed in the middle. */
const ENTITIES = 1_000;

let home: string;
let script: string;
let folder: string;
let path: string;

beforeAll(async () => {
  home = await mkdtemp(join(inject("runFolder"), "snapshot-"));
  await linkPackages(home);
  script = await bundleScript(
    new URL("../support/snapshot-keeper.ts", import.meta.url),
    join(home, "keeper"),
  );
});
afterAll(() => rm(home, { recursive: true, force: true }));
beforeEach(async () => {
  folder = await mkdtemp(join(home, "state-"));
  path = snapshotPath(folder);
});

test(`a writer that is killed in ${ROUNDS} rounds leaves what it wrote last, whole`, async () => {
  let acknowledged = 0;
  let interrupted = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    await using keeper = new Keeper(script, { folder, entities: [ENTITIES, 10], from: acknowledged + 1 });
    const enough = randomInt(0, 4);
    await eventually(() => keeper.words.length > enough);
    const killAt = performance.now() + randomInt(0, 30);
    await eventually(() => performance.now() > killAt);
    await keeper.kill();
    expect(keeper.words.filter(({ kind }) => kind === "problem")).toEqual([]);
    const from = acknowledged + 1;
    acknowledged = Math.max(acknowledged, ...keeper.words.map(({ revision }) => revision));
    interrupted += Number((await readdir(folder)).some((name) => name.includes(".unfinished-")));

    const { content, problems } = await load();
    expect(problems).toEqual([]);
    const revision = content?.kills.version?.revision ?? 0;
    // It may have died between writing and saying so.
    expect([acknowledged, acknowledged + 1]).toContain(revision);
    const entities = (revision - from) % 2 === 0 ? ENTITIES : 10;
    expect(content).toEqual(snapshotOf(revision, { entities }));
    expect(await readdir(folder), "what it had begun is gone").toEqual(["snapshot", "snapshot.lock"]);
    acknowledged = revision;
  }
  expect(interrupted, "rounds in which it was killed while it wrote").toBeGreaterThan(0);
}, 600_000);

test(`cut at any of ${CUTS} places, it is set aside`, async () => {
  const whole = await writeOne();
  for (let i = 0; i < CUTS; i++) {
    const cut = Math.floor((whole.length * i) / CUTS);
    await writeFile(path, whole.subarray(0, cut));
    expect(await whatIsLeft(), `cut after ${cut} of ${whole.length} bytes`).toEqual(SET_ASIDE);
  }
  await writeFile(path, whole);
  expect(await load()).toEqual({ content: snapshotOf(1), problems: [] });
});

test(`with any of ${FLIPS} bits flipped, it is set aside`, async () => {
  const whole = await writeOne();
  const random = seededRandom(1);
  for (let i = 0; i < FLIPS; i++) {
    const flipped = Buffer.from(whole);
    const at = Math.floor(random() * whole.length);
    const bit = Math.floor(random() * 8);
    flipped[at] = (flipped[at] ?? 0) ^ (1 << bit);
    await writeFile(path, flipped);
    expect(await whatIsLeft(), `bit ${bit} of byte ${at}`).toEqual(SET_ASIDE);
  }
});

test("after a disk that was full, the last complete snapshot is there, and the next is written", async () => {
  // A limit on the size of files stands for the disk: what is longer is refused in the middle.
  await using keeper = new Keeper(
    script,
    { folder, entities: [10, 5_000, 20], from: 1, tries: 3 },
    { fileKilobytesMax: 256 },
  );
  expect(await keeper.ended()).toBe(0);
  expect(keeper.words.slice(0, 3)).toEqual([
    { kind: "written", revision: 1 },
    {
      kind: "problem",
      revision: 2,
      problem: expect.stringMatching(/^Cannot keep a snapshot in .*: it must be writable, got EFBIG/),
    },
    { kind: "written", revision: 3 },
  ]);
  expect(await readdir(folder)).toEqual(["snapshot"]);
  expect(await load()).toEqual({ content: snapshotOf(3, { entities: 20 }), problems: [] });

  await using second = new Keeper(
    script,
    { folder, entities: [5_000], from: 4, tries: 1 },
    { fileKilobytesMax: 256 },
  );
  expect(await second.ended()).toBe(0);
  expect(await load()).toEqual({ content: snapshotOf(3, { entities: 20 }), problems: [] });
});

async function writeOne(): Promise<Buffer> {
  await writeKeptFile(path, encodeSnapshot(snapshotOf(1)));
  return readFile(path);
}

const SET_ASIDE = { content: undefined, problems: 1, files: ["snapshot.unusable"] };

/** After a start. */
async function whatIsLeft() {
  const { content, problems } = await load();
  return { content, problems: problems.length, files: await readdir(folder) };
}

async function load() {
  const problems: string[] = [];
  const content = await loadSnapshot(folder, { store: "", onProblem: (problem) => problems.push(problem) });
  return { content, problems };
}

/** A running snapshot-keeper.ts, and what it has said so far. */
class Keeper implements AsyncDisposable {
  readonly words: KeeperWord[] = [];
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #ended: Promise<unknown>;

  constructor(
    script: string,
    orders: KeeperOrders,
    { fileKilobytesMax }: { readonly fileKilobytesMax?: number } = {},
  ) {
    const node = [process.execPath, script, JSON.stringify(orders)];
    const [program = "", ...args] =
      fileKilobytesMax === undefined ? node : limitFiles(fileKilobytesMax, node);
    this.#child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
    const lines = createInterface(this.#child.stdout);
    lines.on("line", (line) => this.words.push(JSON.parse(line) as KeeperWord));
    this.#ended = Promise.all([once(this.#child, "close"), once(lines, "close")]);
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  /** Its exit code. */
  async ended(): Promise<number | null> {
    await this.#ended;
    return this.#child.exitCode;
  }

  /** Kills it, if the test has not ended it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
