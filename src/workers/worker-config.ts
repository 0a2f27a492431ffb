import type { Config } from "../config/settings.ts";
import { toPoolOfOne } from "../config/upstreams/parse-upstreams.ts";
import type { PoolSettings } from "../upstream/upstream-settings.ts";

/** What the primary is called where its workers name their upstream. */
export const PRIMARY = "primary";

/** Of an answer's time that the way between two processes is given. */
const WAY_SHARE = 0.1;
const WAY_MAX_MS = 25;

/** The primary gives its store a little less time than callers are promised, so that workers hear how it ended. */
export function toPrimaryConfig(config: Config, socket: string): Config {
  const { cache } = config;
  const wayMs = Math.min(WAY_MAX_MS, cache.fetchTimeoutMs * WAY_SHARE);
  return {
    ...config,
    listen: { kind: "unix", path: socket },
    cache: { ...cache, fetchTimeoutMs: cache.fetchTimeoutMs - wayMs },
  };
}

/** A proxy in front of the primary. Store, snapshot, programs and the admin service are the primary's alone. */
export function toWorkerConfig(config: Config, socket: string): Config {
  return {
    ...config,
    descriptors: undefined,
    database: undefined,
    databaseListen: undefined,
    server: undefined,
    upstreams: toPrimaryPool(socket),
    admin: undefined,
    stateDir: undefined,
    requireStore: false,
    workers: 1,
  };
}

const NEVER = 1_000_000;

/** Whatever it answers, or not: there is no other to ask. If it is gone, so is the worker. */
function toPrimaryPool(socket: string): PoolSettings {
  const pool = toPoolOfOne(`unix://${socket}`, 0);
  return {
    ...pool,
    healthCheck: { ...pool.healthCheck, intervalMs: 1_000, timeoutMs: 2_000 },
    score: { initial: NEVER, min: -1, max: NEVER, success: NEVER, failure: -1 },
    upstreams: pool.upstreams.map((upstream) => ({
      ...upstream,
      name: PRIMARY,
      kind: "pbflagd",
      retry: { ...upstream.retry, maxRetries: 0 },
      breaker: { ...upstream.breaker, failuresMax: NEVER, callsMin: NEVER },
      connection: { ...upstream.connection, connectionsMax: 100, connectTimeoutMs: 5_000 },
    })),
  };
}

/** What the workers may ask of the primary: they hold callers to the limits that are configured. */
export function toPrivateLimits(limits: Config["limits"]): Config["limits"] {
  return {
    ...limits,
    bodyBytesMax: 64 * 1024 * 1024,
    headerBytesMax: 1024 * 1024,
    bulkMaxFlags: NEVER,
    connectionsMax: 100_000,
  };
}
