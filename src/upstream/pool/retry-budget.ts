/** Retries that a pool may make before its first calls have earned any. */
const RESERVE = 2;
/** A long good time does not save up for a storm. */
const SAVED_MAX = 10;

/** Keeps retries to a share of all calls, so that an upstream in trouble is not called more for it. */
export class RetryBudget {
  #saved = RESERVE;

  /** A first try is made: it earns `share` of a retry, 0 to 1. */
  earn(share: number): void {
    this.#saved = Math.min(SAVED_MAX, this.#saved + share);
  }

  /** Takes a retry. False: there is none left. */
  trySpend(): boolean {
    // Ten tenths fall short of one by a rounding error.
    if (this.#saved < 1 - 1e-9) return false;
    this.#saved -= 1;
    return true;
  }
}
