import type { Version } from "../../evaluation/version.ts";
import type { Clock } from "../../system/clock.ts";
import { type Admission, type BreakerChange, CircuitBreaker } from "../circuit-breaker.ts";
import type { Transport } from "../transport/transport.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { Reprieve } from "./reprieve.ts";
import type { UpstreamKind, UpstreamReport } from "./upstream-pool.ts";

export interface MemberOptions {
  readonly settings: UpstreamSettings;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly onBreakerChange: (change: BreakerChange) => void;
}

/** What a check learnt of an upstream. */
export interface Condition {
  readonly kind: UpstreamKind;
  readonly status: "connecting" | "serving" | "degraded";
  readonly version: Version | undefined;
  /** Empty where it has no descriptor set, or does not say. */
  readonly descriptorHash: string;
}

/** Share of the newest call in the moving average of latencies. */
const NEWEST_SHARE = 0.2;

/** One upstream of a pool: its connection, its breaker and limiter, and how it has been doing. */
export class Member implements AsyncDisposable {
  readonly settings: UpstreamSettings;
  readonly transport: Transport;
  readonly breaker: CircuitBreaker;
  readonly limiter: RateLimiter | undefined;
  /** Aborts when it is closed: its checks end with it. */
  readonly gone: AbortSignal;
  readonly #clock: Clock;
  readonly #reprieve: Reprieve;
  readonly #end = new AbortController();
  #inFlight = 0;
  #latencyMs: number | undefined;
  #condition: Condition | undefined;
  #lastError: UpstreamReport["lastError"];
  #checkedAt: number | undefined;
  #succeededLast = false;
  #isDoubtful = false;
  #checksInARow = 0;
  #openedAt = -Infinity;
  #closedEarlyAt = -Infinity;
  #onIdle: (() => void) | undefined;

  constructor({ settings, transport, clock, onBreakerChange }: MemberOptions) {
    this.settings = settings;
    this.transport = transport;
    this.#clock = clock;
    this.gone = this.#end.signal;
    this.#reprieve = new Reprieve({ restMaxMs: settings.breaker.openMs, clock });
    this.breaker = new CircuitBreaker({
      ...settings.breaker,
      clock,
      onChange: (change) => {
        if (change.to === "open") {
          this.#openedAt = clock.now();
          this.#checksInARow = 0;
          this.#reprieve.end();
        }
        onBreakerChange(change);
      },
    });
    this.limiter = settings.rateLimit === undefined ? undefined : new RateLimiter(settings.rateLimit, clock);
  }

  get name(): string {
    return this.settings.name;
  }

  get priority(): number {
    return this.settings.priority;
  }

  get weight(): number {
    return this.settings.weight;
  }

