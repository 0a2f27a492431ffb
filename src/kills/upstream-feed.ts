import type { Version } from "../evaluation/version.ts";
import { toWireVersion } from "../evaluation/wire-version.ts";
import { type WatchResponse, WatchService } from "../gen/pbflagd/v1/watch_pb.ts";
import type { Following, UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import { toldVersion } from "../upstream/told-version.ts";
import { linkSignals } from "../upstream/transport/linked-signal.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import type { ChangeFeed, ChangeFeedOptions } from "./change-feed.ts";
import { keepFollowing, type Progress, type Retry } from "./keep-following.ts";

export interface UpstreamFeedOptions extends ChangeFeedOptions {
  readonly pool: Pick<UpstreamPool, "follow" | "canFollow">;
}

/** From the loss of a stream to the next where another upstream is there: nobody is deaf for longer. */
const ELSEWHERE_MAX_MS = 200;
/** Whoever lost a stream is one of many who lost theirs at the same moment: they come back one by one. */
const DELAY_MIN_MS = 100;
const DELAY_MAX_MS = 5_000;
/** After which an upstream without Watch may be a newer one. */
const LACKING_MS = 30_000;
const LACKING_JITTER = 0.1;

/** Where the upstream does not say how often it will be heard, and until it says so. */
const HEARTBEAT_MS = 2_000;
const HEARTBEAT_MIN_MS = 100;
const HEARTBEAT_MAX_MS = 60_000;

/**
 * Hears from an upstream of the pool that something has changed there. It stays with one until that is silent or not
 * the best any more, goes on elsewhere where it can, and asks for what it missed meanwhile.
 */
export function openUpstreamFeed(options: UpstreamFeedOptions): ChangeFeed {
  const follower = new Follower(options);
  return keepFollowing({
    ...options,
    follow: (progress, signal) => follower.follow(progress, signal),
    afterFailure: (error, chance) => follower.afterFailure(error, chance),
  });
}

/** Where nobody else is there, in milliseconds; `chance` is 0 to 1. */
export function returnDelayMs(chance: number): number {
  return DELAY_MIN_MS + chance * (DELAY_MAX_MS - DELAY_MIN_MS);
}

type Stream = Extract<Following<WatchResponse>, { readonly kind: "following" }>;

class Follower {
  readonly #options: UpstreamFeedOptions;
  /** Those that have no Watch, and until when that is taken for granted. */
  readonly #lacking = new Map<string, { readonly until: number; readonly error: UpstreamError }>();
  /** What was last told, on any stream: an upstream need not say again what changed before. */
  #told: Version | undefined;
  /** Whose streams broke since one has held, or the last of them alone: any other is the better choice. */
  #left = new Set<string>();

  constructor(options: UpstreamFeedOptions) {
    this.#options = options;
  }

  async follow(progress: Progress, signal: AbortSignal): Promise<never> {
    for (;;) {
      const silence = new AbortController();
      using linked = linkSignals(signal, silence.signal);
      const stream = this.#choose(linked.signal);
      try {
        await this.#read(stream, progress, silence);
      } catch (error) {
        this.#left.add(stream.upstream);
        if (!isLacking(error)) throw error;
        this.#lacking.set(stream.upstream, { until: this.#options.clock.now() + LACKING_MS / 2, error });
      }
    }
  }

  /** Each is tried once without delay. Where all have been, they may be coming back, and so may all who follow them. */
  afterFailure(error: unknown, chance: number): Retry {
    if (isLacking(error))
      return { kind: "lacking", delayMs: LACKING_MS * (1 + LACKING_JITTER * (2 * chance - 1)) };
    const isElsewhere = this.#options.pool.canFollow(new Set([...this.#lacking.keys(), ...this.#left]));
    if (isElsewhere) return { kind: "broken", delayMs: chance * ELSEWHERE_MAX_MS };
    this.#left = new Set([...this.#left].slice(-1));
    return { kind: "broken", delayMs: returnDelayMs(chance) };
  }

  #choose(signal: AbortSignal): Stream {
    const now = this.#options.clock.now();
    for (const [name, { until }] of this.#lacking) if (until <= now) this.#lacking.delete(name);
    const lacking = [...this.#lacking.keys()];
    const elsewhere = this.#open([...lacking, ...this.#left], signal);
    const chosen = elsewhere.kind === "following" ? elsewhere : this.#open(lacking, signal);
    if (chosen.kind === "following") return chosen;
    const [lack] = this.#lacking.values();
    throw lack?.error ?? chosen.error;
  }

  #open(except: readonly string[], signal: AbortSignal): Following<WatchResponse> {
    return this.#options.pool.follow({
      method: WatchService.method.watch,
      // The feed tells to look, and the kill poll looks.
      request: { omitKills: true, ...(this.#told === undefined ? {} : { since: toWireVersion(this.#told) }) },
      except: new Set(except),
      versionOf: ({ version }) => toldVersion(version),
      signal,
    });
  }

  /** Rejects when the stream ends. */
  async #read(stream: Stream, progress: Progress, silence: AbortController): Promise<never> {
    const messages = stream.messages[Symbol.asyncIterator]();
    const { clock } = this.#options;
    let limitMs = 2 * HEARTBEAT_MS;
    /** From then on it has held. */
    let heldFrom = Infinity;
    for (let count = 0; ; count += 1) {
      const { done, value: message } = await this.#next(messages, limitMs, stream.upstream, silence);
      if (done === true)
        throw new UpstreamError("unavailable", `Cannot follow ${stream.upstream}: it has ended the stream`);
      if (count === 0) {
        limitMs = 2 * heartbeatMs(message);
        heldFrom = clock.now() + heartbeatMs(message);
        progress.connected();
      } else if (clock.now() >= heldFrom) {
        progress.settled();
        this.#left.clear();
      }
      this.#hear(message);
    }
  }

  /** Tells of the version with every message: whether that has been seen already, the receiver knows. */
  #hear({ event, version }: WatchResponse): void {
    const told = toldVersion(version);
    if (event.case === "heartbeat" && told === undefined) return;
    this.#told = told;
    this.#options.onNotice({ version: told });
  }

  /** The next message. Breaks the stream off if it does not come in time. */
  async #next(
    messages: AsyncIterator<WatchResponse>,
    limitMs: number,
    upstream: string,
    silence: AbortController,
  ): Promise<IteratorResult<WatchResponse>> {
    const heard = new AbortController();
    const giveUp = () => {
      const message = `Cannot follow ${upstream}: it has said nothing for ${limitMs} ms`;
      silence.abort(new UpstreamError("deadline_exceeded", message));
    };
    this.#options.clock.sleep(limitMs, heard.signal).then(giveUp, () => {});
    try {
      return await messages.next();
    } finally {
      heard.abort();
    }
  }
}

function heartbeatMs({ heartbeatIntervalMs }: WatchResponse): number {
  if (heartbeatIntervalMs <= 0n) return HEARTBEAT_MS;
  return Math.min(HEARTBEAT_MAX_MS, Math.max(HEARTBEAT_MIN_MS, Number(heartbeatIntervalMs)));
}

function isLacking(error: unknown): error is UpstreamError {
  return error instanceof UpstreamError && error.code === "unimplemented";
}
