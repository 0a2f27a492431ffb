import { setImmediate } from "node:timers/promises";
import type { Clock } from "../../src/system/clock.ts";

interface Sleeper {
  readonly wakeAt: number;
  readonly wake: () => void;
}

/** A clock that stands still until a test moves it. */
export class FakeClock implements Clock {
  #now = 0;
  #sleepers: Sleeper[] = [];
  /** Added to `now()` to make the wall clock; a test may step it. */
  wallOffsetMs = Date.UTC(2026, 0, 1);

  now(): number {
    return this.#now;
  }

  wallNow(): number {
    return this.wallOffsetMs + this.#now;
  }

  get sleeperCount(): number {
    return this.#sleepers.length;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const giveUp = () => {
        this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
        reject(signal?.reason);
      };
      const wake = () => {
        signal?.removeEventListener("abort", giveUp);
        resolve();
      };
      const sleeper = { wakeAt: this.#now + ms, wake };
      this.#sleepers.push(sleeper);
      signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  after(ms: number, callback: () => void): () => void {
    const sleeper = { wakeAt: this.#now + ms, wake: callback };
    this.#sleepers.push(sleeper);
    return () => {
      this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
    };
  }

  /** Moves time on, wakes whoever slept that long, and lets them run. */
  async advance(ms: number): Promise<void> {
    const until = this.#now + ms;
    for (;;) {
      const next = this.#sleepers.reduce<Sleeper | undefined>(
        (first, sleeper) =>
          sleeper.wakeAt <= until && (first === undefined || sleeper.wakeAt < first.wakeAt) ? sleeper : first,
        undefined,
      );
      if (next === undefined) break;
      this.#sleepers = this.#sleepers.filter((sleeper) => sleeper !== next);
      this.#now = Math.max(this.#now, next.wakeAt);
      next.wake();
      await settle();
    }
    this.#now = until;
    await settle();
  }
}

/** Lets everything that is ready to run, run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await setImmediate();
}
