import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, tableOf } from "../../test/support/flag-builders.ts";
import { type CallPlan, MemoryStore } from "../../test/support/memory-store.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import { Latest } from "../system/latest.ts";
import { openNamespace } from "./namespace.ts";

test("a feed that connects during the first load does not have the flags loaded once more", async () => {
  await using opened = openHeld();
  const { namespace, store, deliver } = opened;
  namespace.storeReturned();
  await settle();
  expect([namespace.ready, store.countCalls("flagStates")]).toEqual([false, 1]);
  deliver();
  await settle();
  expect([namespace.ready, store.countCalls("flagStates")]).toEqual([true, 1]);
});

test("a first load that fails is tried again at once where the store has returned meanwhile", async () => {
  await using opened = openHeld();
  const { namespace, store, fail } = opened;
  namespace.storeReturned();
  await settle();
  fail();
  await settle();
  expect([namespace.ready, store.countCalls("flagStates")]).toEqual([true, 2]);
});

/** A namespace whose first load is on its way until it is delivered or fails. Its clock stands still. */
function openHeld() {
  const store = new MemoryStore();
  let deliver = () => {};
  let fail: (error: Error) => void = () => {};
  const before = new Promise<void>((resolve, reject) => {
    deliver = resolve;
    fail = reject;
  });
  let loads = 0;
  store.plan = ({ operation }): CallPlan => {
    if (operation !== "flagStates" || ++loads > 1) return {};
    return { before };
  };
  const namespace = openNamespace({
    flags: new Latest(tableOf(defineFlag("digest/1"), defineFlag("digest/2"))),
    store,
    clock: new FakeClock(),
    random: () => 0.5,
    killTtlMs: 30_000,
    flagTtlMs: 300_000,
    overrideTtlMs: 300_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 10_000,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  return {
    namespace,
    store,
    deliver: () => deliver(),
    fail: () => fail(new Error("too late")),
    [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose](),
  };
}
