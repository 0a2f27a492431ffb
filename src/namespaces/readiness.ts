import type { Clock } from "../system/clock.ts";

/** Something that is reached once and then stays so. */
export class Readiness {
  readonly #waiters = new Set<() => void>();
  #reached = false;

  get reached(): boolean {
    return this.#reached;
  }

  reach(): void {
    this.#reached = true;
    for (const tell of this.#waiters) tell();
    this.#waiters.clear();
  }

  /** Resolves once it is reached; rejects with the signal's reason if that aborts first. */
  wait(signal: AbortSignal): Promise<void> {
    if (this.#reached) return Promise.resolve();
    if (signal.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      this.#waiters.add(resolve);
      signal.addEventListener(
        "abort",
        () => {
          this.#waiters.delete(resolve);
          reject(signal.reason);
        },
        { once: true },
      );
    });
  }
}

/** Resolves when something is ready, after `withinMs`, or when `signal` aborts. Never rejects. */
export async function readyWithin(
  withinMs: number,
  waiting: { whenReady(signal: AbortSignal): Promise<void> },
  { clock, signal }: { readonly clock: Pick<Clock, "after">; readonly signal: AbortSignal },
): Promise<void> {
  const tooLong = new AbortController();
  const cancel = clock.after(withinMs, () => tooLong.abort());
  await waiting.whenReady(AbortSignal.any([tooLong.signal, signal])).catch(() => {});
  cancel();
}
