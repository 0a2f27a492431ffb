import type { Version } from "../../evaluation/version.ts";
import { type Deadline, DeadlineError, withDeadline } from "../transport/deadline.ts";
import { saysStoreIsAway, toUpstreamError, UpstreamError } from "../upstream-error.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";
import { checkUpstream } from "./check-upstream.ts";
import type { Member } from "./member.ts";
import { isWorthRetrying, retryDelayMs } from "./retry.ts";
import { RetryBudget } from "./retry-budget.ts";
import type { Rotation } from "./rotation.ts";
import type { PoolCall, UpstreamKind, UpstreamPoolOptions } from "./upstream-pool.ts";

export interface PoolCallsOptions extends Pick<UpstreamPoolOptions, "clock" | "random" | "events"> {
  readonly rotation: Rotation;
  /** Aborts when the pool is closed: what fails from then on is nobody's fault. */
  readonly closing: AbortSignal;
  /** Resolves when those are there that take the place of others. Undefined: nobody is being replaced. */
  readonly replacement: () => Promise<void> | undefined;
}

/** What became of one try. */
type Try<T> =
  | { readonly kind: "answered"; readonly result: T; readonly version: Version | undefined }
  /** It cannot tell, because its own store is away. How it does, its checks say. */
  | { readonly kind: "untold"; readonly error: UpstreamError }
  /** Its answer is of another database or another kind. */
  | { readonly kind: "foreign"; readonly error: UpstreamError }
  /** It was taken out of the pool meanwhile, and closed. */
  | { readonly kind: "withdrawn"; readonly error: unknown }
  | { readonly kind: "failed"; readonly error: unknown };

/** Gives calls to the upstreams of a rotation: pick, rate limit, breaker, call, record, and again elsewhere. */
export class PoolCalls {
  readonly #options: PoolCallsOptions;
  readonly #budget = new RetryBudget();

  constructor(options: PoolCallsOptions) {
    this.#options = options;
  }

