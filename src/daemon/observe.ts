import type { ChangeFeed } from "../kills/change-feed.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamPool } from "../upstream/pool/upstream-pool.ts";

export interface Observed {
  readonly namespace: Namespace;
  readonly pool: Pick<UpstreamPool, "upstreams"> | undefined;
  /** Undefined: nobody could tell of changes at once. */
  readonly feed: Pick<ChangeFeed, "state"> | undefined;
  readonly clock: Clock;
}

/** Lets the gauges show what these are like when a scrape reads them. */
export function observe(metrics: Metrics, { namespace, pool, feed, clock }: Observed): void {
  metrics.observe({
    get killSetSize() {
      return namespace.killSet.value?.flagIds.size ?? 0;
    },
    get overrideCacheSize() {
      return namespace.cachedEntityCount;
    },
    get failuresInARow() {
      return namespace.health.failuresInARow;
    },
    get healthStatus() {
      return namespace.health.status;
    },
    get killsReadAtWallMs() {
      const readAt = namespace.killSet.value?.readAt;
      return readAt === undefined ? undefined : clock.wallNow() - (clock.now() - readAt);
    },
    get stateAgeMs() {
      return namespace.stateAgeMs;
    },
    get breakerState() {
      return namespace.breaker.state;
    },
    get stateRevision() {
      return namespace.killSet.value?.stamp.version?.revision;
    },
    get feedConnected() {
      return feed === undefined ? undefined : feed.state.kind === "connected";
    },
    get upstreams() {
      return pool?.upstreams ?? [];
    },
  });
}
