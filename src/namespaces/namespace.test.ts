import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import type { Version } from "../evaluation/version.ts";
import type { FlagTable } from "../flags/definition.ts";
import { Latest } from "../system/latest.ts";
import { type Namespace, type NamespaceOptions, openNamespace } from "./namespace.ts";

const KILL_TTL = 30_000;
const FLAG_TTL = 300_000;
const daily = flagValue("daily");
const weekly = flagValue("weekly");

const table = tableOf(
  defineFlag("digest/1"),
  defineFlag("digest/2", { layer: "" }),
  defineFlag("digest/3", { defaultValue: undefined }),
);

test("after the start every defined flag is known from one batch, and no evaluation waits", async () => {
  const store = new MemoryStore();
  store.set(stateOf("digest/1"));
  await using opened = await openTest({ store });
  expect(opened.namespace.ready).toBe(true);
  expect(store.calls.filter(({ operation }) => operation === "flagStates")).toEqual([
    { operation: "flagStates", keys: ["digest/1", "digest/2", "digest/3"] },
  ]);
  expect(opened.namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "global" });
  expect(opened.namespace.evaluate("digest/2", "")).toEqual({ value: daily, source: "default" });
  expect(opened.namespace.evaluate("digest/3", "")).toEqual({ value: undefined, source: "default" });
});

test("a kill is in force after the next poll, and a revive brings back the value with it", async () => {
  const { store, namespace, clock, ...opened } = await openTest({});
  store.set(stateOf("digest/1"));
  await clock.advance(KILL_TTL);
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "global" });

  store.set(stateOf("digest/1", { mode: "killed" }));
  await clock.advance(KILL_TTL);
  expect(namespace.evaluate("digest/1", "user-1")).toEqual({ value: daily, source: "killed" });

  store.set(stateOf("digest/1"));
  await clock.advance(KILL_TTL);
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "global" });
  await opened[Symbol.asyncDispose]();
});

test("a storm of notices is looked at four times a second, and a kill among them at once", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  const polls = () => store.calls.filter(({ operation }) => operation === "kills").length;
  const notice = async (isUrgent = false) => {
    namespace.changeNoticed({ version: undefined, isUrgent });
    await clock.advance(10);
  };
  const before = polls();
  for (let ms = 0; ms < 1_000; ms += 10) await notice();
  expect(polls() - before).toBe(4);

  store.set(stateOf("digest/1", { mode: "killed" }));
  await notice(true);
  expect(namespace.evaluate("digest/1", "")).toMatchObject({ source: "killed" });
  // The next waits its turn: a storm may be one of kills.
  store.set(stateOf("digest/2", { mode: "killed" }));
  await notice(true);
  expect(namespace.evaluate("digest/2", "")).toMatchObject({ source: "default" });
  for (let ms = 0; ms < 250; ms += 10) await notice(true);
  expect(namespace.evaluate("digest/2", "")).toMatchObject({ source: "killed" });
  for (let ms = 0; ms < 1_000; ms += 10) await notice();
  store.set(stateOf("digest/3", { mode: "killed" }));
  await notice(true);
  expect(namespace.evaluate("digest/3", "")).toMatchObject({ source: "killed" });
});

test("what a notice says there is is asked for until it is seen, but not for long", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  const polls = () => store.calls.filter(({ operation }) => operation === "kills").length;
  const { epoch = "", revision = 0 } = namespace.killSet.value?.stamp.version ?? {};
  const before = polls();
  namespace.changeNoticed({ version: { epoch, revision: revision + 1 } });
  await settle();
  await clock.advance(350);
  expect(polls() - before).toBe(4);
  store.set(stateOf("digest/1", { mode: "killed" }));
  await clock.advance(100);
  expect(namespace.evaluate("digest/1", "")).toMatchObject({ source: "killed" });
  const seen = polls();
  await clock.advance(5_000);
  expect(polls()).toBe(seen);

  namespace.changeNoticed({ version: { epoch, revision: revision + 9 } });
  await settle();
  await clock.advance(5_000);
  const sought = polls();
  expect(sought - seen).toBeGreaterThan(10);
  expect(sought - seen).toBeLessThan(25);
  await clock.advance(5_000);
  expect(polls()).toBe(sought);
});

test("a heartbeat that names what has not been seen has it looked for once more, however often it comes", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  const version = { ...namespace.killSet.value?.stamp.version, revision: 1 } as Version;
  const beat = async () => {
    const before = store.countCalls("kills");
    namespace.changeNoticed({ version });
    await settle();
    await clock.advance(2_000);
    return store.countCalls("kills") - before;
  };
  expect(await beat()).toBeGreaterThan(10);
  for (let i = 0; i < 3; i++) expect(await beat()).toBeLessThanOrEqual(2);
  store.set(stateOf("digest/1", { mode: "killed" }));
  expect(await beat()).toBeLessThanOrEqual(2);
  expect(namespace.evaluate("digest/1", "")).toMatchObject({ source: "killed" });
  expect(await beat()).toBe(0);
});

