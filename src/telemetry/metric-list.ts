/**
 * Every metric of pbflagd beside Node's own. Names and label values are API: dashboards and alerts depend on them.
 * Labels take their values from the closed sets below or from `MetricsOptions`, never from a request.
 */
export interface MetricSpec {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: readonly string[];
  readonly help: string;
}

export const SOURCES = ["default", "global", "override", "killed", "cached", "archived", "stale"] as const;
export const TIERS = ["flags", "overrides"] as const;
export const BACKENDS = ["db", "upstream"] as const;
export const OPERATIONS = ["flag_state", "overrides", "killed_flags"] as const;
export const HEALTH_STATUSES = ["connecting", "serving", "degraded"] as const;
export const BREAKER_STATES = ["closed", "open", "half-open"] as const;
/** `rejected`: not usable, the old set serves on. `held`: removes too much to be taken without force. */
export const RELOAD_RESULTS = ["replaced", "unchanged", "rejected", "held"] as const;
/** `rejected`: not usable, or not put into force; the old configuration stays. */
export const CONFIG_RELOAD_RESULTS = ["applied", "unchanged", "rejected"] as const;
export const UPSTREAM_STATES = ["up", "down", "refused", "draining"] as const;
export const UPSTREAM_OPERATIONS = ["flag_state", "overrides", "killed_flags", "descriptor_set"] as const;
/** Why an upstream was not asked, or not asked again. */
export const UPSTREAM_REJECTIONS = ["rate_limit", "breaker", "unusable", "refused", "retry_budget"] as const;
export const PROTOCOLS = ["connect", "grpc", "grpc-web"] as const;

/** Why a connection was cut, or not taken. */
export const DROP_REASONS = [
  "too_many_connections",
  "no_request",
  "half_open",
  "stalled",
  "flood",
  "not_accepted",
] as const;

export type Source = (typeof SOURCES)[number];
export type Tier = (typeof TIERS)[number];
export type Backend = (typeof BACKENDS)[number];
export type Operation = (typeof OPERATIONS)[number];
export type HealthStatus = (typeof HEALTH_STATUSES)[number];
export type BreakerState = (typeof BREAKER_STATES)[number];
export type ReloadResult = (typeof RELOAD_RESULTS)[number];
export type ConfigReloadResult = (typeof CONFIG_RELOAD_RESULTS)[number];
export type UpstreamState = (typeof UPSTREAM_STATES)[number];
export type UpstreamOperation = (typeof UPSTREAM_OPERATIONS)[number];
export type UpstreamRejection = (typeof UPSTREAM_REJECTIONS)[number];
export type Protocol = (typeof PROTOCOLS)[number];
export type DropReason = (typeof DROP_REASONS)[number];

