import { beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { judgePause, measurePauses, measureShortest, PAUSES } from "../../test/support/pauses.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import type { Changes } from "../store/flag-store.ts";
import { Latest } from "../system/latest.ts";
import { Knowledge, type KnowledgeEvents, type RememberedKnowledge } from "./knowledge.ts";

const TTL = 300_000;
const FLAG_IDS = ["digest/1", "digest/2", "digest/3"] as const;
const table = tableOf(...FLAG_IDS.map((id) => defineFlag(id)));
const weekly = flagValue("weekly");
const hourly = flagValue("hourly");

describe("after a restart, while the store is away,", () => {
  test("kills are in force and everything that was known is answered, as what could not be refreshed", async () => {
    const { restarted } = await restart(await openFilled());
    restarted.store.away = true;
    expect([...(restarted.knowledge.killSet.value?.flagIds ?? [])]).toEqual(["digest/2"]);
    const { states } = restarted.knowledge;
    expect(states.flagState("digest/1")).toEqual({ kind: "cached", value: stateOf("digest/1") });
    expect(states.flagState("digest/3"), "absent, and known to be").toEqual({
      kind: "cached",
      value: undefined,
    });
    expect(states.overrides("user-1")).toEqual({
      kind: "cached",
      value: new Map([["digest/1", overrideOf("digest/1", "user-1")]]),
    });
    expect(states.overrides("user-2")).toEqual({ kind: "cached", value: undefined });
    expect(states.knowsFlags(FLAG_IDS)).toBe(true);
    await settle();
    expect(states.flagState("digest/1")).toMatchObject({ kind: "cached" });
  });

  test("what is older than two times to live is waited for, and answered all the same", async () => {
    const { restarted } = await restart(await openFilled(), { awayMs: 2 * TTL });
    restarted.store.away = true;
    const later = restarted.knowledge.states.flagState("digest/1");
    expect(later).toBeInstanceOf(Promise);
    expect(await later).toEqual({ kind: "cached", value: stateOf("digest/1") });
  });

  test("its age goes on, and a wall clock that was set back makes it no younger than now", async () => {
    const filled = await openFilled();
    await filled.clock.advance(1_000);
    const { restarted } = await restart(filled, { awayMs: 7_000 });
    expect(restarted.knowledge.killSet.value?.readAt).toBe(-8_000);
    expect(restarted.knowledge.states.oldestReadAt(FLAG_IDS)).toBe(-8_000);

    const { restarted: back } = await restart(filled, { awayMs: -3_600_000 });
    expect(back.knowledge.killSet.value?.readAt).toBe(0);
    expect(back.knowledge.states.oldestReadAt(FLAG_IDS)).toBe(0);
  });

  test("what is remembered again is the same", async () => {
    const { restarted, remembered } = await restart(await openFilled());
    const again = restarted.knowledge.remember();
    expect(again?.flags.toSorted((a, b) => (a.id < b.id ? -1 : 1))).toEqual(remembered.flags);
    expect({ ...again, flags: [] }).toEqual({ ...remembered, flags: [] });
  });
});

describe("after a restart, once the store is heard,", () => {
  test("what it says takes the place of what was restored, at the same version too", async () => {
    const { restarted } = await restart(await openFilled());
    await restarted.poll();
    const { states } = restarted.knowledge;
    await states.loadFlags(FLAG_IDS);
    expect(states.flagState("digest/1")).toEqual({ kind: "fresh", value: stateOf("digest/1") });

    restarted.store.set(stateOf("digest/1", { value: hourly }));
    restarted.store.set(stateOf("digest/2"));
    await restarted.poll();
    await settle();
    expect(restarted.knowledge.killSet.value?.flagIds.size).toBe(0);
    expect(states.flagState("digest/1")).toMatchObject({ kind: "fresh", value: { value: hourly } });
  });

  test("the first poll names what changed while it was away, and only that is asked for", async () => {
    const filled = await openFilled();
    filled.store.set(stateOf("digest/1", { value: hourly }));
    const { restarted } = await restart(filled, { remember: filled.remembered });
    const { knowledge, store } = restarted;
    const before = store.calls.length;
    await restarted.poll();
    await settle();
    expect(store.calls.slice(before)).toEqual([
      { operation: "kills", keys: [] },
      { operation: "flagStates", keys: ["digest/1"] },
    ]);
    expect(knowledge.states.flagState("digest/1")).toMatchObject({ kind: "fresh", value: { value: hourly } });
    const since = filled.remembered.kills.version;
    expect(knowledge.changes.since(since), "and others can be told").toEqual({
      kind: "listed",
      flagIds: ["digest/1"],
      entityIds: [],
    });
  });

  test("a store that lags behind takes nothing back until it has caught up", async () => {
    const { restarted } = await restart(await openFilled());
    const { knowledge, store } = restarted;
    store.plan = () => ({ commitsBehind: 3 });
    await restarted.poll();
    await knowledge.states.loadFlags(FLAG_IDS);
    await knowledge.states.currentOverrides(["user-1"]);
    expect([...(knowledge.killSet.value?.flagIds ?? [])]).toEqual(["digest/2"]);
    expect(await knowledge.states.flagState("digest/2")).toMatchObject({ value: { mode: "killed" } });
    expect(await knowledge.states.overrides("user-1")).toMatchObject({ value: { size: 1 } });

    store.plan = undefined;
    store.set(stateOf("digest/2"));
    await restarted.clock.advance(200);
    await restarted.poll();
    expect(knowledge.killSet.value?.flagIds.size).toBe(0);
    expect(await knowledge.states.flagState("digest/2")).toEqual({
      kind: "fresh",
      value: stateOf("digest/2"),
    });
  });

  test.for(["poll", "rows"] as const)(
    "a store of another epoch is taken whole, at any revision, if its %s come first",
    async (first) => {
      const other = new MemoryStore();
      other.epoch = "epoch-2";
      other.set(stateOf("digest/1", { value: hourly }));
      const epochs: unknown[] = [];
      const { restarted } = await restart(await openFilled(), {
        store: other,
        events: { onEpochChange: (next) => epochs.push(next?.epoch) },
      });
      const { knowledge } = restarted;
      if (first === "rows") await knowledge.states.loadFlags(FLAG_IDS);
      expect(restarted.outdatedKillSets, "rows say that it is to be read").toBe(first === "rows" ? 1 : 0);
      await restarted.poll();
      await settle();
      expect(epochs).toEqual(["epoch-2"]);
      expect(knowledge.killSet.value?.flagIds.size).toBe(0);
      await knowledge.states.loadFlags(FLAG_IDS);
      expect(knowledge.states.flagState("digest/1")).toMatchObject({
        kind: "fresh",
        value: { value: hourly },
      });
      expect(knowledge.states.flagState("digest/2")).toEqual({ kind: "fresh", value: undefined });
      expect(await knowledge.states.overrides("user-1")).toEqual({ kind: "fresh", value: undefined });
    },
  );

  test("a store without versions replaces what was restored by whatever it says", async () => {
    const filled = await openFilled({ versioned: false });
    expect(filled.remembered.kills.version).toBeUndefined();
    const { restarted } = await restart(filled);
    const { knowledge, store } = restarted;
    expect(knowledge.killSet.value?.flagIds.has("digest/2")).toBe(true);
    expect(knowledge.states.flagState("digest/1")).toMatchObject({ kind: "cached" });
    store.set(stateOf("digest/2"));
    store.set(stateOf("digest/1", { value: hourly }));
    await restarted.poll();
    await knowledge.states.loadFlags(FLAG_IDS);
    expect(knowledge.killSet.value?.flagIds.size).toBe(0);
    expect(knowledge.states.flagState("digest/1")).toMatchObject({ kind: "fresh", value: { value: hourly } });
  });

  test("what was committed while it was away is not told as slow to arrive", async () => {
    const filled = await openFilled();
    filled.store.set(stateOf("digest/1", { mode: "killed" }));
    const told: number[] = [];
    const { restarted } = await restart(filled, {
      remember: filled.remembered,
      events: { onPropagation: (ms) => told.push(ms) },
    });
    await restarted.poll({ "digest/1": 3_600_000 });
    await settle();
    expect(told).toEqual([]);
    restarted.store.set(stateOf("digest/1"));
    await restarted.poll({ "digest/1": 20 });
    await settle();
    expect(told).toEqual([20]);
  });
});

describe("how long a change takes from its commit until it is in force is told", () => {
  const told: number[] = [];
  beforeEach(() => {
    told.length = 0;
  });

  /** Knows all, and answers of one kind are on their way until they are let go. */
  async function openMeasured(options: Pick<OpenOptions, "overrideEntriesMax"> = {}) {
    const filled = open(new MemoryStore(), { ...options, events: { onPropagation: (ms) => told.push(ms) } });
    const { store, clock, knowledge } = filled;
    store.set(stateOf("digest/1", { value: weekly }));
    store.setOverride(overrideOf("digest/1", "user-1"));
    await filled.poll({});
    await knowledge.states.loadFlags(FLAG_IDS);
    await knowledge.states.overrides("user-1");
    /** A poll that told at once, and rows that took so long. */
    async function learn(agoMs: Readonly<Record<string, number>>, rowsTakeMs: number): Promise<void> {
      let deliver = () => {};
      const after = new Promise<void>((resolve) => {
        deliver = resolve;
      });
      store.plan = ({ operation }) => (operation === "kills" ? {} : { after });
      await filled.poll(agoMs);
      await settle();
      await clock.advance(rowsTakeMs);
      deliver();
      store.plan = undefined;
      await settle();
    }
    return Object.assign(filled, { learn });
  }

  test("of a kill by the poll, of a revive, a value and an override once its row is read", async () => {
    const { store, learn } = await openMeasured();
    store.set(stateOf("digest/1", { mode: "killed" }));
    await learn({ "digest/1": 20 }, 100);
    expect(told.splice(0)).toEqual([20]);
    store.set(stateOf("digest/1", { value: weekly }));
    await learn({ "digest/1": 21 }, 100);
    expect(told.splice(0)).toEqual([121]);
    store.set(stateOf("digest/1", { value: hourly }));
    await learn({ "digest/1": 22 }, 100);
    expect(told.splice(0)).toEqual([122]);
    store.removeOverride("digest/1", "user-1");
    await learn({ "user-1": 23 }, 100);
    expect(told.splice(0)).toEqual([123]);
    store.setOverride(overrideOf("digest/1", "user-1"));
    await learn({ "user-1": 24 }, 100);
    expect(told.splice(0)).toEqual([124]);
  });

  test("of what nobody has asked for by the poll: whoever asks now is answered with it", async () => {
    const { store, learn } = await openMeasured();
    store.setOverride(overrideOf("digest/1", "user-9"));
    await learn({ "user-9": 30 }, 100);
    expect(told).toEqual([30]);
  });

  test("of each change that one poll tells of, by its own commit", async () => {
    const { store, learn } = await openMeasured();
    store.set(stateOf("digest/1", { value: hourly }));
    store.set(stateOf("digest/2", { mode: "killed" }));
    store.setOverride(overrideOf("digest/1", "user-1"));
    store.set(stateOf("digest/1", { value: weekly }));
    await learn({ "digest/1": 10, "digest/2": 30, "user-1": 20 }, 100);
    expect(told.toSorted((a, b) => a - b)).toEqual([30, 110, 120]);
  });

  test("of each of many changes, too, of which the rest of the process does not wait for the end", async () => {
    const { store, learn } = await openMeasured();
    const changed = Array.from({ length: 2_000 }, (_, i) => [`user-${i + 10}`, i] as const);
    for (const [user] of changed) store.setOverride(overrideOf("digest/1", user));
    await learn(Object.fromEntries(changed), 0);
    await eventually(() => told.length === changed.length);
    expect(told).toEqual(changed.map(([, ago]) => ago));
  });

  test("not before a row that is new enough was read", async () => {
    const { store, clock, learn, poll } = await openMeasured();
    store.set(stateOf("digest/1", { value: hourly }));
    store.plan = ({ operation }) => ({ fails: operation === "flagStates" });
    await poll({ "digest/1": 20 });
    await clock.advance(1_000);
    expect(told).toEqual([]);
    await learn({}, 100);
    expect(told).toEqual([1_120]);
  });

  test("not of what was forgotten before its row was read again", async () => {
    const { store, clock, knowledge, poll } = await openMeasured({ overrideEntriesMax: 1 });
    store.setOverride(overrideOf("digest/1", "user-1", { value: hourly }));
    store.plan = ({ operation }) => ({ fails: operation === "overrides" });
    await poll({ "user-1": 20 });
    await settle();
    store.plan = undefined;
    store.setOverride(overrideOf("digest/1", "user-2"));
    await knowledge.states.overrides("user-2");
    await clock.advance(3_600_000);
    expect(await knowledge.states.overrides("user-1")).toMatchObject({ kind: "fresh" });
    expect(told).toEqual([]);
  });

  test("not where the store does not say when it was committed", async () => {
    const { store, poll } = await openMeasured();
    store.set(stateOf("digest/1", { mode: "killed" }));
    await poll();
    expect(told).toEqual([]);
  });
});

describe("what was known to be wrong or old is restored as that:", () => {
  test("a value that was known to have changed, and could not be read again, is waited for", async () => {
    const filled = await openFilled();
    filled.store.set(stateOf("digest/1", { value: hourly }));
    filled.store.plan = ({ operation }) => ({ fails: operation === "flagStates" });
    await filled.poll();
    await settle();
    filled.store.plan = undefined;
    const { restarted, remembered } = await restart(filled);
    const { knowledge } = restarted;
    const { version } = remembered.kills;
    const old = { id: "digest/1", isOutdated: true, version: { ...version, revision: 5 } };
    expect(remembered.flags).toMatchObject([old, { isOutdated: false, version }, { version }]);
    expect(knowledge.remember()?.flags, "it does not hold at the kill set's version now").toContainEqual(
      remembered.flags[0],
    );
    await restarted.poll();
    const later = knowledge.states.flagState("digest/1");
    expect(later).toBeInstanceOf(Promise);
    expect(await later).toMatchObject({ kind: "fresh", value: { value: hourly } });
  });

  test("a kill that is over is not brought back by its row", async () => {
    const filled = await openFilled();
    await filled.knowledge.states.loadFlags(FLAG_IDS);
    filled.store.set(stateOf("digest/2"));
    filled.store.plan = ({ operation }) => ({ fails: operation === "flagStates" });
    await filled.poll();
    await settle();
    const { restarted } = await restart(filled);
    restarted.store.away = true;
    expect(restarted.knowledge.killSet.value?.flagIds.size).toBe(0);
    expect(await restarted.knowledge.states.flagState("digest/2")).toEqual({ kind: "unavailable" });
    expect(restarted.knowledge.states.knowsFlags(FLAG_IDS)).toBe(true);
  });

  test("a row that overtook the kill set keeps its say against a poll that is older than it", async () => {
    const filled = await openFilled();
    filled.store.setOverride(overrideOf("digest/3", "user-3"));
    filled.store.set(stateOf("digest/1", { mode: "killed" }));
    await filled.knowledge.states.loadFlags(["digest/1"]);
    expect(filled.knowledge.killSet.value?.flagIds.has("digest/1")).toBe(true);
    const { flags, ...rest } = filled.knowledge.remember() ?? filled.remembered;
    // Its row may have been forgotten since, to make room.
    const remember = { ...rest, flags: flags.filter(({ id }) => id !== "digest/1") };
    const { restarted } = await restart(filled, { remember });
    expect(restarted.knowledge.killSet.value?.flagIds.has("digest/1")).toBe(true);
    restarted.store.plan = () => ({ commitsBehind: 1 });
    await restarted.poll();
    expect(restarted.knowledge.killSet.value?.flagIds.has("digest/1")).toBe(true);
    restarted.store.plan = undefined;
    restarted.store.set(stateOf("digest/1"));
    await restarted.poll();
    expect(restarted.knowledge.killSet.value?.flagIds.has("digest/1")).toBe(false);
  });

  test("rows of another epoch than the kill set are asked for again whatever the poll says", async () => {
    const filled = await openFilled();
    const { kills, ...rest } = filled.remembered;
    const remember = {
      ...rest,
      kills: { ...kills, version: { epoch: "epoch-2", revision: 0 } },
    };
    filled.store.restore("epoch-2", 100);
    const { restarted } = await restart(filled, { remember });
    await restarted.poll();
    await settle();
    const asked = restarted.store.calls.filter(({ operation }) => operation === "flagStates");
    expect(asked.flatMap(({ keys }) => keys).toSorted()).toEqual(FLAG_IDS);
    expect(restarted.knowledge.states.flagState("digest/1")).toEqual({ kind: "fresh", value: undefined });
  });
});

test("nothing is remembered before the kill set is known", async () => {
  const opened = open(new MemoryStore());
  await opened.knowledge.states.loadFlags(FLAG_IDS);
  expect(opened.knowledge.remember()).toBeUndefined();
});

test("what somebody made up is not remembered; rows that the store holds are, defined or not", async () => {
  const filled = await openFilled();
  filled.store.set(stateOf("archived/1", { archived: true }));
  await filled.knowledge.states.loadFlags(["made-up/1", "archived/1"]);
  const ids = filled.knowledge.remember()?.flags.map(({ id }) => id);
  expect(ids).toEqual([...FLAG_IDS, "archived/1"]);
});

test("entities are remembered in the order in which they would be missed, and restored in it", async () => {
  const filled = await openFilled();
  for (const entity of ["user-3", "user-4"]) {
    filled.store.setOverride(overrideOf("digest/1", entity));
    await filled.knowledge.states.overrides(entity);
  }
  await filled.knowledge.states.overrides("user-1");
  const idsOf = (known: RememberedKnowledge | undefined) => known?.entities.map(({ id }) => id);
  expect(idsOf(filled.knowledge.remember())).toEqual(["user-1", "user-4", "user-3", "user-2"]);
  const { restarted } = await restart(filled, { overrideEntriesMax: 2 });
  expect(idsOf(restarted.knowledge.remember())).toEqual(["user-1", "user-4"]);
});

test("it is told what is news and what is only younger", async () => {
  const learnt: boolean[] = [];
  const store = new MemoryStore();
  store.set(stateOf("digest/1"));
  const opened = open(store, { onLearnt: (isNews) => learnt.push(isNews) });
  const told = async (act: () => unknown) => {
    learnt.length = 0;
    await act();
    await settle();
    return learnt.includes(true) ? "news" : `${learnt.length} younger`;
  };
  const { states } = opened.knowledge;
  expect(await told(() => opened.poll()), "the first kill set").toBe("news");
  expect(await told(() => states.loadFlags(FLAG_IDS)), "the first rows").toBe("news");
  expect(await told(() => opened.poll()), "nothing changed").toBe("1 younger");
  expect(await told(() => states.loadFlags(FLAG_IDS))).toBe("3 younger");
  expect(await told(() => states.flagState("made-up/1")), "somebody made it up").toBe("1 younger");
  expect(await told(() => states.overrides("user-1")), "one more entity").toBe("1 younger");
  store.set(stateOf("digest/1", { mode: "killed" }));
  expect(await told(() => opened.poll()), "a kill").toBe("news");
  store.setOverride(overrideOf("digest/3", "user-1"));
  let deliver = () => {};
  const held = new Promise<void>((resolve) => {
    deliver = resolve;
  });
  store.plan = ({ operation }) => (operation === "overrides" ? { after: held } : {});
  expect(await told(() => opened.poll()), "an override has changed").toBe("news");
  expect(await told(() => deliver()), "and arrives").toBe("news");
});

test("10,000 entities are remembered, and hold nothing up", PAUSES, async () => {
  const store = new MemoryStore();
  const opened = open(store);
  await opened.poll();
  await Promise.all(
    Array.from({ length: 10_000 }, async (_, i) => opened.knowledge.states.overrides(`user-${i}`)),
  );
  const { result, pauseMs } = await measureShortest(() => measurePauses(() => opened.knowledge.remember()));
  expect(result?.entities).toHaveLength(10_000);
  judgePause("remembering 10000 entities", pauseMs);
});

interface OpenOptions {
  readonly events?: Partial<KnowledgeEvents>;
  readonly onLearnt?: (isNews: boolean) => void;
  readonly overrideEntriesMax?: number;
}

function open(store: MemoryStore, options: OpenOptions = {}) {
  const clock = new FakeClock();
  let outdatedKillSets = 0;
  const knowledge = new Knowledge({
    flags: new Latest(table),
    store,
    isCut: () => false,
    flagTtlMs: TTL,
    overrideTtlMs: TTL,
    negativeTtlMs: 5_000,
    overrideEntriesMax: options.overrideEntriesMax ?? 10_000,
    jitter: 0,
    clock,
    random: () => 0.5,
    onLookUps: () => {},
    onOutdatedKillSet: () => {
      outdatedKillSets += 1;
    },
    events: { ...silentEvents, ...options.events },
    ...(options.onLearnt === undefined ? {} : { onLearnt: options.onLearnt }),
  });
  return {
    store,
    clock,
    knowledge,
    get outdatedKillSets() {
      return outdatedKillSets;
    },
    /** `agoMs` is what the store says of commits, by what they changed. */
    poll: async (agoMs?: Readonly<Record<string, number>>) => {
      const askedAt = clock.now();
      const answer = await store.kills(knowledge.killSet.value?.stamp.version);
      const changes = withAges(answer.value.changes, agoMs);
      knowledge.applyKills({ ...answer, value: { ...answer.value, changes } }, askedAt);
    },
  };
}

function withAges(changes: Changes, agoMs: Readonly<Record<string, number>> | undefined): Changes {
  if (changes.kind === "unknown" || agoMs === undefined) return changes;
  const ages = (ids: readonly string[]) => ids.map((id) => agoMs[id] ?? Number.NaN);
  const { flagIds, entityIds } = changes;
  return { ...changes, committedAgo: { flagsMs: ages(flagIds), entitiesMs: ages(entityIds) } };
}

/** A value, a kill, an absent flag, an override, an entity without any; all of it known. */
async function openFilled({ versioned = true } = {}) {
  const store = new MemoryStore();
  store.versioned = versioned;
  store.set(stateOf("digest/1", { value: hourly }));
  store.set(stateOf("digest/1", { value: weekly }));
  store.set(stateOf("digest/2"));
  store.setOverride(overrideOf("digest/1", "user-1"));
  store.set(stateOf("digest/2", { mode: "killed" }));
  const opened = open(store);
  const { states } = opened.knowledge;
  await opened.poll();
  await states.loadFlags(FLAG_IDS);
  await states.overrides("user-2");
  await states.overrides("user-1");
  const remembered = opened.knowledge.remember();
  if (remembered === undefined) throw new Error("nothing is known");
  return Object.assign(opened, { remembered });
}

interface RestartOptions extends OpenOptions {
  /** By the wall clock. */
  readonly awayMs?: number;
  /** All that is known now, unless set. */
  readonly remember?: RememberedKnowledge;
  /** The same, unless set. */
  readonly store?: MemoryStore;
}

async function restart(before: ReturnType<typeof open>, options: RestartOptions = {}) {
  const remembered = options.remember ?? before.knowledge.remember();
  if (remembered === undefined) throw new Error("nothing is known");
  const restarted = open(options.store ?? before.store, options);
  restarted.clock.wallOffsetMs = before.clock.wallNow() + (options.awayMs ?? 0);
  restarted.store.calls.length = 0;
  restarted.knowledge.restore(remembered);
  return { restarted, remembered };
}
