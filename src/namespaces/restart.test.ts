import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import { Latest } from "../system/latest.ts";
import { type NamespaceOptions, openNamespace } from "./namespace.ts";

const KILL_TTL = 30_000;
const FLAG_TTL = 300_000;
const daily = flagValue("daily");
const weekly = flagValue("weekly");
const hourly = flagValue("hourly");
const table = tableOf(defineFlag("digest/1"), defineFlag("digest/2"), defineFlag("digest/3"));

test("restarted while the store is away, it is ready at once, kills hold, and values answer as cached", async () => {
  const store = filledStore();
  const snapshot = await learn(store);
  store.away = true;
  await using opened = open(store, { snapshot, awayMs: 60_000 });
  const { namespace, clock } = opened;
  expect(namespace.ready).toBe(true);
  expect(namespace.evaluate("digest/2", "user-1")).toEqual({ value: daily, source: "killed" });
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: weekly, source: "cached" });
  expect(namespace.evaluate("digest/1", "user-1")).toEqual({ value: flagValue("never"), source: "cached" });
  expect(namespace.evaluate("digest/3", "")).toEqual({ value: daily, source: "default" });
  expect(namespace.stateAgeMs).toBe(60_000);
  expect(namespace.health.status, "it has heard nothing").toBe("connecting");

  await clock.advance(3_600_000);
  expect(namespace.health.status).toBe("degraded");
  expect(namespace.evaluate("digest/2", "user-1")).toEqual({ value: daily, source: "killed" });
  expect(await namespace.evaluate("digest/1", "user-1")).toMatchObject({ source: "cached" });

  store.set(stateOf("digest/2"));
  store.set(stateOf("digest/1", { value: hourly }));
  store.away = false;
  await clock.advance(5_000);
  expect(namespace.evaluate("digest/2", "")).toEqual({ value: weekly, source: "global" });
  expect(namespace.evaluate("digest/1", "")).toEqual({ value: hourly, source: "global" });
  expect(namespace.evaluate("digest/1", "user-1")).toEqual({ value: flagValue("never"), source: "override" });
});

test("restarted while the store answers, everything is fresh at once", async () => {
  const store = filledStore();
  const snapshot = await learn(store);
  store.set(stateOf("digest/1", { value: hourly }));
  await using opened = open(store, { snapshot });
  await settle();
  expect(opened.namespace.evaluate("digest/1", "")).toEqual({ value: hourly, source: "global" });
  expect(opened.namespace.stateAgeMs).toBe(0);
});

test("a snapshot that does not know every flag that is defined now does not make it ready", async () => {
  const store = filledStore();
  const snapshot = await learn(store);
  store.away = true;
  const flags = new Latest(tableOf(...table.flags, defineFlag("digest/4")));
  await using opened = open(store, { snapshot, flags });
  expect(opened.namespace.ready).toBe(false);
  expect(opened.namespace.evaluate("digest/2", "")).toEqual({ value: daily, source: "killed" });
  store.away = false;
  await opened.clock.advance(5_000);
  expect(opened.namespace.ready).toBe(true);
});

function filledStore(): MemoryStore {
  const store = new MemoryStore();
  store.set(stateOf("digest/1"));
  store.setOverride(overrideOf("digest/1", "user-1"));
  store.set(stateOf("digest/2", { mode: "killed" }));
  return store;
}

/** What a namespace remembers that has learnt all there is. */
async function learn(store: MemoryStore) {
  await using opened = open(store);
  await settle();
  await opened.namespace.overrides("user-1");
  const remembered = opened.namespace.remember();
  if (remembered === undefined) throw new Error("nothing is known");
  return remembered;
}

interface OpenOptions extends Partial<Pick<NamespaceOptions, "flags" | "snapshot">> {
  /** By the wall clock, since the snapshot was taken. */
  readonly awayMs?: number;
}

function open(store: MemoryStore, { awayMs = 0, ...options }: OpenOptions = {}) {
  const clock = new FakeClock();
  clock.wallOffsetMs += awayMs;
  const namespace = openNamespace({
    flags: new Latest(table),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: KILL_TTL,
    flagTtlMs: FLAG_TTL,
    overrideTtlMs: FLAG_TTL,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 10_000,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
    ...options,
  });
  return { namespace, clock, [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose]() };
}
