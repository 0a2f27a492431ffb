import type { HealthTracker } from "../health/health-tracker.ts";
import type { Clock } from "../system/clock.ts";
import { type Admission, type CircuitBreaker, CircuitOpenError } from "../upstream/circuit-breaker.ts";
import type { Batch, FlagStore } from "./flag-store.ts";

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
 * polls bypass it, and one that succeeds closes it. A look-up to which nothing was told says nothing of the store.
 */
export function observeStore(store: FlagStore, observer: StoreObserver): FlagStore {
  const { health, breaker, clock, onCall, onRecovery, trace } = observer;

  /** The breaker learns of the outcome first: who is told of a recovery may ask at once. */
  async function observe<T>(
    operation: StoreOperation,
    breakerLearns: Admission,
    call: () => Promise<T>,
    tellsNothing: (result: T) => boolean = () => false,
  ): Promise<T> {
    const startedAt = clock.now();
    try {
      const result = await trace(operation, call);
      const isUntold = tellsNothing(result);
      if (isUntold) breakerLearns.abandoned();
      else breakerLearns.succeeded();
      onCall(operation, clock.now() - startedAt, undefined);
      if (isUntold) return result;
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

  async function lookUp<V>(
    operation: StoreOperation,
    ids: readonly string[],
    call: () => Promise<Batch<V>>,
  ): Promise<Batch<V>> {
    const admission = breaker.tryAdmit();
    if (admission === undefined) throw new CircuitOpenError(0);
    return observe(operation, admission, call, ({ untold }) => ids.every((id) => untold?.has(id) === true));
  }

  const bypass: Admission = {
    succeeded: () => breaker.recordBypassSuccess(),
    failed: () => {},
    abandoned: () => {},
  };

  return {
    questionsAtOnce: store.questionsAtOnce,
    flagStates: (flagIds, atLeast) => lookUp("flag_state", flagIds, () => store.flagStates(flagIds, atLeast)),
    overrides: (entityIds, atLeast) =>
      lookUp("overrides", entityIds, () => store.overrides(entityIds, atLeast)),
    kills: (since, atLeast) => observe("killed_flags", bypass, () => store.kills(since, atLeast)),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}
