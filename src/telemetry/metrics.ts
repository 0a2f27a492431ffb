import { Registry } from "prom-client";
import type { ProcessMetrics } from "./add-up.ts";
import { BucketCounts } from "./bucket-counts.ts";
import { type Fetch, FetchCounts, type Rpc, RpcCounts } from "./call-counts.ts";
import {
  BREAKER_STATES,
  type BreakerState,
  CONFIG_RELOAD_RESULTS,
  type ConfigReloadResult,
  DROP_REASONS,
  type DropReason,
  HEALTH_STATUSES,
  type HealthStatus,
  METRICS,
  PROPAGATION_BUCKETS,
  RELOAD_RESULTS,
  type ReloadResult,
  SNAPSHOT_RESULTS,
  SOURCES,
  type Source,
  TIERS,
  type Tier,
  type UpstreamOperation,
  type UpstreamRejection,
} from "./metric-list.ts";
import { nodeMetrics } from "./node-metrics.ts";
import { oneOf, publishCounter, publishGauge, publishHistogram, type Sample, sample } from "./publish.ts";
import { publishUpstreamCounts, publishUpstreamGauges, type UpstreamGauges } from "./publish-upstreams.ts";
import { Tally } from "./tally.ts";
import { UpstreamCounts } from "./upstream-counts.ts";

/** Counts what happens, in plain numbers, and publishes it when scraped. Nothing here throws. */
export interface Metrics extends Disposable {
  /** Whatever is evaluated was looked up in the kill set: that need not be told. Unset: one evaluation. */
  recordEvaluation(source: Source, times?: number): void;
  recordCacheHits(tier: Tier, count: number): void;
  recordCacheMisses(tier: Tier, count: number): void;
  recordFetch(fetch: Fetch): void;
  recordRpc(rpc: Rpc): void;
  recordInvalidValue(): void;
  recordEpochChange(): void;
  recordPropagation(sinceCommitMs: number): void;
  recordFollowers(count: number): void;
  recordSnapshot(written: { readonly bytes: number; readonly durationMs: number }): void;
  /** It could not be written, or not be used. */
  recordSnapshotFailure(): void;
  recordConnectionDropped(reason: DropReason): void;
  recordDescriptorReload(result: ReloadResult): void;
  recordConfigReload(result: ConfigReloadResult): void;
  /** One try has ended. `error` is undefined if it was answered. */
  recordUpstreamCall(
    upstream: string,
    operation: UpstreamOperation,
    durationMs: number,
    error: unknown,
  ): void;
  recordUpstreamRetry(upstream: string): void;
  recordUpstreamRejection(upstream: string, reason: UpstreamRejection): void;
  recordUpstreamBreakerChange(upstream: string, to: BreakerState): void;

  /** From now on the gauges show what these properties hold when a scrape reads them. */
  observe(gauges: Gauges): void;

  /** All metrics in Prometheus' text format. */
  render(): Promise<RenderedMetrics>;

  /** All metrics as another process can take them. */
  collect(): Promise<ProcessMetrics>;
}

export interface RenderedMetrics {
  readonly contentType: string;
  readonly body: string;
}

/** What is looked up rather than counted. Meant to be getters. */
export interface Gauges {
  /** Flags. */
  readonly killSetSize: number;
  /** Entities. */
  readonly overrideCacheSize: number;
  readonly failuresInARow: number;
  readonly healthStatus: HealthStatus;
  /** When the kill set was last read, in milliseconds since 1970. Undefined: never. */
  readonly killsReadAtWallMs: number | undefined;
  /** Time since the oldest of the state in force was read from the database. Undefined: never. */
  readonly stateAgeMs: number | undefined;
  readonly breakerState: BreakerState;
  /** Of the version of the kill set in force. Undefined: nothing is known, or the store has no versions. */
  readonly stateRevision: number | undefined;
  /** Whether changes are told at once. Undefined: nobody could. */
  readonly feedConnected: boolean | undefined;
  /** Everyone in the pool, those that are draining included; empty in root mode. What is not here has no series. */
  readonly upstreams: readonly UpstreamGauges[];
}

