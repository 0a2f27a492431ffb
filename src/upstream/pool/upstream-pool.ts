import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Version } from "../../evaluation/version.ts";
import type { Clock } from "../../system/clock.ts";
import type { BreakerChange, BreakerState } from "../circuit-breaker.ts";
import type { Deadline } from "../transport/deadline.ts";
import type { StreamMethod, Transport, UnaryMethod } from "../transport/transport.ts";
import type { UpstreamError } from "../upstream-error.ts";
import type { PoolSettings, Strategy, UpstreamSettings } from "../upstream-settings.ts";

/** What an upstream was found to be: pbflagd has batches, versions and ages; pbflags has the six RPCs alone. */
export type UpstreamKind = "pbflagd" | "pbflags";

/** The upstream that a call was given to. */
export interface Reached {
  readonly name: string;
  readonly kind: UpstreamKind;
  /** One RPC, within the time of this try. */
  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>>;
}

/** What is asked of upstreams, as metrics name it. */
export type PoolOperation = "flag_state" | "overrides" | "killed_flags" | "descriptor_set";

/** One question to whichever upstream is chosen. */
export interface PoolCall<T> {
  readonly operation: PoolOperation;
  /** All tries and waits end with it. */
  readonly deadline: Deadline;
  /** What `consistent-hash` goes by, such as an entity. Undefined: any upstream will do. */
  readonly key?: string | undefined;
  /**
   * Goes to an upstream whose breaker is open where no other is left: what must not wait for the next trial. Answered, it
   * lets other calls follow, until one fails; the breaker itself learns nothing of it.
   */
  readonly bypassesBreaker?: boolean;
  /** An answer that is older, within its epoch, is taken only if no other upstream has a newer one. */
  readonly atLeast?: Version | undefined;
  /** All RPCs of one try. A rejection counts against the upstream. */
  readonly run: (upstream: Reached) => Promise<T>;
  /** Of what `run` brought; undefined where its store has none. Unset: nothing that has a version is asked for. */
  readonly versionOf?: (result: T) => Version | undefined;
}

/** A call whose answer goes on: one upstream is followed. */
export interface FollowCall<I extends DescMessage, O extends DescMessage> {
  readonly method: StreamMethod<I, O>;
  readonly request: MessageInitShape<I>;
  /** Upstreams that shall not be followed, by name. */
  readonly except: ReadonlySet<string>;
  /** Of what comes; undefined where a message does not say. */
  readonly versionOf: (message: MessageShape<O>) => Version | undefined;
  readonly signal: AbortSignal;
}

/** Whom is followed, and what it says. */
export type Following<T> =
  | {
      readonly kind: "following";
      readonly upstream: string;
      /**
       * To be read at once. Rejects with an UpstreamError, also when that upstream leaves the pool or the rotation, or
       * when others are to be preferred; with the signal's reason once it aborts.
       */
      readonly messages: AsyncIterable<T>;
    }
  /** Nobody can be followed now. The code is `unimplemented` if that is for good, as far as one can tell. */
  | { readonly kind: "nobody"; readonly error: UpstreamError };

/** How one upstream has been doing. Holds no secret. */
export interface UpstreamReport {
  readonly name: string;
  readonly target: string;
  readonly state: "up" | "down" | "refused" | "draining";
  /** Undefined: not found out yet. */
  readonly kind: UpstreamKind | undefined;
  readonly score: number;
  readonly breaker: BreakerState;
  readonly inFlight: number;
  /** Moving average; undefined before the first call. */
  readonly latencyMs: number | undefined;
  /** Undefined: it has not said yet. */
  readonly status: "connecting" | "serving" | "degraded" | undefined;
  readonly version: Version | undefined;
  /** Why it is refused, or else its last failure; undefined: neither. `at` is in milliseconds since 1970. */
  readonly lastError: { readonly message: string; readonly at: number } | undefined;
  /** Milliseconds since 1970. Undefined: never checked. */
  readonly checkedAt: number | undefined;
  readonly priority: number;
  readonly weight: number;
}

/** What a reload did. */
export interface PoolChange {
  readonly added: readonly string[];
  readonly updated: readonly { readonly name: string; readonly keys: readonly string[] }[];
  readonly removed: readonly string[];
  readonly unchanged: readonly string[];
  /** Keys of the pool as a whole that changed. */
  readonly settings: readonly string[];
}

/** The new settings could not be put into force; the pool is as it was before. */
export class PoolReloadError extends Error {
  override readonly name = "PoolReloadError";
}

/** Why a call was not made, or not made again. */
export type Rejection = "rate_limit" | "breaker" | "unusable" | "refused" | "retry_budget";

export interface PoolEvents {
  /** One try has ended. `error` is undefined if it was answered. */
  readonly onCall: (upstream: string, operation: PoolOperation, durationMs: number, error: unknown) => void;
  readonly onRetry: (upstream: string) => void;
  readonly onRejected: (upstream: string, reason: Rejection) => void;
  readonly onBreakerChange: (upstream: string, change: BreakerChange) => void;
  /** It came into the rotation, left it, or is refused; `reason` is for people. */
  readonly onStateChange: (upstream: string, state: UpstreamReport["state"], reason: string) => void;
  /** An upstream has begun to say that its own store does not answer; false: it has ended. */
  readonly onDegraded: (upstream: string, isDegraded: boolean) => void;
  /** An upstream is usable where none was. */
  readonly onUsable: () => void;
  /** An upstream has another descriptor set than it last said, or said so for the first time. */
  readonly onDescriptorHash: (hash: string) => void;
}

export interface UpstreamPoolOptions {
  readonly settings: PoolSettings;
  /** Opens the connection of one upstream. Throws an UpstreamError if its settings cannot be used. */
  readonly openTransport: (settings: UpstreamSettings) => Transport;
  readonly clock: Clock;
  readonly random: () => number;
  readonly events: PoolEvents;
}

/** Several upstream evaluators that stand for one. */
export interface UpstreamPool extends AsyncDisposable {
  /** Pick, rate limit, breaker, call, record, and again elsewhere. Rejects with the last UpstreamError. */
  call<T>(call: PoolCall<T>): Promise<T>;
  /** Opens a stream at one of its upstreams: pbflagd, in the rotation, and of those the best. */
  follow<I extends DescMessage, O extends DescMessage>(call: FollowCall<I, O>): Following<MessageShape<O>>;
  /** Whether there is an upstream to follow now beside these, by name. */
  canFollow(except: ReadonlySet<string>): boolean;
  /** As the settings in force have it. */
  readonly strategy: Strategy;
  /** What all of its upstreams are. Undefined: not found out yet. */
  readonly kind: UpstreamKind | undefined;
  /** In the order of the settings; those that are draining last. */
  readonly upstreams: readonly UpstreamReport[];
  /** Closes a breaker. False: there is no upstream of that name. */
  reset(name: string): boolean;
  /** Checks all upstreams once, side by side. Never rejects. */
  checkNow(signal: AbortSignal): Promise<void>;
  /** Checks one upstream. False: it did not answer, or there is none of that name. Never rejects. */
  check(name: string, signal: AbortSignal): Promise<boolean>;
  /** Compares by name and puts the difference into force, or nothing at all: then it rejects with a PoolReloadError. */
  reload(settings: PoolSettings): Promise<PoolChange>;
}
