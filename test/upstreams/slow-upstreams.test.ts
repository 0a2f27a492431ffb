import { expect, test } from "vitest";
import { openNamespace } from "../../src/namespaces/namespace.ts";
import { openUpstreamStore } from "../../src/store/upstream-store.ts";
import { Latest } from "../../src/system/latest.ts";
import { FakeClock, settle } from "../support/fake-clock.ts";
import { defineFlag, tableOf } from "../support/flag-builders.ts";
import { silentEvents } from "../support/silent-events.ts";
import { openSlowPool, SlowUpstream } from "../support/slow-upstream.ts";

const FETCH_TIMEOUT_MS = 500;

test("a plain evaluator of thousands of flags that takes its time for each is loaded round by round, and has not failed", async () => {
  const clock = new FakeClock();
  const slow = new SlowUpstream("pbflags", clock);
  slow.latencyMs = 30;
  const { pool, failures } = openSlowPool({ slow }, clock);
  const storeFailures: unknown[] = [];
  const flags = Array.from({ length: 5_000 }, (_, i) => defineFlag(`a/${i + 1}`));
  await using namespace = openNamespace({
    flags: new Latest(tableOf(...flags)),
    store: openUpstreamStore({ pool, fetchTimeoutMs: FETCH_TIMEOUT_MS, clock }),
    clock,
    random: () => 0.5,
    killTtlMs: 30_000,
    flagTtlMs: 300_000,
    overrideTtlMs: 300_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0,
    events: {
      ...silentEvents,
      onStoreCall: (_operation, _durationMs, error) => {
        if (error !== undefined) storeFailures.push(error);
      },
    },
    traceStoreCall: (_, run) => run(),
  });
  await clock.advance(2_000);
  expect(namespace.cachedFlagCount).toBeGreaterThan(500);

  // Who asks meanwhile for something else is answered in time.
  const reading = timed(namespace.evaluate("a/1", "ann"), clock);
  await settle();
  await clock.advance(FETCH_TIMEOUT_MS);
  const { result, tookMs } = await reading;
  expect(result.source).toBe("override");
  expect(tookMs).toBeLessThan(FETCH_TIMEOUT_MS);

  while (!namespace.ready && clock.now() < 20_000) await clock.advance(100);
  expect(namespace.cachedFlagCount).toBe(5_000);
  expect(clock.now()).toBeLessThan(15_000);
  expect({ failures, storeFailures }).toEqual({ failures: [], storeFailures: [] });
  expect(pool.upstreams).toMatchObject([{ state: "up", score: 3, breaker: "closed" }]);
  // Sixteen for the flags, one for the kill set and one for the entity.
  expect(slow.mostUnderWay).toBeLessThanOrEqual(18);
});

test.each(["pbflags", "pbflagd"] as const)(
  "entities that each have their place in a pool of %s are asked for within one fetch_timeout, and what was told by then counts",
  async (kind) => {
    for (const latencyMs of [10, 20, 60, 100, 170, 200, 240]) {
      const clock = new FakeClock();
      const upstreams = { a: new SlowUpstream(kind, clock), b: new SlowUpstream(kind, clock) };
      for (const upstream of Object.values(upstreams)) upstream.latencyMs = latencyMs;
      const { pool, failures } = openSlowPool(upstreams, clock, { strategy: "consistent-hash" });
      await using store = openUpstreamStore({ pool, fetchTimeoutMs: FETCH_TIMEOUT_MS, clock });
      let left = Array.from({ length: 500 }, (_, i) => `entity-${i}`);
      const shares: number[] = [];
      for (let i = 0; i < 3 && left.length > 0; i += 1) {
        const reading = timed(store.overrides(left), clock);
        await settle();
        await clock.advance(FETCH_TIMEOUT_MS);
        const { result, tookMs } = await reading;
        const { untold = new Set() } = result;
        expect(tookMs, `at ${latencyMs} ms`).toBeLessThanOrEqual(FETCH_TIMEOUT_MS);
        shares.push(left.length - untold.size);
        left = left.filter((entityId) => untold.has(entityId));
      }
      expect(Math.min(...shares), `at ${latencyMs} ms`).toBeGreaterThanOrEqual(16);
      // However little there was time for, nobody is to blame for it.
      expect(failures, `at ${latencyMs} ms`).toEqual([]);
    }
  },
);

/** With how long it took by the clock. */
async function timed<T>(
  asked: T | Promise<T>,
  clock: FakeClock,
): Promise<{ readonly result: T; readonly tookMs: number }> {
  const askedAt = clock.now();
  const result = await asked;
  return { result, tookMs: clock.now() - askedAt };
}
