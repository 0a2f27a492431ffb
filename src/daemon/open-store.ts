import { join } from "node:path";
import type { Config } from "../config/settings.ts";
import type { Dependency } from "../health/dependency-health.ts";
import type { FlagStore } from "../store/flag-store.ts";
import { openPostgresStore, type PostgresStore } from "../store/postgres-store.ts";
import { openUpstreamStore } from "../store/upstream-store.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { openExecTransport } from "../upstream/exec/exec-transport.ts";
import { openUpstreamPool } from "../upstream/pool/pool.ts";
import type { PoolEvents, UpstreamPool, UpstreamReport } from "../upstream/pool/upstream-pool.ts";
import { openTransport } from "../upstream/transport/open-transport.ts";
import type { Transport } from "../upstream/transport/transport.ts";
import type { PoolSettings, UpstreamSettings } from "../upstream/upstream-settings.ts";
import type { DaemonDeps } from "./deps.ts";
import { reportPool } from "./report-pool.ts";
import { reportProgram } from "./report-program.ts";

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
 * The configuration has been checked: it names one store.
 *
 * @throws UpstreamError for settings of an upstream that cannot be used
 */
export function openStore(parts: StoreParts): OpenStore {
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
  return openProxied(config.upstreams, parts);
}

function openProxied(settings: PoolSettings, { config, deps, metrics, events }: StoreParts): OpenStore {
  const { clock, random, logger } = deps;
  const pool = openUpstreamPool({
    settings,
    openTransport: createTransports(config, deps),
    clock,
    random,
    events: { ...reportPool({ metrics, logger }), ...events },
  });
  const store = openUpstreamStore({
    pool,
    fetchTimeoutMs: config.cache.fetchTimeoutMs,
    clock,
  });
  const dependencies = () =>
    pool.upstreams.filter(({ state }) => state !== "draining").map(({ name }) => toDependency(name, pool));
  return { store, backend: "upstream", dependencies, pool };
}

function createTransports(config: Config, deps: DaemonDeps): (settings: UpstreamSettings) => Transport {
  const { clock, random, tracing, logger, env, runtimeFolder } = deps;
  const headers = () => tracing?.outgoingHeaders() ?? {};
  const folder = config.stateDir === undefined ? runtimeFolder : join(config.stateDir, "plugins");
  const { onOutput, onEvent } = reportProgram(logger);
  return (settings) =>
    openTransport({
      settings,
      clock,
      headers,
      openExec: (program) =>
        openExecTransport({
          settings: program,
          connect: (announced) => openTransport({ settings: announced, clock, headers }),
          folder,
          env,
          clock,
          random,
          onOutput,
          onEvent,
        }),
    });
}

function toDependency(name: string, pool: UpstreamPool): Dependency {
  return {
    name: `upstream:${name}`,
    async check(signal) {
      const answered = await pool.check(name, signal);
      const report = pool.upstreams.find((upstream) => upstream.name === name);
      if (report === undefined) throw new Error("has left the pool");
      if (!answered || report.state !== "up") throw new Error(describe(report));
      return describe(report);
    },
  };
}

/** What `pbflagd upstreams` tells of it, in a sentence. */
function describe({ state, kind, status, score, breaker, latencyMs, lastError }: UpstreamReport): string {
  const latency = latencyMs === undefined ? "" : `, ${latencyMs.toFixed(1)} ms a call`;
  const said = kind === undefined ? "" : `, ${kind}, ${status ?? "has not said how it does"}`;
  const error = lastError === undefined ? "" : `; last error: ${lastError.message}`;
  return `${state}${said}, score ${score}, breaker ${breaker}${latency}${error}`;
}
