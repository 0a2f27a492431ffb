import { join } from "node:path";
import type { Config } from "../config/settings.ts";
import type { Dependency } from "../health/dependency-health.ts";
import { openUpstreamStore } from "../store/upstream-store.ts";
import { openExecTransport } from "../upstream/exec/exec-transport.ts";
import { openUpstreamPool } from "../upstream/pool/pool.ts";
import type { UpstreamPool, UpstreamReport } from "../upstream/pool/upstream-pool.ts";
import { openTransport } from "../upstream/transport/open-transport.ts";
import type { Transport } from "../upstream/transport/transport.ts";
import type { PoolSettings, UpstreamSettings } from "../upstream/upstream-settings.ts";
import type { DaemonDeps } from "./deps.ts";
import type { OpenStore, StoreParts } from "./open-store.ts";
import { reportPool } from "./report-pool.ts";
import { reportProgram } from "./report-program.ts";

/**
 * A pool of upstreams as the store.
 *
 * @throws UpstreamError for settings of an upstream that cannot be used
 */
export function openPoolStore(
  settings: PoolSettings,
  { config, deps, metrics, events }: Omit<StoreParts, "database">,
): OpenStore {
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
