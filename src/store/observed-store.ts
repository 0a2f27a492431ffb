import type { HealthTracker } from "../health/health-tracker.ts";
import type { Clock } from "../system/clock.ts";
import { type Admission, type CircuitBreaker, CircuitOpenError } from "../upstream/circuit-breaker.ts";
import type { FlagStore } from "./flag-store.ts";

/** What is asked of a store, as metrics and spans name it. */
export type StoreOperation = "flag_state" | "overrides" | "killed_flags";

export interface StoreObserver {
  readonly health: HealthTracker;
  readonly breaker: CircuitBreaker;
  readonly clock: Pick<Clock, "now">;
  /** Told of every call that left for the store. `error` is undefined if it answered. */
  readonly onCall: (operation: StoreOperation, durationMs: number, error: unknown) => void;
  /** The store answered again after it had failed. */
  readonly onRecovery: () => void;
  /** Runs a call, inside a span where tracing is on. */
  readonly trace: <T>(operation: StoreOperation, run: () => Promise<T>) => Promise<T>;
}

/**
 * The same store, with every call timed and counted towards health. Look-ups go through the breaker; kill
 * polls bypass it, and one that succeeds closes it.
 */
export function observeStore(store: FlagStore, observer: StoreObserver): FlagStore {
  const { health, breaker, clock, onCall, onRecovery, trace } = observer;

  /** The breaker learns of the outcome first: who is told of a recovery may ask at once. */
  async function observe<T>(
    operation: StoreOperation,
    breakerLearns: Learns,
    call: () => Promise<T>,
  ): Promise<T> {
    const startedAt = clock.now();
    try {
      const result = await trace(operation, call);
      breakerLearns.succeeded();
      onCall(operation, clock.now() - startedAt, undefined);
      const recovered = health.failuresInARow > 0;
      health.recordSuccess();
      if (recovered) onRecovery();
      return result;
    } catch (error) {
      breakerLearns.failed(error);
      onCall(operation, clock.now() - startedAt, error);
      health.recordFailure();
      throw error;
    }
  }

  async function lookUp<T>(operation: StoreOperation, call: () => Promise<T>): Promise<T> {
    const admission = breaker.tryAdmit();
    if (admission === undefined) throw new CircuitOpenError(0);
    return observe(operation, admission, call);
  }

  const bypass: Learns = { succeeded: () => breaker.recordBypassSuccess(), failed: () => {} };

  return {
    flagStates: (flagIds, atLeast) => lookUp("flag_state", () => store.flagStates(flagIds, atLeast)),
    overrides: (entityIds, atLeast) => lookUp("overrides", () => store.overrides(entityIds, atLeast)),
    kills: (since, atLeast) => observe("killed_flags", bypass, () => store.kills(since, atLeast)),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

type Learns = Pick<Admission, "succeeded" | "failed">;
