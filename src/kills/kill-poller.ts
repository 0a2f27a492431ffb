import type { Version } from "../evaluation/version.ts";
import { backoffMultiplier, type HealthTracker } from "../health/health-tracker.ts";
import type { Answer, FlagStore, Kills } from "../store/flag-store.ts";
import type { Alarm } from "../system/alarm.ts";
import type { Clock } from "../system/clock.ts";

export interface KillPollerOptions {
  readonly store: Pick<FlagStore, "kills">;
  readonly health: Pick<HealthTracker, "failuresInARow">;
  /** The version of the kill set in force; the store says what changed since. */
  readonly knownVersion: () => Version | undefined;
  /** Told of every poll that the store answered, and when it set out. */
  readonly onKills: (answer: Answer<Kills>, askedAt: number) => void;
  /** Ring it to poll at once. */
  readonly alarm: Alarm;
  readonly intervalMs: number;
  /** Share of the interval, 0 to 1. */
  readonly jitter: number;
  readonly clock: Clock;
  readonly random: () => number;
}

const PROBE_FIRST_MS = 250;
const PROBE_MAX_MS = 4_000;
const PROBE_JITTER = 0.2;

/**
 * Reads the kill set again and again until `signal` aborts.
 *
 * A poll that fails changes nothing: the last known kill set stays in force. While the store does not answer
 * the polls are also the probe that notices its return, so they never grow further apart than five seconds.
 */
export async function pollKills(options: KillPollerOptions, signal: AbortSignal): Promise<void> {
  const { store, health, knownVersion, onKills, alarm, clock } = options;
  while (!signal.aborted) {
    const askedAt = clock.now();
    try {
      onKills(await store.kills(knownVersion()), askedAt);
    } catch {
      // The observed store counts and reports it.
    }
    await alarm.wait(waitMs(options, health.failuresInARow), signal);
  }
}

function waitMs({ intervalMs, jitter, random }: KillPollerOptions, failuresInARow: number): number {
  const chance = 2 * random() - 1;
  const pollMs = intervalMs * backoffMultiplier(failuresInARow) * (1 + jitter * chance);
  if (failuresInARow === 0) return pollMs;
  const probeMs =
    Math.min(PROBE_FIRST_MS * 2 ** (failuresInARow - 1), PROBE_MAX_MS) * (1 + PROBE_JITTER * chance);
  return Math.min(pollMs, probeMs);
}
