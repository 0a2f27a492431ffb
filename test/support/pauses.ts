import { setImmediate } from "node:timers/promises";
import { isJudged, JUDGED } from "./judged.ts";

/** No pause of the event loop may be longer, in milliseconds: fault 8. */
const PAUSE_MS_MAX = 50;
/** How often is measured what has a longer pause: only what is judged is worth the time. */
const TRIES = isJudged ? 5 : 1;

/** Options of a test that measures pauses. */
export const PAUSES = JUDGED;

export interface Measured<T> {
  readonly result: T;
  /** The longest time for which nothing else in this process got its turn. */
  readonly pauseMs: number;
}

/** Tells the longest pause while something ran. In `npm run bench:pauses` it throws where that is over 50 ms. */
export function judgePause(what: string, pauseMs: number): void {
  console.log(`longest pause ${pauseMs.toFixed(0)} ms, at most ${PAUSE_MS_MAX} are allowed: ${what}`);
  assertShort(pauseMs);
}

/** Says nothing: for one of many that `judgePause` is told of together, so that it fails with its input at hand. */
export function assertShort(pauseMs: number): void {
  if (isJudged && pauseMs > PAUSE_MS_MAX)
    throw new Error(
      `The event loop paused for ${pauseMs.toFixed(0)} ms, at most ${PAUSE_MS_MAX} are allowed`,
    );
}

/** Watches the event loop while something runs. Time in which the machine was busy with other processes does not count. */
export async function measurePauses<T>(run: () => T | Promise<T>): Promise<Measured<T>> {
  const done = new AbortController();
  const pauseMs = longestPause(done.signal);
  const result = await Promise.resolve()
    .then(run)
    .finally(() => done.abort());
  return { result, pauseMs: await pauseMs };
}

/**
 * Measures once, and where pauses are judged again while one is too long: what is not there the next time was the
 * garbage collector's, or the compiler's.
 */
export async function measureShortest<M extends { readonly pauseMs: number }>(
  measure: () => Promise<M>,
): Promise<M> {
  let best = await measure();
  for (let i = 1; i < TRIES && best.pauseMs > PAUSE_MS_MAX; i++) {
    const again = await measure();
    if (again.pauseMs < best.pauseMs) best = again;
  }
  return best;
}

async function longestPause(signal: AbortSignal): Promise<number> {
  let longest = 0;
  let before = readClocks();
  while (!signal.aborted) {
    await setImmediate();
    const now = readClocks();
    longest = Math.max(longest, Math.min(now.wallMs - before.wallMs, now.cpuMs - before.cpuMs));
    before = now;
  }
  return longest;
}

function readClocks(): { readonly wallMs: number; readonly cpuMs: number } {
  const { user, system } = process.cpuUsage();
  return { wallMs: performance.now(), cpuMs: (user + system) / 1_000 };
}
