import { OF_MANY } from "../../src/daemon/configured-namespace.ts";
import { openFeed, takeUpUsable } from "../../src/daemon/open-feed.ts";
import type { FlagTable } from "../../src/flags/definition.ts";
import type { ChangeFeed } from "../../src/kills/change-feed.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { openUpstreamStore } from "../../src/store/upstream-store.ts";
import { systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import { openTransport } from "../../src/upstream/transport/open-transport.ts";
import type { Transport } from "../../src/upstream/transport/transport.ts";
import { poolSettings } from "./fake-upstream.ts";
import { silentEvents, silentLogger, silentPoolEvents } from "./silent-events.ts";

export interface WatchFollowerOptions {
  /** Of those whom it may follow. They are called by their URLs. */
  readonly urls: readonly string[];
  readonly table: FlagTable;
  /** Told of each call and stream as it sets out, and of each message of a stream as it comes. */
  readonly onWork: (what: string, url: string) => void;
}

/** All that a proxy asks of its upstreams, over real sockets, without the proxy's own server. */
export interface WatchFollower extends AsyncDisposable {
  readonly namespace: Namespace;
  readonly isFollowing: boolean;
  /** How it stands with its upstreams, for people. */
  readonly trouble: string;
}

export function openWatchFollower({ urls, table, onWork }: WatchFollowerOptions): WatchFollower {
  const clock = systemClock;
  const random = Math.random;
  const parts: { namespace?: Namespace; feed?: ChangeFeed } = {};
  const pool = openUpstreamPool({
    settings: poolSettings(
      urls.map((url) => ({ name: url, url })),
      {
        // Many share one process, where a real one has a process to itself: they may answer later.
        healthCheck: { intervalMs: 1_000, timeoutMs: 900, jitter: 0.2 },
      },
    ),
    openTransport: (settings) =>
      counted(openTransport({ settings, clock }), (what) => onWork(what, settings.name)),
    clock,
    random,
    events: {
      ...silentPoolEvents,
      onUsable() {
        const { namespace, feed } = parts;
        if (namespace !== undefined) takeUpUsable({ namespace, feed });
      },
    },
  });
  const namespace = openNamespace({
    flags: new Latest(table),
    store: openUpstreamStore({ pool, fetchTimeoutMs: 5_000, clock }),
    clock,
    random,
    killTtlMs: 30_000,
    flagTtlMs: 300_000,
    overrideTtlMs: 300_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0.2,
    ...OF_MANY,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  parts.namespace = namespace;
  const feed = openFeed({
    config: { database: undefined, databaseListen: undefined },
    deps: { clock, random, logger: silentLogger },
    namespace,
    pool,
  });
  if (feed === undefined) throw new Error("Cannot follow: there is no feed");
  parts.feed = feed;
  return {
    namespace,
    get isFollowing() {
      return feed.state.kind === "connected";
    },
    get trouble() {
      const told = pool.upstreams.map(
        ({ state, breaker, lastError }) =>
          `${state}, breaker ${breaker}, ${lastError?.message ?? "no error yet"}`,
      );
      return told.join("; ");
    },
    async [Symbol.asyncDispose]() {
      await feed[Symbol.asyncDispose]();
      await namespace[Symbol.asyncDispose]();
    },
  };
}

function counted(transport: Transport, onWork: (what: string) => void): Transport {
  async function* counting<T>(messages: AsyncIterable<T>, what: string): AsyncGenerator<T> {
    for await (const message of messages) {
      onWork(what);
      yield message;
    }
  }
  return {
    target: transport.target,
    call(method, request, deadline) {
      onWork(method.name);
      return transport.call(method, request, deadline);
    },
    stream(method, request, signal) {
      onWork(method.name);
      return counting(transport.stream(method, request, signal), `${method.name}'s messages`);
    },
    [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose](),
  };
}
