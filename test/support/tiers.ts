import { setMaxListeners } from "node:events";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { OF_MANY } from "../../src/daemon/configured-namespace.ts";
import { openFeed, takeUpUsable } from "../../src/daemon/open-feed.ts";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { Version } from "../../src/evaluation/version.ts";
import type { FlagTable } from "../../src/flags/definition.ts";
import { StateService } from "../../src/gen/pbflagd/v1/state_pb.ts";
import type { WatchRequest, WatchResponse } from "../../src/gen/pbflagd/v1/watch_pb.ts";
import type { ChangeFeed } from "../../src/kills/change-feed.ts";
import { decodeSnapshot } from "../../src/kills/snapshot/decode-snapshot.ts";
import { encodeSnapshot } from "../../src/kills/snapshot/encode-snapshot.ts";
import type { SnapshotContent } from "../../src/kills/snapshot/snapshot-content.ts";
import { type Namespace, type NamespaceOptions, openNamespace } from "../../src/namespaces/namespace.ts";
import { nameOf } from "../../src/server/rpc/codes.ts";
import { createStateService } from "../../src/server/state-service.ts";
import { Followers } from "../../src/server/watch/followers.ts";
import { WatchEvents } from "../../src/server/watch/watch-events.ts";
import type { FlagStore } from "../../src/store/flag-store.ts";
import { StoreError } from "../../src/store/flag-store.ts";
import { openUpstreamStore } from "../../src/store/upstream-store.ts";
import { Latest } from "../../src/system/latest.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import type { UpstreamPool } from "../../src/upstream/pool/upstream-pool.ts";
import type { Deadline } from "../../src/upstream/transport/deadline.ts";
import { ANSWER_BYTES_MAX, tooLong } from "../../src/upstream/transport/inflate.ts";
import { linkSignals } from "../../src/upstream/transport/linked-signal.ts";
import type { StreamMethod, Transport, UnaryMethod } from "../../src/upstream/transport/transport.ts";
import { UpstreamError } from "../../src/upstream/upstream-error.ts";
import type { PoolSettings } from "../../src/upstream/upstream-settings.ts";
import type { FakeClock } from "./fake-clock.ts";
import { poolSettings } from "./fake-upstream.ts";
import type { MemoryStore } from "./memory-store.ts";
import { silentEvents, silentLogger, silentPoolEvents } from "./silent-events.ts";
import { type WatchedFrom, watchInMemory } from "./watch-in-memory.ts";

const FETCH_TIMEOUT_MS = 500;

export interface TierOptions {
  readonly clock: FakeClock;
  readonly table: FlagTable;
  readonly random?: () => number;
  readonly ttls?: Partial<
    Pick<NamespaceOptions, "killTtlMs" | "flagTtlMs" | "overrideTtlMs" | "jitter" | "overrideEntriesMax">
  >;
  /** Told of every change of the kill set's version. */
  readonly onKillSet?: NamespaceOptions["events"]["onKillSet"];
  /** Over other tiers: also follows one of them. */
  readonly follows?: boolean;
  /** What `keep` has given, of a tier that was here before. */
  readonly kept?: Uint8Array | undefined;
}

/** What a tier reads from. */
export type Source =
  | { readonly kind: "store"; readonly store: MemoryStore }
  | {
      readonly kind: "tiers";
      readonly links: readonly Link[];
      readonly pool?: Partial<PoolSettings>;
      /** Of the links, in their order. */
      readonly priorities?: readonly number[];
    };

/** The way from one tier to its upstream. */
export class Link {
  /** Whom it leads to; another one once that was restarted. Undefined: nobody is there. */
  to: Tier | undefined;
  /** Calls are lost on the way, and end by their deadline. */
  cut = false;
  /** Told of each call that sets out. */
  onCall: (method: string) => void = () => {};

  constructor(to: Tier | undefined) {
    this.to = to;
  }

