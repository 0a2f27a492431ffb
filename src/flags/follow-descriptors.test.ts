import { describe, expect, onTestFinished, test } from "vitest";
import { describeFlags, type FlagSpec } from "../../test/support/descriptors.ts";
import { eventually } from "../../test/support/eventually.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { hashBytes } from "../system/hash-bytes.ts";
import { Latest } from "../system/latest.ts";
import { createFlagTable, type DescriptorSet, type FlagTable } from "./definition.ts";
import { type DescriptorFollower, openDescriptorFollower } from "./follow-descriptors.ts";
import type { FetchedSet } from "./followed-set.ts";
import { parseDescriptorSet } from "./load-descriptors.ts";
import type { ReloadResult } from "./take-table.ts";

const POLL_MS = 30_000;
/** Longer than any wait after a question that was answered, or was not, but shorter than a poll. */
const WHILE_MS = 10_000;

const on: FlagSpec = { number: 1, name: "on", type: "BOOL" };

/** An upstream, and a table that follows it. */
class Scene {
  readonly clock = new FakeClock();
  readonly table: Latest<FlagTable>;
  readonly follower: DescriptorFollower;
  /** Taken in turn, one for each question: the members of a pool. */
  sets: readonly DescriptorSet[];
  /** The upstream cannot be asked, and this is why. */
  trouble: string | undefined;
  /** What the upstream sends, where that is not what it should. */
  garble: (answer: FetchedSet) => FetchedSet = (answer) => answer;
  hangs = false;
  questions = 0;
  /** Questions that were answered with bytes. */
  deliveries = 0;
  readonly told: ReloadResult[] = [];
  readonly failures: string[] = [];
  readonly kept: DescriptorSet[] = [];
  chance = 0.5;

  constructor(sets: readonly DescriptorSet[], inForce: FlagTable, prepare: (scene: Scene) => void) {
    this.sets = sets;
    this.table = new Latest(inForce);
    prepare(this);
    this.follower = openDescriptorFollower({
      table: this.table,
      fetch: (knownHash, signal) => this.#answer(knownHash, signal),
      clock: this.clock,
      random: () => this.chance,
      pollMs: POLL_MS,
      onReload: (result) => this.told.push(result),
      onFetchFailed: (reason) => this.failures.push(reason),
      keep: (set) => this.kept.push(set),
    });
  }

  get ids(): readonly string[] {
    return this.table.value.flags.map(({ id }) => id);
  }

  get kinds(): readonly string[] {
    return this.told.map(({ kind }) => kind);
  }

  /** Until the follower waits for the clock or for a poke. */
  async idle(): Promise<void> {
    await eventually(() => this.clock.sleeperCount === 1);
  }

