/** How the pool chooses among the upstreams that could take a call. */
export type Strategy =
  | "round-robin"
  | "random"
  | "least-connections"
  | "least-latency"
  | "weighted-random"
  | "consistent-hash"
  | "priority";

/**
 * How a reload replaces upstreams. `recreate`: the old ones are closed, then the new ones opened. `graceful`: the new
 * ones take over, the old ones finish what they have begun. `rolling`: one at a time, each healthy before the next.
 */
export type ReloadStrategy = "recreate" | "graceful" | "rolling";

/** A pool of upstreams, complete and checked. */
export interface PoolSettings {
  readonly strategy: Strategy;
  readonly reloadStrategy: ReloadStrategy;
  /** Longest wait for the calls of an upstream that leaves the pool. */
  readonly drainTimeoutMs: number;
  readonly healthCheck: HealthCheckSettings;
  readonly score: ScoreSettings;
  /** At least one; no two have the same name. */
  readonly upstreams: readonly UpstreamSettings[];
}

export interface HealthCheckSettings {
  readonly intervalMs: number;
  /** For each check. */
  readonly timeoutMs: number;
  /** Share of the interval, 0 to 1. */
  readonly jitter: number;
}

/** An upstream whose score is 0 or more is usable. `min` < 0 ≤ `max`, `min` ≤ `initial` ≤ `max`. */
export interface ScoreSettings {
  readonly initial: number;
  readonly min: number;
  readonly max: number;
  /** Added for a success: above 0. */
  readonly success: number;
  /** Added for a failure: below 0. */
  readonly failure: number;
}

/** One upstream, complete: what it does not set itself it has from the pool's defaults. */
export interface UpstreamSettings {
  /** For people, metrics and commands. */
  readonly name: string;
  /** `http:`, `https:`, `grpc:`, `grpcs:` or `unix:///path`; `exec:` and the program to run. */
  readonly url: string;
  /** `auto`: found out by asking. */
  readonly kind: "auto" | "pbflagd" | "pbflags";
  /** For the strategy `priority`: higher ones first. */
  readonly priority: number;
  /** For `weighted-random` and `consistent-hash`: above 0. */
  readonly weight: number;
  readonly auth: AuthSettings;
  readonly tls: TlsSettings;
  readonly retry: RetrySettings;
  readonly breaker: BreakerSettings;
  /** Undefined: no limit. */
  readonly rateLimit: RateLimitSettings | undefined;
  readonly connection: ConnectionSettings;
  /** Used by `exec:` alone. */
  readonly exec: ExecSettings;
}

/** How to tell an upstream who is asking. Holds secrets: never to be logged. */
export type AuthSettings =
  | { readonly method: "none" }
  /** Sent as `X-API-Key`. */
  | { readonly method: "api-key"; readonly key: string }
  | { readonly method: "bearer"; readonly token: string }
  | { readonly method: "basic"; readonly username: string; readonly password: string }
  /** PEM files. They are read for each new connection, so that renewed ones are taken up. */
  | { readonly method: "mtls"; readonly certFile: string; readonly keyFile: string }
  | { readonly method: "custom"; readonly headers: Readonly<Record<string, string>> };

export interface TlsSettings {
  /** PEM file with the authorities to trust instead of the machine's. */
  readonly caFile: string | undefined;
  /** The name the certificate must be for, where it is not the URL's host. */
  readonly serverName: string | undefined;
}

export interface RetrySettings {
  /** Further tries after the first. */
  readonly maxRetries: number;
  /** Undefined: half of the time allowed for all tries. */
  readonly tryTimeoutMs: number | undefined;
  readonly initialIntervalMs: number;
  readonly maxIntervalMs: number;
  readonly multiplier: number;
  /** Share of an interval, 0 to 1. */
  readonly jitter: number;
  /** Retries may be at most this share of all calls, 0 to 1. */
  readonly budget: number;
}

export interface BreakerSettings {
  /** Failures in a row that open it … */
  readonly failuresMax: number;
  /** … once so many calls have ended. */
  readonly callsMin: number;
  readonly openMs: number;
  /** Successes that close it. */
  readonly successesToClose: number;
}

export interface RateLimitSettings {
  readonly requestsPerSecond: number;
  /** Requests that may come at once. */
  readonly burstSize: number;
}

export interface ConnectionSettings {
  /** Further calls wait for one. gRPC needs one only. */
  readonly connectionsMax: number;
  /** A connection that has been idle for so long is closed. */
  readonly idleTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** For one call on the connection; what the caller allows may be less. */
  readonly requestTimeoutMs: number;
  /** Between TCP keep-alive probes, and HTTP/2 pings while a call is open. 0: none. */
  readonly keepAliveMs: number;
  /** Of what the upstream answers. */
  readonly compression: "none" | "gzip";
}

export interface ExecSettings {
  readonly args: readonly string[];
  /** Beside PATH, HOME, LANG, TZ and TMPDIR of this process, nothing of which it gets otherwise. */
  readonly env: Readonly<Record<string, string>>;
  /** How long it may take to announce itself. */
  readonly startTimeoutMs: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopTimeoutMs: number;
}
