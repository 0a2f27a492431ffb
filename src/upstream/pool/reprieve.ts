import type { Clock } from "../../system/clock.ts";

export interface ReprieveOptions {
  /** Longest rest after a call that failed: how long the breaker stays open. */
  readonly restMaxMs: number;
  readonly clock: Pick<Clock, "now">;
}

/** After the first call that fails; twice as long after each other, until one is answered. */
const REST_FIRST_MS = 1_000;

/**
 * Leave to call an upstream although its breaker is open. A poll of the kill set goes past the breaker; that it was answered
 * shows that the upstream is back, and what it says has changed must be read. A call that fails ends the leave, and
 * polls give it again only after a rest: an upstream that answers nothing but polls is spared as by its breaker.
 */
export class Reprieve {
  readonly #options: ReprieveOptions;
  #holds = false;
  #restMs: number;
  /** Polls that set out before have no say. */
  #from = -Infinity;

  constructor(options: ReprieveOptions) {
    this.#options = options;
    this.#restMs = this.#atMost(REST_FIRST_MS);
  }

  get holds(): boolean {
    return this.#holds;
  }

  /** The breaker has opened: only what is asked from now on shows that the upstream is back. */
  end(): void {
    this.#holds = false;
    this.#from = Math.max(this.#from, this.#options.clock.now());
  }

  /** A poll that set out then was answered. */
  polled(askedAt: number): void {
    if (askedAt >= this.#from) this.#holds = true;
  }

  /** A call that it let through was answered. */
  succeeded(): void {
    this.#restMs = this.#atMost(REST_FIRST_MS);
  }

  /** A call that it let through has failed. Of several at once the first one counts. */
  failed(): void {
    if (!this.#holds) return;
    this.#holds = false;
    this.#from = this.#options.clock.now() + this.#restMs;
    this.#restMs = this.#atMost(2 * this.#restMs);
  }

  #atMost(restMs: number): number {
    return Math.min(restMs, this.#options.restMaxMs);
  }
}
