import { setTimeout as delay } from "node:timers/promises";

/** The passage of time as the daemon sees it. Tests hand in a clock they turn by hand. */
export interface Clock {
  /** Milliseconds since an arbitrary start. Never runs backwards, whatever happens to the wall clock. */
  now(): number;

  /** Milliseconds since 1970, for people and for other machines. May jump: never measure with it. */
  wallNow(): number;

  /** Resolves after `ms`, at the latest after 24 days; rejects with an AbortError as soon as `signal` aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;

  /**
   * Runs `callback` after `ms`, at the latest after 24 days, unless what it returns is called before. For what hardly
   * ever comes to its end, such as deadlines: where it is cancelled, nothing is thrown and nobody is woken.
   */
  after(ms: number, callback: () => void): () => void;
}

/** A timer of Node that is asked for more fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  wallNow: () => Date.now(),
  sleep: (ms, signal) => delay(Math.min(ms, TIMER_MAX_MS), undefined, signal === undefined ? {} : { signal }),
  after: (ms, callback) => {
    const timer = setTimeout(callback, Math.min(ms, TIMER_MAX_MS));
    return () => clearTimeout(timer);
  },
};