test("a version that somebody made up keeps nobody from looking for one that there is", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  const { epoch = "" } = namespace.killSet.value?.stamp.version ?? {};
  namespace.changeNoticed({ version: { epoch, revision: Number.MAX_SAFE_INTEGER } });
  // While it is looked for, and once that was given up.
  for (const afterMs of [1_900, 3_000]) {
    await clock.advance(afterMs);
    namespace.changeNoticed({ version: { epoch, revision: store.head + 1 } });
    await clock.advance(1_000);
    namespace.changeNoticed({ version: { epoch: "another", revision: store.head + 1 } });
    await clock.advance(500);
    const isKilled = store.head % 2 === 0;
    store.set(stateOf("digest/1", { mode: isKilled ? "killed" : "enabled" }));
    await clock.advance(110);
    expect(namespace.killSet.value?.flagIds.has("digest/1"), `${afterMs}`).toBe(isKilled);
  }
  const before = store.countCalls("kills");
  await clock.advance(5_000);
  expect(store.countCalls("kills"), "what was given up stays so").toBe(before);
});

test("a storm of what is not to be seen yet is looked at no more often than any other", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  const { epoch = "" } = namespace.killSet.value?.stamp.version ?? {};
  namespace.changeNoticed({ version: undefined });
  await settle();
  const before = store.countCalls("kills");
  for (let i = 1; i <= 100; i++) {
    namespace.changeNoticed({ version: { epoch, revision: i } });
    await clock.advance(10);
  }
  expect(store.countCalls("kills") - before).toBe(4);
});

test("what was missed is asked for unless a poll has set out after that", async () => {
  await using opened = await openTest({ returnSpreadMs: 1_000 });
  const { store, namespace, clock } = opened;
  const pollsAfter = async (happens: () => Promise<void>) => {
    await clock.advance(100);
    namespace.changeNoticed({ version: undefined });
    await happens();
    const before = store.countCalls("kills");
    await clock.advance(5_000);
    return store.countCalls("kills") - before;
  };
  const missed = async () => {
    namespace.changesMissed();
    await clock.advance(10);
  };

  const setsOutBefore = pollsAfter(async () => {
    let deliver = () => {};
    store.gate = new Promise((resolve) => {
      deliver = resolve;
    });
    await settle();
    await missed();
    store.gate = undefined;
    deliver();
    await settle();
  });
  expect(await setsOutBefore, "the poll set out before").toBe(1);

  const setsOutAfter = pollsAfter(async () => {
    await settle();
    await missed();
    namespace.changeNoticed({ version: undefined });
    await clock.advance(400);
  });
  expect(await setsOutAfter, "the poll set out after").toBe(0);
});

test("the poll heals values, overrides and rows that vanished, not only kills", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  store.set(stateOf("digest/2"));
  await clock.advance(KILL_TTL);
  await namespace.evaluate("digest/1", "user-1");
  await namespace.evaluate("digest/1", "user-2");

  store.set(stateOf("digest/2", { value: flagValue("hourly") }));
  store.setOverride(overrideOf("digest/1", "user-1"));
  const before = store.calls.length;
  await clock.advance(KILL_TTL);
  expect(namespace.evaluate("digest/2", "")).toEqual({ value: flagValue("hourly"), source: "global" });
  expect(namespace.evaluate("digest/1", "user-1")).toEqual({ value: flagValue("never"), source: "override" });
  expect(store.calls.slice(before), "exactly what changed is read again").toEqual([
    { operation: "kills", keys: [] },
    { operation: "flagStates", keys: ["digest/2"] },
    { operation: "overrides", keys: ["user-1"] },
  ]);

  store.remove("digest/2");
  await clock.advance(KILL_TTL);
  expect(namespace.evaluate("digest/2", "")).toEqual({ value: daily, source: "default" });
});

