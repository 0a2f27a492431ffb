import type { DependencyHealth } from "../health/dependency-health.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import { readyWithin } from "../namespaces/readiness.ts";
import type { Clock } from "../system/clock.ts";

/** How long whatever can wait does wait for a store that does not answer. */
const FIRST_ANSWERS_MS = 500;

/**
 * Resolves when the namespace is ready, when that has taken half a second, or when `signal` aborts: until then the store,
 * and this process, have enough to do with what readiness needs. Never rejects.
 */
export function firstAnswers(
  namespace: Pick<Namespace, "whenReady">,
  options: { readonly clock: Pick<Clock, "after">; readonly signal: AbortSignal },
): Promise<void> {
  return readyWithin(FIRST_ANSWERS_MS, namespace, options);
}

/**
 * Checks the dependencies from the first answers on until `signal` aborts, and once more when the namespace becomes ready
 * after that. Never rejects.
 */
export async function keepChecking(
  health: Pick<DependencyHealth, "run" | "sweepSoon">,
  namespace: Pick<Namespace, "ready" | "whenReady">,
  { clock, signal }: { readonly clock: Pick<Clock, "after">; readonly signal: AbortSignal },
): Promise<void> {
  await firstAnswers(namespace, { clock, signal });
  // The sweep that is under way then set out before.
  if (!namespace.ready) {
    namespace.whenReady(signal).then(
      () => health.sweepSoon(),
      () => {},
    );
  }
  await health.run(signal);
}