export interface MetricsOptions {
  /** Of pbflagd. */
  readonly version: string;
  /** All that the server has, as `package.Service/Method`. Any other is counted as `other`. */
  readonly procedures: readonly string[];
}

export function createMetrics({ version, procedures }: MetricsOptions): Metrics {
  let gauges = NOTHING_KNOWN;
  const upstreamNames = () =>
    gauges === NOTHING_KNOWN ? undefined : new Set(gauges.upstreams.map(({ name }) => name));
  const counts = createCounts(procedures, upstreamNames);
  const registry = new Registry();
  publishCounts(registry, counts);
  publishGauges(registry, () => gauges);
  publishGauge(registry, METRICS.buildInfo, () => [sample(1, { version })]);

  return {
    recordEvaluation(source, times) {
      counts.evaluations.add(source, times);
    },
    recordCacheHits(tier, count) {
      counts.cacheHits.add(tier, count);
    },
    recordCacheMisses(tier, count) {
      counts.cacheMisses.add(tier, count);
    },
    recordFetch(fetch) {
      counts.fetches.record(fetch);
    },
    recordRpc(rpc) {
      counts.rpcs.record(rpc);
    },
    recordInvalidValue() {
      counts.invalidValues += 1;
    },
    recordEpochChange() {
      counts.epochChanges += 1;
    },
    recordPropagation(sinceCommitMs) {
      counts.propagation.observe(sinceCommitMs / 1_000);
    },
    recordSnapshot({ bytes, durationMs }) {
      counts.snapshotBytes = bytes;
      counts.snapshotSeconds = durationMs / 1_000;
      counts.snapshots.add("written");
    },
    recordSnapshotFailure() {
      counts.snapshots.add("failed");
    },
    recordFollowers(count) {
      counts.followers = count;
    },
    recordConnectionDropped(reason) {
      counts.connectionsDropped.add(reason);
    },
    recordDescriptorReload(result) {
      counts.descriptorReloads.add(result);
    },
    recordConfigReload(result) {
      counts.configReloads.add(result);
    },
    recordUpstreamCall(upstream, operation, durationMs, error) {
      counts.upstreams.recordCall(upstream, operation, durationMs, error !== undefined);
    },
    recordUpstreamRetry(upstream) {
      counts.upstreams.recordRetry(upstream);
    },
    recordUpstreamRejection(upstream, reason) {
      counts.upstreams.recordRejection(upstream, reason);
    },
    recordUpstreamBreakerChange(upstream, to) {
      counts.upstreams.recordBreakerChange(upstream, to);
    },
    observe(next) {
      gauges = next;
    },
    async render() {
      const texts = await Promise.all([registry.metrics(), nodeMetrics().metrics()]);
      return { contentType: registry.contentType, body: texts.join("\n") };
    },
    async collect() {
      const metrics = await Promise.all([registry.getMetricsAsJSON(), nodeMetrics().getMetricsAsJSON()]);
      return metrics.flat();
    },
    [Symbol.dispose]() {
      registry.clear();
      gauges = NOTHING_KNOWN;
    },
  };
}

type Counts = ReturnType<typeof createCounts>;

function createCounts(procedures: readonly string[], upstreamNames: () => ReadonlySet<string> | undefined) {
  return {
    evaluations: new Tally(SOURCES),
    cacheHits: new Tally(TIERS),
    cacheMisses: new Tally(TIERS),
    descriptorReloads: new Tally(RELOAD_RESULTS),
    configReloads: new Tally(CONFIG_RELOAD_RESULTS),
    upstreams: new UpstreamCounts(upstreamNames),
    invalidValues: 0,
    epochChanges: 0,
    propagation: new BucketCounts(PROPAGATION_BUCKETS),
    followers: 0,
    snapshots: new Tally(SNAPSHOT_RESULTS),
    snapshotBytes: 0,
    snapshotSeconds: 0,
    connectionsDropped: new Tally(DROP_REASONS),
    fetches: new FetchCounts(),
    rpcs: new RpcCounts(procedures),
  };
}

