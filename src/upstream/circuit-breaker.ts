import type { Clock } from "../system/clock.ts";

export type BreakerState = "closed" | "open" | "half-open";

/** The call was not made: what it would have called has kept failing, or is just being tried. */
export class CircuitOpenError extends Error {
  override readonly name = "CircuitOpenError";
  /** When asking again may help. 0: as soon as the trial that is under way has ended. */
  readonly retryInMs: number;

  constructor(retryInMs: number) {
    super(`Cannot call: the circuit is open, got ${Math.ceil(retryInMs)} ms until the next trial`);
    this.retryInMs = retryInMs;
  }
}

export interface CircuitBreakerOptions {
  /** Failures in a row that open the circuit … */
  readonly failuresMax: number;
  /** … once so many calls have ended since it closed. */
  readonly callsMin: number;
  /** How long it stays open before a trial. */
  readonly openMs: number;
  /** Trials in a row that have to succeed before it closes. */
  readonly successesToClose: number;
  readonly clock: Pick<Clock, "now">;
  readonly onChange?: (change: BreakerChange) => void;
}

export interface BreakerChange {
  readonly from: BreakerState;
  readonly to: BreakerState;
  /** Why it opened. */
  readonly lastFailure: Failure | undefined;
}

export interface Failure {
  readonly error: unknown;
  /** On the clock's monotonic scale, in milliseconds. */
  readonly at: number;
}

/** Leave to make one call. Say once what became of it; what is said after that counts for nothing. */
export interface Admission {
  succeeded(): void;
  failed(error: unknown): void;
  /** The call was given up, and tells nothing about the other side. */
  abandoned(): void;
}

/** Counts since the last change. */
export interface BreakerCounts {
  readonly ended: number;
  readonly failuresInARow: number;
}

const NO_CALLS: BreakerCounts = { ended: 0, failuresInARow: 0 };

/** Each change makes a new one, so that a call can tell whether the state it set out in still holds. */
type Phase =
  | { readonly kind: "closed" }
  | { readonly kind: "open"; readonly since: number }
  | { readonly kind: "half-open"; trialUnderWay: boolean };

/**
 * Stops calling what keeps failing, and tries again with one call at a time once it has rested.
 * A call that set out before a change has no say in it.
 */
export class CircuitBreaker {
  readonly #options: CircuitBreakerOptions;
  #phase: Phase = { kind: "closed" };
  #counts = NO_CALLS;
  #lastFailure: Failure | undefined;

  constructor(options: CircuitBreakerOptions) {
    this.#options = options;
  }

  /** `half-open` from the moment a trial would be let through. */
  get state(): BreakerState {
    return this.#phase.kind === "open" && this.#restMs() === 0 ? "half-open" : this.#phase.kind;
  }

  /** Whether a call would be let through now. */
  get admits(): boolean {
    return this.state === "half-open" ? !this.#isTrialUnderWay() : this.state === "closed";
  }

  get counts(): BreakerCounts {
    return this.#counts;
  }

  /** The last one that counted; kept when the circuit closes. */
  get lastFailure(): Failure | undefined {
    return this.#lastFailure;
  }

  /** Makes the call, or rejects with `CircuitOpenError`. Any rejection counts as a failure. */
  async run<T>(call: () => Promise<T>): Promise<T> {
    const admission = this.tryAdmit();
    if (admission === undefined) throw new CircuitOpenError(this.#restMs());
    try {
      const result = await call();
      admission.succeeded();
      return result;
    } catch (error) {
      admission.failed(error);
      throw error;
    }
  }

  /** For callers that judge the outcome themselves. Undefined: do not call. */
  tryAdmit(): Admission | undefined {
    if (!this.admits) return undefined;
    if (this.#phase.kind === "open") this.#enter({ kind: "half-open", trialUnderWay: false });
    const phase = this.#phase;
    if (phase.kind === "half-open") phase.trialUnderWay = true;
    let pending = true;
    const settle = (count: () => void) => {
      const counts = pending && this.#phase === phase;
      pending = false;
      if (!counts) return;
      if (phase.kind === "half-open") phase.trialUnderWay = false;
      count();
    };
    return {
      succeeded: () => settle(() => this.#countSuccess()),
      failed: (error) => settle(() => this.#countFailure(error)),
      abandoned: () => settle(() => {}),
    };
  }

  /** A call that did not ask for leave has succeeded: the other side is back. */
  recordBypassSuccess(): void {
    if (this.#phase.kind !== "closed") this.#enter({ kind: "closed" });
  }

  /** Closes, whatever happened. */
  reset(): void {
    this.#enter({ kind: "closed" });
    this.#lastFailure = undefined;
  }

  #countSuccess(): void {
    this.#counts = { ended: this.#counts.ended + 1, failuresInARow: 0 };
    const trialsDone =
      this.#phase.kind === "half-open" && this.#counts.ended >= this.#options.successesToClose;
    if (trialsDone) this.#enter({ kind: "closed" });
  }

  #countFailure(error: unknown): void {
    const { failuresMax, callsMin, clock } = this.#options;
    this.#lastFailure = { error, at: clock.now() };
    this.#counts = { ended: this.#counts.ended + 1, failuresInARow: this.#counts.failuresInARow + 1 };
    const tooMany = this.#counts.failuresInARow >= failuresMax && this.#counts.ended >= callsMin;
    if (this.#phase.kind === "half-open" || tooMany) this.#enter({ kind: "open", since: clock.now() });
  }

  #enter(next: Phase): void {
    const from = this.#phase.kind;
    this.#phase = next;
    this.#counts = NO_CALLS;
    if (from === next.kind) return;
    this.#options.onChange?.({ from, to: next.kind, lastFailure: this.#lastFailure });
  }

  #isTrialUnderWay(): boolean {
    return this.#phase.kind === "half-open" && this.#phase.trialUnderWay;
  }

  #restMs(): number {
    if (this.#phase.kind !== "open") return 0;
    return Math.max(0, this.#phase.since + this.#options.openMs - this.#options.clock.now());
  }
}
