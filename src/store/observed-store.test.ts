import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { HealthTracker } from "../health/health-tracker.ts";
import { CircuitBreaker, CircuitOpenError } from "../upstream/circuit-breaker.ts";
import { observeStore } from "./observed-store.ts";

test("every call that leaves is counted towards health; one that the breaker refuses is none", async () => {
  const { observed, store, health, calls } = createObserved();
  await observed.flagStates(["a/1"]);
  expect(health.status).toBe("serving");
  store.away = true;
  for (const call of [
    observed.flagStates(["a/1"]),
    observed.overrides(["user-1"]),
    observed.kills(undefined),
  ]) {
    await expect(call).rejects.toThrow("away");
  }
  expect(health.status).toBe("degraded");
  await expect(observed.flagStates(["a/1"])).rejects.toThrow(CircuitOpenError);
  expect(health.failuresInARow).toBe(3);
  expect(calls).toEqual(["flag_state ok", "flag_state failed", "overrides failed", "killed_flags failed"]);
});

test("a kill poll bypasses the open breaker, and look-ups are let through before anybody hears of the recovery", async () => {
  const states: string[] = [];
  const { observed, store, breaker } = createObserved(() => states.push(breaker.state));
  store.away = true;
  await Promise.allSettled([observed.flagStates(["a/1"]), observed.flagStates(["a/1"])]);
  expect(breaker.state).toBe("open");
  await expect(observed.kills(undefined)).rejects.toThrow("away");
  expect(breaker.state, "a poll that fails says nothing new").toBe("open");

  store.away = false;
  await observed.kills(undefined);
  expect(states).toEqual(["closed"]);
  await observed.flagStates(["a/1"]);
  expect(states, "told once").toHaveLength(1);
});

test("a trial that succeeds has closed the breaker when the recovery is told", async () => {
  const states: string[] = [];
  const { observed, store, breaker, clock } = createObserved(() => states.push(breaker.state));
  store.away = true;
  await Promise.allSettled([observed.flagStates(["a/1"]), observed.flagStates(["a/1"])]);
  store.away = false;
  await clock.advance(1_000);
  await observed.overrides(["user-1"]);
  expect(states).toEqual(["closed"]);
});

test("a look-up to which nothing was told is neither a failure nor a recovery, nor a trial", async () => {
  const recoveries: string[] = [];
  const { observed, store, health, breaker, clock, calls } = createObserved(() => recoveries.push("told"));
  await observed.kills(undefined);
  store.away = true;
  await Promise.allSettled([observed.flagStates(["a/1"]), observed.flagStates(["a/1"])]);
  await clock.advance(1_000);
  store.away = false;
  store.flagStates = async (flagIds) => ({
    version: undefined,
    ageMs: 0,
    value: new Map(),
    untold: new Set(flagIds),
  });
  for (let i = 0; i < 3; i += 1) await observed.flagStates(["a/1", "a/2"]);
  expect([health.failuresInARow, breaker.state, recoveries]).toEqual([2, "half-open", []]);
  expect(calls.slice(-3)).toEqual(["flag_state ok", "flag_state ok", "flag_state ok"]);

  store.flagStates = async () => ({
    version: undefined,
    ageMs: 0,
    value: new Map(),
    untold: new Set(["a/1"]),
  });
  await observed.flagStates(["a/1", "a/2"]);
  expect([health.failuresInARow, breaker.state, recoveries]).toEqual([0, "closed", ["told"]]);
});

function createObserved(onRecovery: () => void = () => {}) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const health = new HealthTracker(clock);
  const breaker = new CircuitBreaker({
    failuresMax: 2,
    callsMin: 2,
    openMs: 1_000,
    successesToClose: 1,
    clock,
  });
  const calls: string[] = [];
  const observed = observeStore(store, {
    health,
    breaker,
    clock,
    onCall: (operation, _, error) => calls.push(`${operation} ${error === undefined ? "ok" : "failed"}`),
    onRecovery,
    trace: (_, run) => run(),
  });
  return { clock, store, health, breaker, observed, calls };
}