  /** Rejects with the last UpstreamError. */
  async call<T>(call: PoolCall<T>): Promise<T> {
    const { rotation, events } = this.#options;
    const tried = new Set<Member>();
    let retries = 0;
    let newest: { readonly result: T; readonly version: Version | undefined } | undefined;
    let untold: UpstreamError | undefined;
    const allowedMs = call.deadline.at - this.#options.clock.now();
    for (;;) {
      const member = rotation.choose(call, tried, newest !== undefined || untold !== undefined);
      if (member === undefined) {
        const hasHeard = newest !== undefined || untold !== undefined;
        if (!hasHeard && (await this.#awaitReplacement(call.deadline.signal))) continue;
        return orElse(newest, untold ?? rotation.nobody());
      }
      if (tried.size === 0) this.#budget.earn(member.settings.retry.budget);
      if (retries > 0) events.onRetry(member.name);
      tried.add(member);
      const outcome = await this.#try(member, call, allowedMs);
      if (outcome.kind === "answered") {
        newest = newerOf(newest, outcome);
        if (!isBehind(outcome.version, call.atLeast)) return outcome.result;
        if (!this.#mayAskAnother(tried)) return newest.result;
      } else if (outcome.kind === "untold") {
        untold = outcome.error;
        if (!this.#mayAskAnother(tried)) return orElse(newest, untold);
      } else if (outcome.kind === "foreign") {
        if (tried.size >= rotation.members.length) throw outcome.error;
      } else if (outcome.kind === "withdrawn") {
        if (call.deadline.signal.aborted || this.#options.closing.aborted) throw outcome.error;
      } else if (await this.#mayRetry(member, call, outcome.error, retries)) retries += 1;
      else return orElse(newest, outcome.error);
    }
  }

  /** One more is asked for what the first does not have; all the others only as far as the budget goes. */
  #mayAskAnother(tried: ReadonlySet<Member>): boolean {
    return tried.size === 1 || this.#budget.trySpend();
  }

  /** Waits where nobody is there because all are being replaced. False: there is nothing to wait for any more. */
  async #awaitReplacement(signal: AbortSignal): Promise<boolean> {
    const { rotation, replacement, closing } = this.#options;
    const replaced = rotation.members.length === 0 ? replacement() : undefined;
    if (replaced === undefined || signal.aborted) return false;
    const done = new AbortController();
    const over = new Promise<void>((resolve) => {
      for (const end of [signal, closing])
        end.addEventListener("abort", () => resolve(), { once: true, signal: done.signal });
    });
    await Promise.race([replaced, over]);
    done.abort();
    return !signal.aborted && !closing.aborted;
  }

  /** `allowedMs` is for all tries. */
  async #try<T>(member: Member, call: PoolCall<T>, allowedMs: number): Promise<Try<T>> {
    const { clock, events, rotation } = this.#options;
    const isPoll = call.bypassesBreaker === true;
    const startedAt = clock.now();
    const admission = isPoll ? member.admitPoll(startedAt) : member.tryAdmit();
    if (admission === undefined) {
      return {
        kind: "failed",
        error: new UpstreamError("unavailable", `Cannot ask ${member.name}: its breaker is open`),
      };
    }
    const timeoutMs = tryTimeoutMs(member.settings, allowedMs, call.deadline.at - startedAt);
    member.begin();
    try {
      const result = await withDeadline({ timeoutMs, clock, outer: call.deadline.signal }, async (deadline) =>
        call.run({
          name: member.name,
          kind: await this.#kindOf(member, deadline),
          call: (method, request) => member.transport.call(method, request, deadline),
        }),
      );
      const version = call.versionOf?.(result);
      const refusal = call.versionOf === undefined ? undefined : rotation.recordVersion(member, version);
      if (refusal !== undefined) {
        admission.abandoned();
        events.onRejected(member.name, "refused");
        const error = foreign(member, refusal);
        member.recordFailure(error);
        return { kind: "foreign", error };
      }
      admission.succeeded();
      const durationMs = clock.now() - startedAt;
      member.recordAnswer(durationMs);
      events.onCall(member.name, call.operation, durationMs, undefined);
      rotation.recordSuccess(member);
      return { kind: "answered", result, version };
    } catch (caught) {
      const durationMs = clock.now() - startedAt;
      const error = toUpstreamError(caught, member.transport.target);
      const refusal = rotation.refusalOf(member);
      if (refusal !== undefined) {
        admission.abandoned();
        return { kind: "foreign", error: foreign(member, refusal) };
      }
      if (member.gone.aborted) {
        admission.abandoned();
        return { kind: "withdrawn", error };
      }
      const untold = untoldBy(member, error, isPoll);
      if (untold !== undefined) {
        admission.abandoned();
        events.onCall(member.name, call.operation, durationMs, error);
        return { kind: "untold", error: untold };
      }
      if (this.#isOurDoing(call.deadline, durationMs, timeoutMs)) admission.abandoned();
      else {
        admission.failed(error);
        member.recordFailure(error);
        events.onCall(member.name, call.operation, durationMs, error);
        rotation.recordFailure(member);
      }
      return { kind: "failed", error };
    } finally {
      member.end();
    }
  }

  /** Asked for where no check has told it yet. */
  async #kindOf(member: Member, deadline: Deadline): Promise<UpstreamKind> {
    const { rotation } = this.#options;
    if (member.kind !== undefined) return member.kind;
    const askedAt = this.#options.clock.now();
    const condition = await checkUpstream(member, deadline);
    rotation.recordCondition(member, condition, askedAt);
    const refusal = rotation.refusalOf(member);
    if (refusal !== undefined) throw foreign(member, refusal);
    return condition.kind;
  }

  /** A try that its caller cut short, or that had hardly begun when the time was over, says nothing. */
  #isOurDoing({ signal }: Deadline, durationMs: number, timeoutMs: number): boolean {
    if (this.#options.closing.aborted) return true;
    if (!signal.aborted) return false;
    return !(signal.reason instanceof DeadlineError) || durationMs < timeoutMs / 2;
  }

  /** Waits before the retry. False: there shall be none. */
  async #mayRetry<T>(member: Member, call: PoolCall<T>, error: unknown, retries: number): Promise<boolean> {
    const { clock, random, events, rotation } = this.#options;
    const { retry } = member.settings;
    if (retries >= retry.maxRetries || !isWorthRetrying(error) || call.deadline.signal.aborted) return false;
    const delayMs = retryDelayMs(retry, retries, random());
    if (clock.now() + delayMs >= call.deadline.at || !rotation.hasUsable) return false;
    if (!this.#budget.trySpend()) {
      events.onRejected(member.name, "retry_budget");
      return false;
    }
    await clock.sleep(delayMs, call.deadline.signal).catch(() => {});
    return !call.deadline.signal.aborted && !this.#options.closing.aborted;
  }
}

/** The newest answer. Throws where there is none. */
function orElse<T>(newest: { readonly result: T } | undefined, error: unknown): T {
  if (newest === undefined) throw error;
  return newest.result;
}

/** Why it could not tell, where its own store is to blame. For a row it may wait for that too long; polls wait for nothing. */
function untoldBy({ condition }: Member, error: unknown, isPoll: boolean): UpstreamError | undefined {
  if (saysStoreIsAway(error)) return error;
  const isLate = error instanceof UpstreamError && error.code === "deadline_exceeded";
  if (isPoll || !isLate || condition?.status !== "degraded") return undefined;
  return new UpstreamError("unavailable", `${error.message}, and its own store is away`, {
    answered: true,
    cause: error,
  });
}

function tryTimeoutMs({ retry, connection }: UpstreamSettings, allowedMs: number, leftMs: number): number {
  const shareMs = retry.tryTimeoutMs ?? (retry.maxRetries > 0 ? allowedMs / 2 : allowedMs);
  return Math.max(0, Math.min(shareMs, leftMs, connection.requestTimeoutMs));
}

function isBehind(version: Version | undefined, atLeast: Version | undefined): boolean {
  if (version === undefined || atLeast === undefined || version.epoch !== atLeast.epoch) return false;
  return version.revision < atLeast.revision;
}

function newerOf<T extends { readonly version: Version | undefined }>(a: T | undefined, b: T): T {
  return a === undefined || isBehind(a.version, b.version) ? b : a;
}

function foreign({ name }: Member, refusal: string): UpstreamError {
  return new UpstreamError("failed_precondition", `Cannot use what ${name} answers: ${refusal}`);
}
