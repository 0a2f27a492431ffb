import type { AuthSettings, PoolSettings, UpstreamSettings } from "../../upstream/upstream-settings.ts";
import { type PoolValues, poolEntries, type ServerValues, serverEntries } from "./fields.ts";
import type { PlacedFields } from "./read-fields.ts";

/** What a pool is made of, defaults filled in. */
export interface PoolParts {
  readonly pool: PlacedFields;
  readonly servers: readonly { readonly name: string; readonly values: PlacedFields }[];
  readonly drainTimeoutMs: number;
}

/** The pool as its client takes it. Throws if something could not be read. */
export function toPoolSettings({ pool, servers, drainTimeoutMs }: PoolParts): PoolSettings {
  const values = valuesOf(pool);
  if (!isPool(values)) throw cannot("a setting is missing");
  return {
    strategy: values.strategy,
    reloadStrategy: values.reload_strategy,
    drainTimeoutMs,
    healthCheck: {
      intervalMs: values["health_check.interval"],
      timeoutMs: values["health_check.timeout"],
      jitter: values["health_check.jitter_percent"] / 100,
    },
    score: {
      initial: values["score.initial"],
      min: values["score.min"],
      max: values["score.max"],
      success: values["score.success"],
      failure: values["score.failure"],
    },
    upstreams: servers.map(({ name, values: fields }) => toUpstream(name, valuesOf(fields))),
  };
}

function toUpstream(name: string, values: Readonly<Record<string, unknown>>): UpstreamSettings {
  if (!isServer(values)) throw cannot(`a setting of ${name} is missing`);
  return {
    name,
    url: needed(values.url, "url"),
    kind: values.kind,
    priority: values.priority,
    weight: values.weight,
    auth: toAuth(values),
    tls: { caFile: values["tls.ca_file"], serverName: values["tls.server_name"] },
    retry: {
      maxRetries: values["retry.max_retries"],
      tryTimeoutMs: values["retry.try_timeout"],
      initialIntervalMs: values["retry.initial_interval"],
      maxIntervalMs: values["retry.max_interval"],
      multiplier: values["retry.multiplier"],
      jitter: values["retry.jitter_percent"] / 100,
      budget: values["retry.budget_percent"] / 100,
    },
    breaker: {
      failuresMax: values["breaker.failures_max"],
      callsMin: values["breaker.calls_min"],
      openMs: values["breaker.open"],
      successesToClose: values["breaker.successes_to_close"],
    },
    rateLimit: toRateLimit(values),
    connection: {
      connectionsMax: values["connection.connections_max"],
      idleTimeoutMs: values["connection.idle_timeout"],
      connectTimeoutMs: values["connection.connect_timeout"],
      requestTimeoutMs: values["connection.request_timeout"],
      keepAliveMs: values["connection.keep_alive"],
      compression: values["connection.compression"],
    },
    exec: {
      args: values["exec.args"],
      env: values["exec.env"],
      startTimeoutMs: values["exec.start_timeout"],
      stopTimeoutMs: values["exec.stop_timeout"],
    },
  };
}

function toAuth(values: ServerValues): AuthSettings {
  const method = values["auth.method"];
  switch (method) {
    case "api-key":
      return { method, key: needed(values["auth.key"], "auth.key") };
    case "bearer":
      return { method, token: needed(values["auth.token"], "auth.token") };
    case "basic":
      return {
        method,
        username: needed(values["auth.username"], "auth.username"),
        password: needed(values["auth.password"], "auth.password"),
      };
    case "mtls":
      return {
        method,
        certFile: needed(values["auth.cert_file"], "auth.cert_file"),
        keyFile: needed(values["auth.key_file"], "auth.key_file"),
      };
    case "custom":
      return { method, headers: values["auth.headers"] };
    case "none":
    default:
      return { method };
  }
}

function toRateLimit(values: ServerValues): UpstreamSettings["rateLimit"] {
  const requestsPerSecond = values["rate_limit.requests_per_second"];
  if (requestsPerSecond === undefined) return undefined;
  return {
    requestsPerSecond,
    burstSize: values["rate_limit.burst_size"] ?? Math.ceil(requestsPerSecond),
  };
}

function valuesOf(fields: PlacedFields): Readonly<Record<string, unknown>> {
  return Object.fromEntries(Array.from(fields, ([key, { value }]) => [key, value]));
}

/** The types follow from the tables; so do the values, if every field was read as its kind says. */
function isPool(values: Readonly<Record<string, unknown>>): values is PoolValues {
  return poolEntries.every(([key, { fallback }]) => fallback === undefined || values[key] !== undefined);
}

function isServer(values: Readonly<Record<string, unknown>>): values is ServerValues {
  return serverEntries.every(([key, { fallback }]) => fallback === undefined || values[key] !== undefined);
}

function needed(text: string | undefined, key: string): string {
  if (text === undefined) throw cannot(`${key} is missing`);
  return text;
}

function cannot(why: string): Error {
  return new Error(`Cannot put the upstreams together: ${why}`);
}
