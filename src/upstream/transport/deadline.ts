import { setMaxListeners } from "node:events";
import type { Clock } from "../../system/clock.ts";

/** How long something may take, however many calls it makes. */
export interface Deadline {
  /** On the clock's monotonic scale, in milliseconds. */
  readonly at: number;
  /** Aborts then, or as soon as the answer is no longer wanted. */
  readonly signal: AbortSignal;
}

/** The time allowed has passed. */
export class DeadlineError extends Error {
  override readonly name = "DeadlineError";
}

export interface DeadlineOptions {
  readonly timeoutMs: number;
  readonly clock: Pick<Clock, "now" | "after">;
  /** Ends it earlier, with its own reason. */
  readonly outer?: AbortSignal | undefined;
}

/** One for all: making one for each call would cost as much as the call. */
const OVER = new Error("nobody waits for it any more");

/**
 * Runs with a deadline whose signal ends whatever is still under way, with a DeadlineError as its reason.
 * `run` has to heed it: this waits for nothing else.
 */
export async function withDeadline<T>(
  { timeoutMs, clock, outer }: DeadlineOptions,
  run: (deadline: Deadline) => Promise<T>,
): Promise<T> {
  outer?.throwIfAborted();
  const over = new AbortController();
  // One for each call under way: Node takes more than ten for a leak.
  setMaxListeners(0, over.signal);
  const end = () => over.abort(outer?.reason);
  outer?.addEventListener("abort", end, { once: true });
  const cancel = clock.after(timeoutMs, () =>
    over.abort(new DeadlineError(`no answer within ${Math.round(timeoutMs)} ms`)),
  );
  try {
    return await run({ at: clock.now() + timeoutMs, signal: over.signal });
  } finally {
    outer?.removeEventListener("abort", end);
    cancel();
    // What failed early may have left other calls behind.
    over.abort(OVER);
  }
}
