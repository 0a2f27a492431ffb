const FIRST_MS = 100;
const MAX_MS = 30_000;
/** Share of a delay, to either side. */
const JITTER = 0.2;

/** The wait before a restart in milliseconds; `failures` counts those in a row before this one, `chance` is 0 to 1. */
export function restartDelayMs(failures: number, chance: number): number {
  const delayMs = Math.min(MAX_MS, FIRST_MS * 2 ** failures);
  return Math.min(MAX_MS, delayMs * (1 + JITTER * (2 * chance - 1)));
}
