import type { Alarm } from "../system/alarm.ts";

export interface RefreshAheadOptions {
  /** Asks the store for all defined flags. False if it failed. */
  readonly load: () => Promise<boolean>;
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
const RETRY_MS = 1_000;
/** However widely TTLs are spread, not more often than this share of one. */
const PAUSE_MIN = 0.1;

/**
 * Keeps all defined flags fresh until `signal` aborts, so that no evaluation of a defined flag waits for the
 * store. A load that fails is tried again soon; while the breaker is open that costs nothing.
 */
export async function refreshAhead(options: RefreshAheadOptions, signal: AbortSignal): Promise<void> {
  const { load, alarm, ttlMs, jitter, random } = options;
  const restMs = ttlMs * Math.max((1 - jitter) * AHEAD, PAUSE_MIN);
  while (!signal.aborted) {
    const loaded = await load();
    // A little earlier by chance, so that daemons started together do not ask together for ever.
    const pauseMs = ttlMs === 0 ? Infinity : restMs * (1 - 0.1 * random());
    await alarm.wait(loaded ? pauseMs : RETRY_MS, signal);
  }
}