  connect(target: string): Transport {
    const closed = new AbortController();
    // One for each call under way.
    setMaxListeners(0, closed.signal);
    return {
      target,
      call: async (method, request, deadline) => {
        using linked = linkSignals(deadline.signal, closed.signal);
        return await this.#call(target, method, request, { ...deadline, signal: linked.signal });
      },
      stream: (method, request, signal) => this.#stream(target, method, request, signal),
      [Symbol.asyncDispose]: async () =>
        closed.abort(new UpstreamError("connection", `Cannot reach ${target}: closed`)),
    };
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    target: string,
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    { signal }: Deadline,
  ): Promise<MessageShape<O>> {
    signal.throwIfAborted();
    this.onCall(method.name);
    if (this.cut) await whenAborted(signal);
    if (this.to === undefined) throw new UpstreamError("connection", `Cannot reach ${target}: refused`);
    const sent = fromBinary(method.input, toBinary(method.input, create(method.input, request)));
    try {
      const answer = await Promise.race([this.to.answer(method.name, sent, signal), whenAborted(signal)]);
      if (this.cut) await whenAborted(signal);
      const bytes = toBinary(method.output, create(method.output, answer as never));
      if (bytes.length > ANSWER_BYTES_MAX) throw tooLong(target);
      return fromBinary(method.output, bytes);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      const code = nameOf(error.code);
      throw new UpstreamError(code, `${target} answered ${code}: ${error.rawMessage}`, { answered: true });
    }
  }

  /** A message that sets out while the way is cut is lost, and nothing comes after it. */
  async *#stream<I extends DescMessage, O extends DescMessage>(
    target: string,
    method: StreamMethod<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): AsyncGenerator<MessageShape<O>> {
    signal.throwIfAborted();
    if (this.cut) await whenAborted(signal);
    const { to } = this;
    if (to === undefined) throw new UpstreamError("connection", `Cannot reach ${target}: refused`);
    using linked = linkSignals(signal, to.stopping);
    const sent = fromBinary(method.input, toBinary(method.input, create(method.input, request)));
    for await (const message of to.watch(sent as WatchRequest, linked.signal)) {
      if (this.cut) await whenAborted(signal);
      yield fromBinary(method.output, toBinary(method.output, message as never));
    }
  }
}

/** One evaluator in this process, over a store in memory or over other tiers. */
export class Tier implements AsyncDisposable {
  readonly namespace: Namespace;
  readonly pool: UpstreamPool | undefined;
  /** Only for a tier over a store: whether it can be reached from here. */
  storeAway = false;
  /** Only for a tier over a store: it reads a replica that has not seen so many commits. */
  commitsBehind = 0;
  readonly #stop = new AbortController();
  readonly #feed: ChangeFeed | undefined;
  readonly #service: Readonly<Record<string, (request: unknown, context: unknown) => unknown>>;
  readonly #watched: WatchedFrom;

