import type { Config } from "../config/settings.ts";
import type { Dependency } from "../health/dependency-health.ts";
import type { FlagStore } from "../store/flag-store.ts";
import { openPostgresStore, type PostgresStore } from "../store/postgres-store.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { PoolEvents, UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import type { DaemonDeps } from "./deps.ts";

/** Where this daemon's state comes from. */
export interface OpenStore {
  readonly store: FlagStore;
  readonly backend: "db" | "upstream";
  /** What to check of it: the database, or every upstream of the pool. */
  readonly dependencies: () => readonly Dependency[];
  /** Undefined in root mode. Closed with the store. */
  readonly pool: UpstreamPool | undefined;
}

export interface StoreParts {
  readonly config: Config;
  readonly deps: DaemonDeps;
  readonly metrics: Metrics;
  /** Undefined in proxy mode. */
  readonly database: PostgresStore | undefined;
  readonly events: Pick<PoolEvents, "onUsable" | "onDescriptorHash">;
}

/** The database, which begins to connect at once. Undefined in proxy mode. */
export function openDatabase(
  { database: url, databasePool, preparedStatements, cache }: Config,
  { clock }: Pick<DaemonDeps, "clock">,
): PostgresStore | undefined {
  if (url === undefined) return undefined;
  const store = openPostgresStore({
    url,
    poolSize: databasePool,
    preparedStatements,
    fetchTimeoutMs: cache.fetchTimeoutMs,
    clock,
  });
  store.prepare();
  return store;
}

/**
 * The configuration has been checked: it names one store. What a pool needs is loaded where there is one: the start has to
 * be quick.
 *
 * @throws UpstreamError for settings of an upstream that cannot be used
 */
export async function openStore(parts: StoreParts): Promise<OpenStore> {
  const { config, database: store } = parts;
  if (store !== undefined) {
    const dependency: Dependency = {
      name: "database",
      async check() {
        await store.ping();
        return "answers";
      },
    };
    return { store, backend: "db", dependencies: () => [dependency], pool: undefined };
  }
  if (config.upstreams === undefined)
    throw new Error("Cannot start: none of database, server, upstreams is set");
  const { openPoolStore } = await import("./open-pool-store.ts");
  return openPoolStore(config.upstreams, parts);
}