test("during an outage everything is answered as before, and only its age shows", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  store.set(stateOf("digest/1"));
  store.set(stateOf("digest/2", { mode: "killed" }));
  store.setOverride(overrideOf("digest/1", "user-1"));
  await clock.advance(KILL_TTL);
  await namespace.evaluate("digest/1", "user-1");

  store.away = true;
  await clock.advance(10 * FLAG_TTL);
  expect(namespace.health.status).toBe("degraded");
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "cached" });
  expect(await namespace.evaluate("digest/1", "user-1")).toEqual({
    value: flagValue("never"),
    source: "cached",
  });
  expect(await namespace.evaluate("digest/2", "")).toEqual({ value: daily, source: "killed" });
  expect(await namespace.evaluate("digest/1", "user-new")).toEqual({ value: weekly, source: "cached" });
  expect(await namespace.evaluate("unknown/1", "")).toEqual({ value: undefined, source: "default" });
  expect(namespace.ready, "once ready it stays so").toBe(true);
  expect(namespace.stateAgeMs).toBeGreaterThan(9 * FLAG_TTL);

  store.set(stateOf("digest/1", { value: flagValue("hourly") }));
  store.set(stateOf("digest/2"));
  store.away = false;
  await clock.advance(5_000);
  expect(namespace.health.status).toBe("serving");
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: flagValue("hourly"), source: "global" });
  expect(await namespace.evaluate("digest/2", "")).toEqual({ value: weekly, source: "global" });
});

test("a store that was never reached leaves the compiled defaults, and is taken up when it comes", async () => {
  const store = new MemoryStore();
  store.away = true;
  store.set(stateOf("digest/1"));
  await using opened = await openTest({ store });
  const { namespace, clock } = opened;
  expect(namespace.ready).toBe(false);
  expect(namespace.killSet.value).toBeUndefined();
  expect(await namespace.evaluate("digest/1", "user-1")).toEqual({ value: daily, source: "default" });

  await clock.advance(60_000);
  expect(namespace.ready).toBe(false);
  store.away = false;
  const ready = namespace.whenReady(new AbortController().signal);
  await clock.advance(5_000);
  await ready;
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "global" });
});

test("a row that is killed and newer than the kill set kills its flag at once", async () => {
  await using opened = await openTest({});
  const { store, namespace } = opened;
  store.set(stateOf("undefined/9", { mode: "killed" }));
  await namespace.evaluate("undefined/9", "");
  expect(namespace.killSet.value?.flagIds.has("undefined/9")).toBe(true);
});

test("a row read before a revive and delivered after it does not bring the kill back", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  store.set(stateOf("old/1", { mode: "killed", archived: true }));
  let deliver = () => {};
  store.gate = new Promise((resolve) => {
    deliver = resolve;
  });
  const asked = namespace.evaluate("old/1", "");
  await settle();
  store.gate = undefined;
  store.set(stateOf("old/1", { archived: true }));
  await clock.advance(KILL_TTL);
  deliver();
  await asked;
  await settle();
  expect(await namespace.evaluate("old/1", "")).toEqual({ value: weekly, source: "archived" });
});

test("a restored store, older but of a new epoch, is taken up whole", async () => {
  const epochs: string[] = [];
  const store = new MemoryStore();
  for (let i = 0; i < 5; i++) store.set(stateOf("digest/1", { mode: "killed" }));
  await using opened = await openTest({ store, onEpoch: (epoch) => epochs.push(epoch) });
  const { namespace, clock } = opened;
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: daily, source: "killed" });

  const backup = new MemoryStore();
  backup.epoch = "restored";
  backup.set(stateOf("digest/1", { value: flagValue("hourly") }));
  opened.replaceStore(backup);
  await clock.advance(KILL_TTL);
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: flagValue("hourly"), source: "global" });
  expect(epochs).toEqual(["restored"]);
});

test("a store without versions is believed by its times to live, and its kills by the poll", async () => {
  const store = new MemoryStore();
  store.versioned = false;
  store.set(stateOf("digest/1"));
  await using opened = await openTest({ store });
  const { namespace, clock } = opened;
  const before = store.countCalls("flagStates");
  await clock.advance(5 * KILL_TTL);
  expect(store.countCalls("flagStates"), "polls alone read no rows").toBe(before);

  store.set(stateOf("digest/1", { mode: "killed" }));
  await clock.advance(KILL_TTL);
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: daily, source: "killed" });
  store.set(stateOf("digest/1", { value: flagValue("hourly") }));
  await clock.advance(KILL_TTL);
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: flagValue("hourly"), source: "global" });
});

test("write-through asks the store for every request and remembers only for an outage", async () => {
  await using opened = await openTest({ flagTtlMs: 0, overrideTtlMs: 0 });
  const { store, namespace } = opened;
  store.set(stateOf("digest/1"));
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "global" });
  store.set(stateOf("digest/1", { value: flagValue("hourly") }));
  store.setOverride(overrideOf("digest/1", "user-1"));
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: flagValue("hourly"), source: "global" });
  expect((await namespace.evaluate("digest/1", "user-1")).source).toBe("override");
  store.away = true;
  expect(await namespace.evaluate("digest/1", "")).toEqual({ value: flagValue("hourly"), source: "cached" });
});

