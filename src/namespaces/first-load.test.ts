import { expect, test, vi } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { type CallPlan, MemoryStore } from "../../test/support/memory-store.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import { Latest } from "../system/latest.ts";
import { type NamespaceOptions, openNamespace } from "./namespace.ts";

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

test("the store has been heard once it has told kills and flags, be it nothing newer than what an earlier process knew", async () => {
  const knowing = new MemoryStore();
  knowing.set(stateOf("digest/1", { mode: "killed" }));
  await using earlier = openHeld({ store: knowing });
  earlier.deliver();
  await settle();
  const snapshot = earlier.namespace.remember();
  if (snapshot === undefined) throw new Error("expected the earlier process to know something");

  await using opened = openHeld({ snapshot });
  const { namespace, deliver } = opened;
  const heard = vi.fn<() => void>();
  void namespace.whenHeard(new AbortController().signal).then(heard);
  await settle();
  expect(namespace.ready).toBe(true);
  expect(heard, "kills have been told, flags have not").not.toHaveBeenCalled();
  deliver();
  await settle();
  expect(heard).toHaveBeenCalledOnce();
  expect(namespace.evaluate("digest/1", ""), "the store is the older one").toMatchObject({
    source: "killed",
  });
});

test("a store that is away is not heard, whatever an earlier process knew, and the wait for it ends", async () => {
  await using earlier = openHeld();
  earlier.deliver();
  await settle();
  const snapshot = earlier.namespace.remember();
  const store = new MemoryStore();
  store.away = true;
  await using opened = openHeld({ store, ...(snapshot === undefined ? {} : { snapshot }) });
  const stop = new AbortController();
  const waiting = opened.namespace.whenHeard(stop.signal);
  await settle();
  expect(opened.namespace.ready).toBe(true);
  stop.abort(new Error("stopped"));
  await expect(waiting).rejects.toThrow("stopped");
});

interface HeldOptions extends Pick<NamespaceOptions, "snapshot"> {
  readonly store?: MemoryStore;
}

/** A namespace whose first load is on its way until it is delivered or fails. Its clock stands still. */
function openHeld({ store = new MemoryStore(), ...options }: HeldOptions = {}) {
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
    ...options,
  });
  return {
    namespace,
    store,
    deliver: () => deliver(),
    fail: () => fail(new Error("too late")),
    [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose](),
  };
}