/** Upper bounds in seconds. */
export const FETCH_BUCKETS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
/** Upper bounds in seconds. Answers from memory take well below a millisecond. */
export const RPC_BUCKETS = [0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** `failed`: it could not be written, or what was there could not be used. */
export const SNAPSHOT_RESULTS = ["written", "failed"] as const;

/** Upper bounds in seconds. By push well below the first tenth, by poll up to its interval. */
export const PROPAGATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

export const METRICS = {
  evaluations: counter("pbflags_evaluations_total", "Evaluations, by where the value came from.", [
    "source",
    "status",
  ]),
  cacheHits: counter("pbflags_cache_hits_total", "Look-ups answered from memory, fresh or not.", ["tier"]),
  cacheMisses: counter(
    "pbflags_cache_misses_total",
    "Look-ups that had to ask the store, or found nothing.",
    ["tier"],
  ),
  fetchSeconds: histogram("pbflags_fetch_duration_seconds", "Calls of the store, failed ones included.", [
    "backend",
    "operation",
  ]),
  fetchFailures: counter("pbflags_fetch_failures_total", "Calls of the store that failed.", [
    "backend",
    "operation",
  ]),
  killSetSize: gauge("pbflags_kill_set_size", "Flags in the kill set."),
  consecutiveFailures: gauge("pbflags_health_consecutive_failures", "Store calls that failed in a row."),
  healthStatus: gauge("pbflags_health_status", "1 for the status that holds, 0 for the others.", ["status"]),
  pollerLastSuccess: gauge(
    "pbflags_poller_last_success_timestamp",
    "When the kill set was last read, in seconds since 1970. 0: never.",
  ),
  overrideCacheSize: gauge("pbflags_override_cache_size", "Entities whose overrides are in memory."),
  stateAge: gauge(
    "pbflags_state_age_seconds",
    "Time since the oldest of the state in force, kill set or row of a defined flag, was read from the database. +Inf: never.",
  ),
  breakerState: gauge(
    "pbflags_breaker_state",
    "1 for the state of the store's circuit breaker, 0 for the others.",
    ["state"],
  ),
  propagationSeconds: histogram(
    "pbflags_kill_propagation_seconds",
    "From a change's commit in the database to its being in force here.",
    [],
  ),
  stateRevision: gauge(
    "pbflags_state_revision",
    "Revision of the state in force; the epoch is in the header pbflags-version.",
  ),
  snapshotWrites: counter(
    "pbflags_snapshot_writes_total",
    "Snapshots of what is known, for the next start.",
    ["result"],
  ),
  snapshotBytes: gauge("pbflags_snapshot_bytes", "Size of the last snapshot. 0: none was written yet."),
  snapshotSeconds: gauge("pbflags_snapshot_duration_seconds", "How long writing the last snapshot took."),
  watchFollowers: gauge("pbflags_watch_followers", "Streams that are told of changes."),
  feedConnected: gauge(
    "pbflags_feed_connected",
    "1 while changes are told by the database or the upstream at once, 0 while they are found by polling alone.",
  ),
  epochChanges: counter(
    "pbflags_epoch_changes_total",
    "How often the store turned out to be another one than before.",
  ),
  invalidValues: counter("pbflags_invalid_values_total", "Stored values found that cannot be used."),
  descriptorReloads: counter("pbflags_descriptor_reloads_total", "Reloads of the descriptor set.", [
    "result",
  ]),
  configReloads: counter("pbflags_config_reloads_total", "Reloads of the configuration.", ["result"]),
  upstreamState: gauge("pbflags_upstream_state", "1 for the state of the upstream, 0 for the others.", [
    "upstream",
    "state",
  ]),
  upstreamScore: gauge(
    "pbflags_upstream_score",
    "How far the upstream is trusted. Below 0: out of the rotation.",
    ["upstream"],
  ),
  upstreamBreakerState: gauge(
    "pbflags_upstream_breaker_state",
    "1 for the state of the upstream's circuit breaker, 0 for the others.",
    ["upstream", "state"],
  ),
  upstreamBreakerChanges: counter(
    "pbflags_upstream_breaker_changes_total",
    "How often the upstream's circuit breaker came into a state.",
    ["upstream", "state"],
  ),
  upstreamInFlight: gauge("pbflags_upstream_in_flight", "Calls that the upstream has not answered yet.", [
    "upstream",
  ]),
  upstreamSeconds: histogram(
    "pbflags_upstream_request_duration_seconds",
    "Calls of the upstream, each try by itself, failed ones included.",
    ["upstream", "operation"],
  ),
  upstreamFailures: counter("pbflags_upstream_failures_total", "Calls of the upstream that failed.", [
    "upstream",
    "operation",
  ]),
  upstreamRetries: counter(
    "pbflags_upstream_retries_total",
    "Calls of the upstream that repeat one that failed, there or elsewhere.",
    ["upstream"],
  ),
  upstreamRejected: counter(
    "pbflags_upstream_rejected_total",
    "Calls that the upstream was not given, or whose answer was not taken.",
    ["upstream", "reason"],
  ),
  connectionsDropped: counter("pbflags_connections_dropped_total", "Connections cut, or not taken.", [
    "reason",
  ]),
  rpcRequests: counter("pbflags_rpc_requests_total", "RPCs answered.", ["procedure", "protocol", "code"]),
  rpcFast: counter("pbflags_rpc_fast_total", "RPCs answered the fast way.", ["procedure"]),
  rpcSeconds: histogram("pbflags_rpc_duration_seconds", "Time from request to answer.", ["procedure"]),
  buildInfo: gauge("pbflags_build_info", "Always 1; the version is in the label.", ["version"]),
} as const;

function counter(name: string, help: string, labels: readonly string[] = []): MetricSpec {
  return { name, type: "counter", labels, help };
}

function gauge(name: string, help: string, labels: readonly string[] = []): MetricSpec {
  return { name, type: "gauge", labels, help };
}

function histogram(name: string, help: string, labels: readonly string[]): MetricSpec {
  return { name, type: "histogram", labels, help };
}

/**
 * What a metric comes to where several processes are one daemon. `sum`, `min`, `max`: over all of them. `workers`: the
 * sum over those that answer callers. `primary`: what the one says that knows the store.
 */
export type Across = "sum" | "min" | "max" | "workers" | "primary";

/** Counts add up, and states are the primary's, but for these. */
const EXCEPTIONS: { readonly [K in keyof typeof METRICS]?: Across } = {
  // The primary looks up and counts what workers ask for, too.
  cacheHits: "workers",
  cacheMisses: "workers",
  propagationSeconds: "workers",
  watchFollowers: "workers",
  // Workers have them from the primary, over calls that are nobody else's business.
  fetchSeconds: "primary",
  fetchFailures: "primary",
  epochChanges: "primary",
  invalidValues: "primary",
  descriptorReloads: "primary",
  upstreamBreakerChanges: "primary",
  upstreamSeconds: "primary",
  upstreamFailures: "primary",
  upstreamRetries: "primary",
  upstreamRejected: "primary",
  // Of a limit that holds for each process.
  overrideCacheSize: "max",
  // Of a state that comes to one after the other.
  stateAge: "max",
  stateRevision: "min",
  feedConnected: "min",
};

/** By a metric's name. Undefined: it is none of pbflagd's own. */
export const ACROSS: ReadonlyMap<string, Across> = new Map(
  Object.entries<MetricSpec>(METRICS).map(([key, { name, type }]) => [
    name,
    Object.entries(EXCEPTIONS).find(([exception]) => exception === key)?.[1] ??
      (type === "gauge" ? "primary" : "sum"),
  ]),
);
