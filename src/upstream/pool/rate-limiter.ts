import type { Clock } from "../../system/clock.ts";
import type { RateLimitSettings } from "../upstream-settings.ts";

/**
 * A token bucket that remembers one number: when the bucket would be full again (the generic cell rate algorithm,
 * ITU-T I.371).
 */
export class RateLimiter {
  readonly #intervalMs: number;
  readonly #burstMs: number;
  readonly #clock: Pick<Clock, "now">;
  #fullAt = -Infinity;

  constructor({ requestsPerSecond, burstSize }: RateLimitSettings, clock: Pick<Clock, "now">) {
    this.#intervalMs = 1_000 / requestsPerSecond;
    this.#burstMs = this.#intervalMs * burstSize;
    this.#clock = clock;
  }

  /** Takes a token. False: there is none, and nothing is taken. */
  tryTake(): boolean {
    const now = this.#clock.now();
    const fullAt = Math.max(this.#fullAt, now) + this.#intervalMs;
    // What adds up to the burst may miss it by a rounding error.
    if (fullAt - now > this.#burstMs + 1e-6) return false;
    this.#fullAt = fullAt;
    return true;
  }
}