function publishCounts(registry: Registry, counts: Counts): void {
  const { evaluations, cacheHits, cacheMisses, descriptorReloads, fetches, rpcs } = counts;
  publishCounter(registry, METRICS.evaluations, () =>
    evaluations.samples((source) => ({ source, status: "ok" })),
  );
  publishCounter(registry, METRICS.cacheHits, () => [
    sample(evaluations.count("killed"), { tier: "kill_set" }),
    ...cacheHits.samples((tier) => ({ tier })),
  ]);
  publishCounter(registry, METRICS.cacheMisses, () => [
    sample(evaluations.sum - evaluations.count("killed"), { tier: "kill_set" }),
    ...cacheMisses.samples((tier) => ({ tier })),
  ]);
  publishHistogram(registry, METRICS.fetchSeconds, () => fetches.durations());
  publishCounter(registry, METRICS.fetchFailures, () => fetches.failures());
  publishCounter(registry, METRICS.invalidValues, () => [sample(counts.invalidValues)]);
  publishCounter(registry, METRICS.connectionsDropped, () =>
    counts.connectionsDropped.samples((reason) => ({ reason })),
  );
  publishHistogram(registry, METRICS.propagationSeconds, () => [{ counts: counts.propagation, labels: {} }]);
  publishCounter(registry, METRICS.snapshotWrites, () => counts.snapshots.samples((result) => ({ result })));
  publishGauge(registry, METRICS.snapshotBytes, () => [sample(counts.snapshotBytes)]);
  publishGauge(registry, METRICS.snapshotSeconds, () => [sample(counts.snapshotSeconds)]);
  publishGauge(registry, METRICS.watchFollowers, () => [sample(counts.followers)]);
  publishCounter(registry, METRICS.epochChanges, () => [sample(counts.epochChanges)]);
  publishCounter(registry, METRICS.descriptorReloads, () =>
    descriptorReloads.samples((result) => ({ result })),
  );
  publishCounter(registry, METRICS.configReloads, () =>
    counts.configReloads.samples((result) => ({ result })),
  );
  publishCounter(registry, METRICS.rpcRequests, () => rpcs.requests());
  publishCounter(registry, METRICS.rpcFast, () => rpcs.fast());
  publishHistogram(registry, METRICS.rpcSeconds, () => rpcs.durations());
  publishUpstreamCounts(registry, counts.upstreams);
}

function publishGauges(registry: Registry, read: () => Gauges): void {
  publishGauge(registry, METRICS.killSetSize, () => [sample(read().killSetSize)]);
  publishGauge(registry, METRICS.overrideCacheSize, () => [sample(read().overrideCacheSize)]);
  publishGauge(registry, METRICS.consecutiveFailures, () => [sample(read().failuresInARow)]);
  publishGauge(registry, METRICS.healthStatus, () => oneOf("status", HEALTH_STATUSES, read().healthStatus));
  publishGauge(registry, METRICS.pollerLastSuccess, () => [sample((read().killsReadAtWallMs ?? 0) / 1_000)]);
  publishGauge(registry, METRICS.stateAge, () => [sample((read().stateAgeMs ?? Infinity) / 1_000)]);
  publishGauge(registry, METRICS.stateRevision, () => ifKnown(read().stateRevision));
  publishGauge(registry, METRICS.feedConnected, () => {
    const { feedConnected } = read();
    return ifKnown(feedConnected === undefined ? undefined : Number(feedConnected));
  });
  publishGauge(registry, METRICS.breakerState, () => oneOf("state", BREAKER_STATES, read().breakerState));
  publishUpstreamGauges(registry, () => read().upstreams);
}

/** What the gauges show until the daemon has something to show. */
const NOTHING_KNOWN: Gauges = {
  killSetSize: 0,
  overrideCacheSize: 0,
  failuresInARow: 0,
  healthStatus: "connecting",
  killsReadAtWallMs: undefined,
  stateAgeMs: undefined,
  breakerState: "closed",
  stateRevision: undefined,
  feedConnected: undefined,
  upstreams: [],
};

function ifKnown(value: number | undefined): readonly Sample[] {
  return value === undefined ? [] : [sample(value)];
}
