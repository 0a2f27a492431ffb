import { DeadlineError } from "../transport/deadline.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { RetrySettings } from "../upstream-settings.ts";

/** Connect's codes, and ours for what brought no answer, that another try may cure. */
const WORTH_RETRYING: ReadonlySet<string> = new Set([
  "unavailable",
  "deadline_exceeded",
  "resource_exhausted",
  "connection",
  "answer",
]);

/** Whether asking again, elsewhere if there is an elsewhere, may help. */
export function isWorthRetrying(error: unknown): boolean {
  if (error instanceof DeadlineError) return true;
  return error instanceof UpstreamError && WORTH_RETRYING.has(error.code);
}

/** The wait before a retry in milliseconds; `retry` counts from 0, `chance` is 0 to 1. */
export function retryDelayMs(settings: RetrySettings, retry: number, chance: number): number {
  const { initialIntervalMs, maxIntervalMs, multiplier, jitter } = settings;
  const intervalMs = Math.min(maxIntervalMs, initialIntervalMs * multiplier ** retry);
  return intervalMs * (1 + jitter * (2 * chance - 1));
}
