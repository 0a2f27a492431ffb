import type { Clock } from "../system/clock.ts";

export type HealthStatus = "connecting" | "serving" | "degraded";

/** Failures in a row after which the store counts as lost. */
const DEGRADED_AFTER = 3;

/** Keeps count of how one store has been answering. "No such row" is an answer. */
export class HealthTracker {
  readonly #clock: Pick<Clock, "now">;
  #failuresInARow = 0;
  #lastSuccessAt: number | undefined;

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  recordSuccess(): void {
    this.#failuresInARow = 0;
    this.#lastSuccessAt = this.#clock.now();
  }

  recordFailure(): void {
    this.#failuresInARow += 1;
  }

  get failuresInARow(): number {
    return this.#failuresInARow;
  }

  get status(): HealthStatus {
    if (this.#failuresInARow >= DEGRADED_AFTER) return "degraded";
    return this.#lastSuccessAt === undefined ? "connecting" : "serving";
  }

  /** Undefined until the store has answered once. */
  get msSinceSuccess(): number | undefined {
    return this.#lastSuccessAt === undefined ? undefined : this.#clock.now() - this.#lastSuccessAt;
  }
}

/** How many times longer to wait before asking a store that keeps failing. */
export function backoffMultiplier(failuresInARow: number): number {
  if (failuresInARow === 0) return 1;
  if (failuresInARow <= 2) return 2;
  if (failuresInARow <= 5) return 4;
  return 8;
}