  /** In small steps: a question that is asked meanwhile is answered before time moves on. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 50) {
      await this.clock.advance(Math.min(50, ms - passed));
      await this.idle();
    }
  }

  async #answer(knownHash: string, signal: AbortSignal): Promise<FetchedSet> {
    this.questions += 1;
    if (this.hangs)
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    if (this.trouble !== undefined) throw new Error(this.trouble);
    const set = this.sets[this.questions % this.sets.length];
    if (set === undefined) throw new Error("there is none yet");
    const { hash, bytes } = set;
    if (hash !== knownHash) this.deliveries += 1;
    return this.garble({ hash, bytes: hash === knownHash ? undefined : bytes });
  }
}

/** A scene whose first question has been answered. */
async function setUp(
  sets: readonly DescriptorSet[],
  inForce: FlagTable = createFlagTable([], []),
  prepare: (scene: Scene) => void = () => {},
): Promise<Scene> {
  const scene = new Scene(sets, inForce, prepare);
  onTestFinished(() => scene.follower[Symbol.asyncDispose]());
  await scene.idle();
  return scene;
}

async function setOf(...flags: readonly FlagSpec[]): Promise<DescriptorSet> {
  return toSet(describeFlags([{ feature: "f", flags }]));
}

async function toSet(bytes: Uint8Array): Promise<DescriptorSet> {
  return { bytes, hash: await hashBytes(bytes) };
}

function many(count: number): Promise<DescriptorSet> {
  return setOf(...Array.from({ length: count }, (_, i) => ({ ...on, number: i + 1, name: `on_${i}` })));
}

async function tableOf(set: DescriptorSet): Promise<FlagTable> {
  return parseDescriptorSet("kept.pb", set);
}

describe("the first set", () => {
  test("is taken where nothing is in force, at once", async () => {
    const set = await setOf(on);
    const scene = await setUp([set]);
    expect(scene.ids).toEqual(["f/1"]);
    expect(scene.table.value.descriptorSet).toEqual(set);
    expect(scene.told).toMatchObject([{ kind: "replaced", comparison: { added: ["f/1"] } }]);
    expect(scene.follower.lastResult).toBe(scene.told[0]);
    expect(scene.kept).toEqual([set]);
  });

  test("is taken also if it has no flags: then it is known that there are none", async () => {
    const scene = await setUp([await toSet(describeFlags([]))]);
    expect(scene.kinds).toEqual(["replaced"]);
    expect(scene.table.value.descriptorSet).toBeDefined();
  });

  test.for<[what: string, sent: () => Promise<DescriptorSet>]>([
    ["lacks most flags", () => many(3)],
    ["lacks all flags", () => setOf()],
    ["changes a type", () => setOf({ ...on, type: "STRING" })],
  ])("that %s takes the place of one that was only kept", async ([, sent]) => {
    const scene = await setUp([await sent()], await tableOf(await many(20)));
    expect(scene.kinds).toEqual(["replaced"]);
  });

  test("is not sent if it was kept, and what was kept is in force from the beginning", async () => {
    const set = await many(20);
    const scene = await setUp([set], await tableOf(set));
    expect(scene.kinds).toEqual(["unchanged"]);
    expect(scene.deliveries).toBe(0);
    expect(scene.kept).toEqual([]);

    scene.sets = [await many(3)];
    scene.follower.poke();
    await scene.pass(WHILE_MS);
    expect(scene.kinds).toEqual(["unchanged", "held"]);
  });
});

describe("a set that changed", () => {
  test("is taken as soon as somebody says so", async () => {
    const scene = await setUp([await setOf(on)]);
    const next = await setOf(on, { ...on, number: 2, name: "more" });
    scene.sets = [next];
    await scene.pass(WHILE_MS);
    expect(scene.ids).toEqual(["f/1"]);
    scene.follower.poke(next.hash);
    await eventually(() => scene.ids.length === 2);
    expect(scene.kinds).toEqual(["replaced", "replaced"]);
    expect(scene.kept.map(({ hash }) => hash)).toContain(next.hash);
  });

  test("is taken by the next poll if nobody does", async () => {
    const scene = await setUp([await setOf(on)]);
    scene.sets = [await setOf(on, { ...on, number: 2, name: "more" })];
    await scene.pass(POLL_MS - 1);
    expect(scene.questions).toBe(1);
    await scene.pass(50);
    expect(scene.ids).toEqual(["f/1", "f/2"]);
  });

  test("is not told again, and not sent again, while it stays the same", async () => {
    const scene = await setUp([await setOf(on)]);
    await scene.pass(10 * POLL_MS);
    expect(scene.questions).toBe(11);
    expect(scene.deliveries).toBe(1);
    expect(scene.kinds).toEqual(["replaced"]);
  });

  test("in nothing but its bytes changes nothing", async () => {
    const scene = await setUp([await setOf(on)]);
    const before = scene.table.value;
    scene.sets = [await toSet(describeFlags([{ feature: "f", flags: [on] }], { fileName: "renamed.proto" }))];
    await scene.pass(3 * POLL_MS);
    expect(scene.table.value).toBe(before);
    expect(scene.kinds).toEqual(["replaced"]);
    expect(scene.deliveries).toBe(2);
  });
});

describe("a set that cannot be used changes nothing, is told once, and is not sent again:", () => {
  const cases: readonly (readonly [
    what: string,
    sent: () => Promise<DescriptorSet>,
    kind: string,
    reason: RegExp,
  ])[] = [
    ["no descriptors", () => toSet(Buffer.from("no set")), "rejected", /must be a usable FileDescriptorSet/],
    ["nothing", () => toSet(Buffer.alloc(0)), "rejected", /it must hold a FileDescriptorSet/],
    ["no flags", () => setOf(), "rejected", /upstream's descriptor set: it must define flags, got none/],
    ["another type", () => setOf({ ...on, type: "STRING" }), "rejected", /a flag must keep its type/],
    ["too few flags", () => many(9), "held", /at least half of the flags/],
  ];

  test.for(cases)("%s", async ([, sent, kind, reason]) => {
    const good = await many(20);
    const scene = await setUp([good]);
    const before = scene.table.value;
    const bad = await sent();
    scene.sets = [bad];
    scene.follower.poke(bad.hash);
    await scene.pass(3 * POLL_MS);
    expect(scene.told.slice(1)).toEqual([{ kind, reason: expect.stringMatching(reason) }]);
    expect(scene.follower.lastResult).toMatchObject({ kind });
    expect(scene.table.value).toBe(before);
    expect(scene.deliveries).toBe(2);
    expect(scene.kept).toEqual([good]);

    scene.sets = [good];
    await scene.pass(POLL_MS + 50);
    expect(scene.told.slice(2)).toEqual([{ kind: "unchanged" }]);
    expect(scene.table.value).toBe(before);
  });

  test("bytes that are not those of the hash, however good; but they are asked for again", async () => {
    const scene = await setUp([await setOf(on)]);
    const other = await setOf({ ...on, default: true });
    const next = await setOf(on, { ...on, number: 2, name: "more" });
    scene.sets = [next];
    scene.garble = ({ hash }) => ({ hash, bytes: other.bytes });
    await scene.pass(2 * POLL_MS + 50);
    expect(scene.told.slice(1)).toEqual([
      {
        kind: "rejected",
        reason: "the upstream's descriptor set: it must be what its hash says, got other bytes",
      },
    ]);
    expect(scene.deliveries).toBe(3);

    scene.garble = (answer) => answer;
    await scene.pass(POLL_MS);
    expect(scene.ids).toEqual(["f/1", "f/2"]);
  });

  test("a hash alone where the set is not known", async () => {
    const scene = await setUp([await setOf(on)], undefined, (begun) => {
      begun.garble = ({ hash }) => ({ hash, bytes: undefined });
    });
    expect(scene.told).toMatchObject([
      { kind: "rejected", reason: expect.stringContaining("got its hash alone") },
    ]);
    expect(scene.table.value.descriptorSet).toBeUndefined();
  });
});

describe("an upstream that cannot be asked", () => {
  test("is asked again after 0.1 s to 5 s, and is told of once for each reason", async () => {
    const scene = await setUp([await setOf(on)], undefined, (begun) => {
      begun.trouble = "it is down";
    });
    const askedAt = [0];
    for (let at = 50; at <= 20_000; at += 50) {
      const before = scene.questions;
      await scene.pass(50);
      if (scene.questions > before) askedAt.push(at);
    }
    const waits = askedAt.slice(1).map((at, i) => at - (askedAt[i] ?? 0));
    expect(waits).toEqual([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    expect(scene.failures).toEqual(["it is down"]);
    expect(scene.follower.fetchFailure).toBe("it is down");
    expect(scene.told).toEqual([]);
    expect(scene.follower.lastResult).toBeUndefined();

    scene.trouble = "it is a plain evaluator";
    await scene.pass(WHILE_MS);
    expect(scene.failures).toEqual(["it is down", "it is a plain evaluator"]);

    scene.trouble = undefined;
    scene.follower.poke();
    await eventually(() => scene.ids.length === 1);
    expect(scene.follower.fetchFailure).toBeUndefined();
  });

  test("leaves in force what is, and waits are spread", async () => {
    const scene = await setUp([await setOf(on)], undefined, (begun) => {
      begun.chance = 1;
    });
    const before = scene.table.value;
    scene.trouble = "it is down";
    await scene.pass(1.2 * POLL_MS - 50);
    expect(scene.questions).toBe(1);
    await scene.pass(50);
    expect(scene.questions).toBe(2);
    expect(scene.table.value).toBe(before);
    expect(scene.kinds).toEqual(["replaced"]);
  });

  test("is not asked more than 20 times a second, however often somebody pokes", async () => {
    const scene = await setUp([await setOf(on)]);
    for (let at = 0; at < 1_000; at += 10) {
      scene.follower.poke();
      await scene.clock.advance(10);
      await scene.idle();
    }
    expect(scene.questions).toBeGreaterThan(15);
    expect(scene.questions).toBeLessThanOrEqual(21);
  });
});

describe("a pool whose members have different sets", () => {
  test("gives the one that was announced last, and no going back and forth", async () => {
    const [old, next] = [await setOf(on), await setOf(on, { ...on, number: 2, name: "more" })];
    const scene = await setUp([old, old, old]);
    scene.sets = [old, old, next];
    scene.follower.poke(next.hash);
    await scene.pass(10 * POLL_MS);
    expect(scene.ids).toEqual(["f/1", "f/2"]);
    expect(scene.kinds).toEqual(["replaced", "replaced"]);
  });

  test("gives another one when the one that was announced is not to be had any more", async () => {
    const [old, next] = [await setOf(on), await setOf(on, { ...on, number: 2, name: "more" })];
    const scene = await setUp([next]);
    scene.follower.poke(next.hash);
    scene.sets = [old];
    await scene.pass(2 * POLL_MS);
    expect(scene.ids).toEqual(["f/1"]);
    expect(scene.kinds).toEqual(["replaced", "replaced"]);
  });

  test("gives what can be used where nothing is in force, although another was announced", async () => {
    const [good, bad] = [await setOf(on), await toSet(Buffer.from("no set"))];
    const scene = await setUp([bad]);
    scene.follower.poke(bad.hash);
    await scene.pass(WHILE_MS);
    expect(scene.kinds).toEqual(["rejected"]);
    scene.sets = [good];
    scene.follower.poke();
    await eventually(() => scene.ids.length === 1);
  });

  test("gives the one that was announced to whoever asks for a reload", async () => {
    const [old, next] = [await setOf(on), await setOf(on, { ...on, number: 2, name: "more" })];
    const scene = await setUp([old]);
    scene.sets = [next, old, old, old];
    scene.follower.poke(next.hash);
    for (let i = 0; i < 5; i += 1) {
      await scene.follower.reload();
      expect(scene.ids).toEqual(["f/1", "f/2"]);
    }
  });

  test("gives whatever comes first where nothing is in force", async () => {
    const [old, next] = [await setOf(on), await setOf(on, { ...on, number: 2, name: "more" })];
    const scene = await setUp([], undefined);
    scene.sets = [old];
    scene.follower.poke(next.hash);
    await scene.pass(100);
    expect(scene.ids).toEqual(["f/1"]);
    scene.sets = [next];
    await scene.pass(WHILE_MS);
    expect(scene.ids).toEqual(["f/1", "f/2"]);
  });
});

describe("reload()", () => {
  test("asks the upstream now, and tells what it always tells", async () => {
    const scene = await setUp([await setOf(on)]);
    expect(await scene.follower.reload()).toEqual({ kind: "unchanged" });
    scene.sets = [await setOf(on, { ...on, number: 2, name: "more" })];
    expect(await scene.follower.reload()).toMatchObject({ kind: "replaced" });
    expect(scene.kinds).toEqual(["replaced", "unchanged", "replaced"]);
  });

  test("takes what is held only if it is forced", async () => {
    const scene = await setUp([await many(20)]);
    scene.sets = [await many(9)];
    expect(await scene.follower.reload()).toMatchObject({ kind: "held" });
    expect(await scene.follower.reload()).toMatchObject({ kind: "held" });
    expect(scene.deliveries).toBe(2);
    expect(scene.ids).toHaveLength(20);
    expect(await scene.follower.reload({ force: true })).toMatchObject({ kind: "replaced" });
    expect(scene.ids).toHaveLength(9);
  });

  test("does not take what is refused, forced or not", async () => {
    const scene = await setUp([await setOf(on)]);
    scene.sets = [await setOf()];
    expect(await scene.follower.reload({ force: true })).toMatchObject({ kind: "rejected" });
    expect(await scene.follower.reload({ force: true })).toMatchObject({ kind: "rejected" });
    expect(scene.ids).toEqual(["f/1"]);
  });

  test("says why the upstream could not be asked; once it can, that is no more the last result", async () => {
    const scene = await setUp([await setOf(on)]);
    scene.trouble = "it is down";
    expect(await scene.follower.reload()).toEqual({
      kind: "rejected",
      reason: "the upstream's descriptor set: it must be possible to ask for it, got it is down",
    });
    expect(scene.follower.lastResult).toMatchObject({ kind: "rejected" });
    scene.trouble = undefined;
    await scene.pass(2 * POLL_MS);
    expect(scene.follower.lastResult).toEqual({ kind: "unchanged" });
    expect(scene.kinds).toEqual(["replaced", "rejected", "unchanged"]);
  });
});

test("closing it ends a question that hangs, and is no failure", async () => {
  const scene = new Scene([await setOf(on)], createFlagTable([], []), (begun) => {
    begun.hangs = true;
  });
  await eventually(() => scene.questions === 1);
  await scene.follower[Symbol.asyncDispose]();
  expect(scene.failures).toEqual([]);
  expect(scene.told).toEqual([]);
  expect(scene.clock.sleeperCount).toBe(0);
});
