import type { Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";

/** How long whatever can wait does wait for a store that does not answer. */
const FIRST_ANSWERS_MS = 500;

/**
 * Resolves when the namespace is ready, when that has taken half a second, or when `signal` aborts: until then the store,
 * and this process, have enough to do with what readiness needs. Never rejects.
 */
export async function firstAnswers(
  namespace: Pick<Namespace, "whenReady">,
  { clock, signal }: { readonly clock: Pick<Clock, "after">; readonly signal: AbortSignal },
): Promise<void> {
  const tooLong = new AbortController();
  const cancel = clock.after(FIRST_ANSWERS_MS, () => tooLong.abort());
  await namespace.whenReady(AbortSignal.any([tooLong.signal, signal])).catch(() => {});
  cancel();
}