test("a flag added to the descriptors before its row exists answers its default, then its row", async () => {
  const flags = new Latest(table);
  await using opened = await openTest({ flags });
  const { store, namespace, clock } = opened;
  flags.replace(tableOf(...table.flags, defineFlag("new/1")));
  namespace.flagsReplaced();
  await settle();
  expect(namespace.evaluate("new/1", "")).toEqual({ value: daily, source: "default" });
  store.set(stateOf("new/1"));
  await clock.advance(KILL_TTL);
  expect(namespace.evaluate("new/1", "")).toEqual({ value: weekly, source: "global" });
});

test("a value of another type is told once for each change, and never served", async () => {
  const invalid: string[] = [];
  await using opened = await openTest({ onInvalid: (reason) => invalid.push(reason) });
  const { store, namespace, clock } = opened;
  store.set(stateOf("digest/1", { value: flagValue(true) }));
  await clock.advance(FLAG_TTL * 3);
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: daily, source: "default" });
  expect(invalid).toEqual(["expected a value of type STRING, got boolValue"]);
  store.set(stateOf("digest/1"));
  await clock.advance(KILL_TTL);
  store.set(stateOf("digest/1", { value: flagValue(true) }));
  await clock.advance(KILL_TTL);
  expect(invalid).toHaveLength(2);
});

test("10,000 unknown ids cost one fetch each and bounded memory", async () => {
  await using opened = await openTest({});
  const { store, namespace } = opened;
  const ids = Array.from({ length: 10_000 }, (_, i) => `made-up/${i}`);
  await namespace.evaluateMany(ids, "");
  await namespace.evaluateMany(ids, "");
  const asked = store.calls.filter(({ operation }) => operation === "flagStates").flatMap(({ keys }) => keys);
  expect(asked.length - table.flags.length).toBe(10_000);
});

test("an entity of which there can be nothing is nobody in particular, and asked for of nobody", async () => {
  const store = new MemoryStore();
  store.set(stateOf("digest/1"));
  await using opened = await openTest({ store });
  const { namespace } = opened;
  const asked = store.calls.length;
  for (const entityId of ["e".repeat(256), "tab\t", ""]) {
    expect(namespace.evaluate("digest/1", entityId)).toEqual({ value: weekly, source: "global" });
    expect(namespace.evaluateMany(["digest/1"], entityId)).toEqual([{ value: weekly, source: "global" }]);
    expect(namespace.overrides(entityId)).toEqual({ kind: "fresh", value: undefined });
  }
  expect([store.calls.length - asked, namespace.cachedEntityCount]).toEqual([0, 0]);
});

test("the wall clock moves nothing", async () => {
  await using opened = await openTest({});
  const { store, namespace, clock } = opened;
  const before = store.calls.length;
  for (const step of [3_600_000, -7_200_000]) {
    clock.wallOffsetMs += step;
    await settle();
    expect(namespace.evaluate("digest/1", "")).toMatchObject({ source: "default" });
  }
  expect(store.calls).toHaveLength(before);
});

test("closing a namespace leaves nothing running", async () => {
  const opened = await openTest({});
  await opened[Symbol.asyncDispose]();
  expect(opened.clock.sleeperCount).toBe(0);
});

interface TestOptions {
  readonly store?: MemoryStore;
  readonly flags?: Latest<FlagTable>;
  readonly flagTtlMs?: number;
  readonly overrideTtlMs?: number;
  readonly returnSpreadMs?: number;
  readonly onInvalid?: (reason: string) => void;
  readonly onEpoch?: (epoch: string) => void;
}

async function openTest(options: TestOptions) {
  const clock = new FakeClock();
  const store = options.store ?? new MemoryStore();
  let current = store;
  const switchable: NamespaceOptions["store"] = {
    flagStates: (flagIds) => current.flagStates(flagIds),
    overrides: (entityIds) => current.overrides(entityIds),
    kills: (since) => current.kills(since),
    [Symbol.asyncDispose]: () => current[Symbol.asyncDispose](),
  };
  const namespace: Namespace = openNamespace({
    flags: options.flags ?? new Latest(table),
    store: switchable,
    clock,
    random: () => 0.5,
    killTtlMs: KILL_TTL,
    flagTtlMs: options.flagTtlMs ?? FLAG_TTL,
    overrideTtlMs: options.overrideTtlMs ?? FLAG_TTL,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 10_000,
    returnSpreadMs: options.returnSpreadMs ?? 0,
    jitter: 0.2,
    events: {
      ...silentEvents,
      onEpochChange: (next) => options.onEpoch?.(next?.epoch ?? "none"),
      onInvalidValue: ({ reason }) => options.onInvalid?.(reason),
    },
    traceStoreCall: (_, run) => run(),
  });
  await settle();
  return {
    namespace,
    store,
    clock,
    replaceStore(next: MemoryStore) {
      current = next;
    },
    [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose](),
  };
}
