import { reasonOf } from "../store/postgres-connection.ts";
import type { ChangeFeed, ChangeFeedOptions, FeedState } from "./change-feed.ts";

/** What a try at following tells while it lasts. */
export interface Progress {
  /** Whatever changes from here on is noticed. */
  readonly connected: () => void;
  /** It has held for a while: should it be lost, then this is not the same trouble as before. */
  readonly settled: () => void;
}

/** As what a feed stands after a failure, and how long until it tries again. */
export interface Retry {
  readonly kind: "broken" | "lacking";
  readonly delayMs: number;
}

export interface KeepFollowingOptions extends Omit<ChangeFeedOptions, "onNotice"> {
  /** Follows until it fails or `signal` aborts, and rejects with the reason. */
  readonly follow: (progress: Progress, signal: AbortSignal) => Promise<never>;
  /** What comes after a failure; `chance` is 0 to 1. Unset: it is broken, for `reconnectDelayMs`. */
  readonly afterFailure?: (error: unknown, chance: number) => Retry;
  /** What the first try waits for; ends when the signal aborts, and never rejects. Unset: nothing. */
  readonly startsAfter?: ((signal: AbortSignal) => Promise<void>) | undefined;
}

const DELAY_FIRST_MS = 200;
const DELAY_MAX_MS = 5_000;

/** A feed that follows, and after each failure tries again, at first soon and at the latest after five seconds. */
export function keepFollowing(options: KeepFollowingOptions): ChangeFeed {
  const { clock, random, follow, afterFailure, startsAfter, onStateChange } = options;
  const stop = new AbortController();
  let state: FeedState = { kind: "connecting" };

  function enter(next: FeedState): void {
    const previous = state;
    state = next;
    if (!isSameTrouble(previous, next)) onStateChange(next);
  }

  async function run(): Promise<void> {
    let inVain = 0;
    const progress: Progress = {
      connected() {
        if (!stop.signal.aborted) enter({ kind: "connected", since: clock.now() });
      },
      settled() {
        inVain = 0;
      },
    };
    if (startsAfter !== undefined) await startsAfter(stop.signal);
    while (!stop.signal.aborted) {
      const error: unknown = await follow(progress, stop.signal).catch((cause: unknown) => cause);
      if (stop.signal.aborted) return;
      const chance = random();
      const { kind, delayMs } = afterFailure?.(error, chance) ?? {
        kind: "broken",
        delayMs: reconnectDelayMs(inVain, chance),
      };
      inVain += 1;
      enter({ kind, reason: reasonOf(error), retryAt: clock.now() + delayMs });
      await clock.sleep(delayMs, stop.signal).catch(() => {});
    }
  }

  const running = run();
  return {
    get state() {
      return state;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await running;
    },
  };
}

/** 0.1 s to 5 s, in milliseconds; `inVain` counts from 0, `chance` is 0 to 1. */
export function reconnectDelayMs(inVain: number, chance: number): number {
  return Math.min(DELAY_FIRST_MS * 2 ** inVain, DELAY_MAX_MS) * (0.5 + 0.5 * chance);
}

function isSameTrouble(a: FeedState, b: FeedState): boolean {
  return a.kind === b.kind && "reason" in a && "reason" in b && a.reason === b.reason;
}
