import type { Alarm } from "../system/alarm.ts";

export interface RefreshAheadOptions {
  /** Asks the store for all defined flags. False if it failed. */
  readonly load: () => Promise<boolean>;
  /** How old the oldest of them is. Undefined while none is known. */
  readonly ageMs: () => number | undefined;
  /** Ring it to load at once. */
  readonly alarm: Alarm;
  /** 0: load once, then only when the alarm rings. */
  readonly ttlMs: number;
  /** Share of the TTL, 0 to 1. */
  readonly jitter: number;
  readonly random: () => number;
}

/** Where in a TTL the refresh sets out, so that it is done before the first entry expires. */
const AHEAD = 0.8;
/** After the first failure, and after many. */
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 4_000;
/** However widely TTLs are spread, not more often than this share of one. */
const PAUSE_MIN = 0.1;

/**
 * Keeps all defined flags fresh until `signal` aborts, so that no evaluation of a defined flag waits for the
 * store. A load that fails is tried again soon; while the breaker is open that costs nothing.
 */
export async function refreshAhead(options: RefreshAheadOptions, signal: AbortSignal): Promise<void> {
  const { load, ageMs, alarm, ttlMs, jitter, random } = options;
  const restMs = ttlMs * Math.max((1 - jitter) * AHEAD, PAUSE_MIN);
  let failures = 0;
  while (!signal.aborted) {
    const loaded = await load();
    failures = loaded ? 0 : failures + 1;
    // A little earlier by chance, so that daemons started together do not ask together for ever.
    const freshMs = restMs * (1 - 0.1 * random());
    // What another evaluator told may have been old when it came.
    const pauseMs = ttlMs === 0 ? Infinity : Math.max(freshMs - (ageMs() ?? 0), ttlMs * PAUSE_MIN);
    const retryMs = Math.min(RETRY_FIRST_MS * 2 ** (failures - 1), RETRY_MAX_MS) * (0.5 + 0.5 * random());
    await alarm.wait(loaded ? pauseMs : retryMs, signal);
  }
}