  constructor(options: TierOptions, source: Source) {
    const { clock, table, random = () => 0.5, ttls = {}, onKillSet, follows = false, kept } = options;
    // One for each follower.
    setMaxListeners(0, this.#stop.signal);
    const pool =
      source.kind === "store"
        ? undefined
        : openPool(source, {
            clock,
            random,
            onUsable: () => takeUpUsable({ namespace: this.namespace, feed: this.#feed }),
          });
    this.pool = pool;
    const store =
      source.kind === "store"
        ? this.#reach(source.store)
        : openUpstreamStore({ pool: pool as UpstreamPool, fetchTimeoutMs: FETCH_TIMEOUT_MS, clock });
    this.namespace = openNamespace({
      flags: new Latest(table),
      store,
      clock,
      random,
      killTtlMs: 30_000,
      flagTtlMs: 300_000,
      overrideTtlMs: 300_000,
      negativeTtlMs: 5_000,
      overrideEntriesMax: 10_000,
      jitter: 0.2,
      ...(source.kind === "store" ? {} : OF_MANY),
      ...ttls,
      ...(kept === undefined ? {} : { snapshot: decodeKept(kept) }),
      events: { ...silentEvents, ...(onKillSet === undefined ? {} : { onKillSet }) },
      traceStoreCall: (_, run) => run(),
    });
    this.#service = createStateService({
      namespace: this.namespace,
      catchUpTimeoutMs: FETCH_TIMEOUT_MS,
      version: "test",
      clock,
    }) as never;
    const events = new WatchEvents(this.namespace, clock);
    const stopping = this.#stop.signal;
    const followers = new Followers({
      namespace: this.namespace,
      takeIn: () => events.takeIn(),
      stopping,
      onCount: () => {},
    });
    this.#watched = { events, followers, clock, stopping };
    if (!follows || pool === undefined) return;
    this.#feed = openFeed({
      config: { database: undefined, databaseListen: undefined },
      deps: { clock, random, logger: silentLogger },
      namespace: this.namespace,
      pool,
    });
  }

  /** Ends its streams. */
  get stopping(): AbortSignal {
    return this.#stop.signal;
  }

  watch(
    request: Pick<WatchRequest, "since" | "omitKills">,
    signal: AbortSignal,
  ): AsyncIterable<WatchResponse> {
    return watchInMemory(request, this.#watched, signal);
  }

  /** It is told that the store has changed. */
  notice(version: Version | undefined): void {
    this.namespace.changeNoticed({ version });
  }

  /** What it knows, as its file would hold it; undefined while that is nothing. */
  keep(): Uint8Array | undefined {
    const remembered = this.namespace.remember();
    return remembered === undefined
      ? undefined
      : Buffer.concat([...encodeSnapshot({ store: "", ...remembered })]);
  }

  async answer(method: string, request: unknown, signal: AbortSignal): Promise<unknown> {
    const name = `${method.charAt(0).toLowerCase()}${method.slice(1)}`;
    if (!StateService.methods.some(({ localName }) => localName === name)) {
      throw new UpstreamError("unimplemented", `answered unimplemented: ${method}`, { answered: true });
    }
    return this.#service[name]?.(request, { signal, timeoutMs: () => undefined });
  }

  evaluate(flagId: string, entityId = ""): Promise<Evaluation> {
    return Promise.resolve(this.namespace.evaluate(flagId, entityId));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#feed?.[Symbol.asyncDispose]();
    await this.namespace[Symbol.asyncDispose]();
  }

  #reach(store: MemoryStore): FlagStore {
    const reached = <T>(read: () => Promise<T>): Promise<T> => {
      if (this.storeAway) return Promise.reject(new StoreError("Cannot reach store: it is away"));
      if (this.commitsBehind === 0) return read();
      // The store asks for its plan as soon as it is called: others have theirs.
      const { plan } = store;
      store.plan = () => ({ commitsBehind: this.commitsBehind });
      const answer = read();
      store.plan = plan;
      return answer;
    };
    return {
      flagStates: (flagIds) => reached(() => store.flagStates(flagIds)),
      overrides: (entityIds) => reached(() => store.overrides(entityIds)),
      kills: (since) => reached(() => store.kills(since)),
      [Symbol.asyncDispose]: async () => {},
    };
  }
}

function openPool(
  { links, pool = {}, priorities = [] }: Extract<Source, { readonly kind: "tiers" }>,
  {
    clock,
    random,
    onUsable,
  }: { readonly clock: FakeClock; readonly random: () => number; readonly onUsable: () => void },
): UpstreamPool {
  const named = links.map((link, i) => ({ name: `tier-${i}`, link, priority: priorities[i] ?? 0 }));
  const byName = new Map(named.map(({ name, link }) => [name, link]));
  return openUpstreamPool({
    settings: poolSettings(
      named.map(({ name, priority }) => ({ name, priority })),
      pool,
    ),
    openTransport: ({ name, url }) => (byName.get(name) ?? new Link(undefined)).connect(url),
    clock,
    random,
    events: { ...silentPoolEvents, onUsable },
  });
}

/** What `Tier.keep` has given. */
export function decodeKept(kept: Uint8Array): SnapshotContent {
  const reading = decodeSnapshot(kept);
  for (;;) {
    const { done, value } = reading.next();
    if (done !== true) continue;
    if (value.kind === "unusable") throw new Error(value.reason);
    return value.content;
  }
}

function whenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
