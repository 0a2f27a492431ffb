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
  /** What somebody waits for. */
  readonly wantedVersion: () => Version | undefined;
  readonly onPollBegins: () => void;
  /** It was answered, or it failed. */
  readonly onPollEnds: () => void;
  /** Told of every poll that the store answered, and when it set out. */
  readonly onKills: (answer: Answer<Kills>, askedAt: number) => void;
  /** Ring it to poll at once. */
  readonly alarm: Alarm;
  readonly intervalMs: number;
  /** First pause while the store does not answer: 250 ms unless set. */
  readonly probeFirstMs?: number;
  /** Share of the interval, 0 to 1. */
  readonly jitter: number;
  readonly clock: Clock;
  readonly random: () => number;
}

const PROBE_FIRST_MS = 250;
const PROBE_MAX_MS = 4_000;
const PROBE_JITTER = 0.2;
/** However old what an upstream says, it is not asked more often than this share of the interval. */
const PAUSE_MIN = 0.1;

/**
 * Reads the kill set again and again until `signal` aborts.
 *
 * A poll that fails changes nothing: the last known kill set stays in force. While the store does not answer
 * the polls are also the probe that notices its return, so they never grow further apart than five seconds.
 */
export async function pollKills(options: KillPollerOptions, signal: AbortSignal): Promise<void> {
  const { store, health, knownVersion, wantedVersion, onKills, alarm, clock } = options;
  while (!signal.aborted) {
    const askedAt = clock.now();
    let ageMs = 0;
    options.onPollBegins();
    try {
      const known = knownVersion();
      const answer = await store.kills(known, wantedVersion() ?? known);
      ({ ageMs } = answer);
      onKills(answer, askedAt);
    } catch {
      // The observed store counts and reports it.
    }
    options.onPollEnds();
    await alarm.wait(waitMs(options, health.failuresInARow, ageMs), signal);
  }
}

/** An answer that was old when it came is asked again the earlier: intervals do not add up over tiers. */
function waitMs(
  { intervalMs, probeFirstMs = PROBE_FIRST_MS, jitter, random }: KillPollerOptions,
  failuresInARow: number,
  ageMs: number,
): number {
  const chance = 2 * random() - 1;
  const pollMs = intervalMs * backoffMultiplier(failuresInARow) * (1 + jitter * chance);
  if (failuresInARow === 0) return Math.max(pollMs - ageMs, pollMs * PAUSE_MIN);
  const probeMs =
    Math.min(probeFirstMs * 2 ** (failuresInARow - 1), PROBE_MAX_MS) * (1 + PROBE_JITTER * chance);
  return Math.min(pollMs, probeMs);
}
