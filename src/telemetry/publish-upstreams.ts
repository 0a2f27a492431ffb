import type { Registry } from "prom-client";
import {
  BREAKER_STATES,
  type BreakerState,
  METRICS,
  UPSTREAM_STATES,
  type UpstreamState,
} from "./metric-list.ts";
import { oneOf, publishCounter, publishGauge, publishHistogram, sample } from "./publish.ts";
import type { UpstreamCounts } from "./upstream-counts.ts";

/** How one upstream is doing. */
export interface UpstreamGauges {
  readonly name: string;
  readonly state: UpstreamState;
  readonly score: number;
  readonly breaker: BreakerState;
  /** Calls. */
  readonly inFlight: number;
}

/** Publishes what has been counted of upstreams. */
export function publishUpstreamCounts(registry: Registry, upstreams: UpstreamCounts): void {
  publishHistogram(registry, METRICS.upstreamSeconds, () => upstreams.durations());
  publishCounter(registry, METRICS.upstreamFailures, () => upstreams.failures());
  publishCounter(registry, METRICS.upstreamRetries, () => upstreams.retries());
  publishCounter(registry, METRICS.upstreamRejected, () => upstreams.rejections());
  publishCounter(registry, METRICS.upstreamBreakerChanges, () => upstreams.breakerChanges());
}

/** Publishes how upstreams are doing. */
export function publishUpstreamGauges(registry: Registry, read: () => readonly UpstreamGauges[]): void {
  const upstreams = () => onePerName(read());
  publishGauge(registry, METRICS.upstreamState, () =>
    upstreams().flatMap(({ name, state }) => oneOf("state", UPSTREAM_STATES, state, { upstream: name })),
  );
  publishGauge(registry, METRICS.upstreamScore, () =>
    upstreams().map(({ name, score }) => sample(score, { upstream: name })),
  );
  publishGauge(registry, METRICS.upstreamBreakerState, () =>
    upstreams().flatMap(({ name, breaker }) => oneOf("state", BREAKER_STATES, breaker, { upstream: name })),
  );
  publishGauge(registry, METRICS.upstreamInFlight, () =>
    upstreams().map(({ name, inFlight }) => sample(inFlight, { upstream: name })),
  );
}

/** After a reload one that is draining may have the name of its successor, which is the one to be seen. */
function onePerName(upstreams: readonly UpstreamGauges[]): readonly UpstreamGauges[] {
  const byName = new Map<string, UpstreamGauges>();
  for (const upstream of upstreams) {
    if (upstream.state !== "draining" || !byName.has(upstream.name)) byName.set(upstream.name, upstream);
  }
  return [...byName.values()];
}