  /** What it is. Undefined: not found out yet. */
  get kind(): UpstreamKind | undefined {
    return this.settings.kind === "auto" ? this.#condition?.kind : this.settings.kind;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Moving average in milliseconds; undefined before the first answer. */
  get latencyMs(): number | undefined {
    return this.#latencyMs;
  }

  /** What it last said. Undefined: it has not answered yet. */
  get condition(): Condition | undefined {
    return this.#condition;
  }

  /** What it is, unless it was away since it said so: then it may be another program now. */
  get certainKind(): UpstreamKind | undefined {
    return this.#isDoubtful ? undefined : this.#condition?.kind;
  }

  get lastError(): UpstreamReport["lastError"] {
    return this.#lastError;
  }

  /** Milliseconds since 1970; undefined: never. */
  get checkedAt(): number | undefined {
    return this.#checkedAt;
  }

  /** Whether its last call or check was answered. */
  get succeededLast(): boolean {
    return this.#succeededLast;
  }

  /** Whether a call would be let through now. */
  get admits(): boolean {
    return this.breaker.admits || this.#hasReprieve;
  }

  /** Leave to make one call. Undefined: do not call. */
  tryAdmit(): Admission | undefined {
    const admission = this.breaker.tryAdmit();
    return this.#hasReprieve ? this.#inSpite(admission) : admission;
  }

  /**
   * A poll of the kill set, which asks for no leave, sets out then. It has no say in the breaker: those that succeed would
   * hide that nothing else does, and those that fail, hours apart and each followed by many that do not, are not failures in a row.
   */
  admitPoll(askedAt: number): Admission {
    return {
      succeeded: () => {
        if (this.breaker.state !== "closed") this.#reprieve.polled(askedAt);
      },
      failed: () => {},
      abandoned: () => {},
    };
  }

  /** A call sets out. */
  begin(): void {
    this.#inFlight += 1;
  }

  /** A call has ended, whatever came of it. */
  end(): void {
    this.#inFlight -= 1;
    if (this.#inFlight === 0) this.#onIdle?.();
  }

  recordAnswer(durationMs: number): void {
    this.#latencyMs =
      this.#latencyMs === undefined
        ? durationMs
        : this.#latencyMs + NEWEST_SHARE * (durationMs - this.#latencyMs);
    this.#succeededLast = true;
  }

  recordFailure(error: unknown): void {
    this.#succeededLast = false;
    this.#lastError = {
      message: error instanceof Error ? error.message : String(error),
      at: this.#clock.wallNow(),
    };
  }

  /** A check that set out then was answered, after so long. */
  recordCondition(condition: Condition, askedAt: number): void {
    this.#condition = condition;
    this.#isDoubtful = false;
    this.#checkedAt = this.#clock.wallNow();
    // Whoever was slow is asked no more by some: then its checks tell when it is fast again.
    this.recordAnswer(this.#clock.now() - askedAt);
    this.#closeBreakerEarly(askedAt);
  }

  recordFailedCheck(error: unknown): void {
    this.#checkedAt = this.#clock.wallNow();
    this.#checksInARow = 0;
    this.#isDoubtful = true;
    this.recordFailure(error);
  }

  /** What it said of its version in an answer. */
  recordVersion(version: Version): void {
    if (this.#condition !== undefined) this.#condition = { ...this.#condition, version };
  }

  forgetFailures(): void {
    this.breaker.reset();
    this.#lastError = undefined;
  }

  /** Resolves when no call is under way, or after so long. */
  async drain(timeoutMs: number): Promise<void> {
    if (this.#inFlight === 0 || timeoutMs === 0) return;
    const done = new AbortController();
    this.#onIdle = () => done.abort();
    await this.#clock.sleep(timeoutMs, done.signal).catch(() => {});
    this.#onIdle = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    await this.transport[Symbol.asyncDispose]();
  }

  get #hasReprieve(): boolean {
    return this.#reprieve.holds && this.breaker.state !== "closed";
  }

  /** Leave in spite of the breaker; `trial` if that would let this call through as well. */
  #inSpite(trial: Admission | undefined): Admission {
    return {
      succeeded: () => {
        this.#reprieve.succeeded();
        trial?.succeeded();
      },
      failed: (error) => {
        this.#reprieve.failed();
        trial?.failed(error);
      },
      abandoned: () => trial?.abandoned(),
    };
  }

  /**
   * Checks that succeed show that it is back before the breaker would try. Once in two of its periods at most: an
   * upstream that comes and goes changes its breaker no more than six times a minute.
   */
  #closeBreakerEarly(askedAt: number): void {
    const { successesToClose, openMs } = this.settings.breaker;
    // A check that set out before it opened has no say.
    this.#checksInARow = askedAt < this.#openedAt ? 0 : this.#checksInARow + 1;
    if (this.breaker.state === "closed" || this.#checksInARow < successesToClose) return;
    if (this.#clock.now() - this.#closedEarlyAt < 2 * openMs) return;
    this.#closedEarlyAt = this.#clock.now();
    this.breaker.recordBypassSuccess();
  }
}
