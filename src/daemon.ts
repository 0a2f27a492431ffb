import { access, constants } from "node:fs/promises";
import type { Config } from "./config/settings.ts";
import type { FlagTable } from "./flags/definition.ts";
import { loadDescriptors } from "./flags/load-descriptors.ts";
import { type DescriptorWatch, openDescriptorWatch, type ReloadResult } from "./flags/watch-descriptors.ts";
import { type Dependency, DependencyHealth } from "./health/dependency-health.ts";
import { type Namespace, openNamespace } from "./namespaces/namespace.ts";
import { reportEvents } from "./namespaces/report-events.ts";
import { type HttpServer, openHttpServer } from "./server/http-server.ts";
import { createRoutes, PROCEDURES } from "./server/routes.ts";
import type { FlagStore } from "./store/flag-store.ts";
import { openPostgresStore } from "./store/postgres-store.ts";
import { openUpstreamStore } from "./store/upstream-store.ts";
import type { Clock } from "./system/clock.ts";
import { Latest } from "./system/latest.ts";
import { Opened } from "./system/opened.ts";
import type { Logger } from "./telemetry/logger.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";
import type { Tracing } from "./telemetry/tracing.ts";

/** The outside world, as the daemon needs it. */
export interface DaemonDeps {
  /** Of pbflagd, as package.json has it. */
  readonly version: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  /** Undefined: nothing is traced. */
  readonly tracing: Tracing | undefined;
  /** Aborts when the process is asked to end, be it before the daemon is open: then opening it waits for nothing. */
  readonly stopping: AbortSignal;
}

/** A running evaluator. Disposing of it drains it: readiness ends, requests finish, connections close. */
export interface Daemon extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly address: HttpServer["address"];
  readonly namespace: Namespace;
  /** Reads the descriptors again, now. */
  reloadDescriptors(options?: { readonly force?: boolean }): Promise<ReloadResult>;
}

/** The store could not be reached, and the configuration says not to start without it. */
export class StoreRequiredError extends Error {
  override readonly name = "StoreRequiredError";
}

/** How long `require_store` waits for the store's first answers. */
const FIRST_CONTACT_MS = 10_000;

/**
 * Starts the evaluator: descriptors, then the port, then the store in the background. A store that is down does
 * not stop it, unless `require_store` is set.
 *
 * @throws DescriptorError, ListenError, StoreRequiredError
 */
export async function openDaemon(config: Config, deps: DaemonDeps): Promise<Daemon> {
  const { clock, logger, tracing } = deps;
  const opened = new Opened();
  try {
    const path = requireDescriptors(config);
    const flags = new Latest<FlagTable>(await loadDescriptors(path));
    logger.info("descriptors_loaded", {
      path,
      features: flags.value.features.length,
      flags: flags.value.flags.length,
    });

    const metrics = createMetrics({ version: deps.version, procedures: PROCEDURES });
    opened.defer(() => metrics[Symbol.dispose]());
    const { store, dependency, backend } = openStore(config, deps);
    const troubles = new Map<string, string>();
    const namespace = opened.add(
      openConfiguredNamespace({ config, deps, flags, store, backend, metrics, troubles }),
    );
    observe(metrics, namespace, clock);

    const watch = opened.add(watchDescriptors({ path, flags, namespace, metrics, deps }));
    const health = new DependencyHealth({
      dependencies: [withoutTrouble(dependency, troubles), descriptorsDependency(path, watch)],
      intervalMs: config.health.intervalMs,
      timeoutMs: config.health.timeoutMs,
      clock,
    });

    const stopping = new AbortController();
    const server = await openHttpServer({
      address: config.listen,
      limits: config.limits,
      drainTimeoutMs: config.shutdownTimeoutMs,
      clock,
      handle: createRoutes({
        namespace,
        limits: {
          bodyBytesMax: config.limits.bodyBytesMax,
          bulkFlagsMax: config.limits.bulkMaxFlags,
          requestTimeoutMs: config.limits.requestTimeoutMs,
        },
        clock,
        tracing,
        stopping: stopping.signal,
        checks: () => health.checks,
        metrics: () => metrics.render(),
        onRpc: (rpc) => metrics.recordRpc(rpc),
        onInternalError: (error, where) => logger.error("internal_error", { where, err: error }),
      }),
      onDrop(reason) {
        metrics.recordConnectionDropped(reason);
        logger.warn("connection_dropped", { reason });
      },
    });
    opened.add(server);
    const sweeping = health.run(stopping.signal);
    opened.defer(async () => {
      stopping.abort();
      await sweeping;
    });
    if (config.requireStore) await firstContact(namespace, deps);

    return {
      address: server.address,
      namespace,
      reloadDescriptors: (options) => watch.reload(options),
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

function requireDescriptors({ descriptors }: Config): string {
  if (descriptors === undefined) throw new Error("Cannot start: descriptors is not set");
  return descriptors;
}

interface OpenStore {
  readonly store: FlagStore;
  readonly dependency: Dependency;
  readonly backend: "db" | "upstream";
}

/** The configuration has been checked: it names one store. */
function openStore(config: Config, { clock, tracing }: DaemonDeps): OpenStore {
  const { database, server, databasePool, preparedStatements, cache } = config;
  const { fetchTimeoutMs } = cache;
  if (database !== undefined) {
    const store = openPostgresStore({
      url: database,
      poolSize: databasePool,
      preparedStatements,
      fetchTimeoutMs,
      clock,
    });
    return { store, backend: "db", dependency: pinged("database", store) };
  }
  if (server === undefined) throw new Error("Cannot start: none of database, server, upstreams is set");
  const store = openUpstreamStore({
    url: server,
    headers: () => tracing?.outgoingHeaders() ?? {},
    fetchTimeoutMs,
    clock,
  });
  return { store, backend: "upstream", dependency: pinged("upstream", store) };
}

function pinged(name: string, store: { ping(): Promise<void> }): Dependency {
  return {
    name,
    async check() {
      await store.ping();
      return "answers";
    },
  };
}

/** A store that answers, but fails some of its calls, is not well: a missing privilege, for instance. */
function withoutTrouble({ name, check }: Dependency, troubles: ReadonlyMap<string, string>): Dependency {
  return {
    name,
    async check(signal) {
      const message = await check(signal);
      const [trouble] = troubles.values();
      if (trouble !== undefined) throw new Error(trouble);
      return message;
    },
  };
}

function descriptorsDependency(path: string, watch: Pick<DescriptorWatch, "lastResult">): Dependency {
  return {
    name: "descriptors",
    async check() {
      const last = watch.lastResult;
      if (last?.kind === "rejected" || last?.kind === "held") throw new Error(`${last.kind}: ${last.reason}`);
      await access(path, constants.R_OK);
      return "in force";
    },
  };
}

interface NamespaceParts {
  readonly config: Config;
  readonly deps: DaemonDeps;
  readonly flags: Latest<FlagTable>;
  readonly store: FlagStore;
  readonly backend: "db" | "upstream";
  readonly metrics: Metrics;
  /** By operation, why its last call failed; kept up to date here. */
  readonly troubles: Map<string, string>;
}

function openConfiguredNamespace(parts: NamespaceParts): Namespace {
  const { config, deps, flags, store, backend, metrics, troubles } = parts;
  const events = reportEvents({ metrics, logger: deps.logger, backend });
  const { cache } = config;
  const { tracing } = deps;
  return openNamespace({
    flags,
    store,
    clock: deps.clock,
    random: deps.random,
    killTtlMs: cache.killTtlMs,
    flagTtlMs: cache.flagTtlMs,
    overrideTtlMs: cache.overrideTtlMs,
    negativeTtlMs: cache.negativeTtlMs,
    overrideEntriesMax: cache.overrideMaxEntries,
    jitter: cache.jitterPercent / 100,
    events: {
      ...events,
      onStoreCall(operation, durationMs, error) {
        if (error === undefined) troubles.delete(operation);
        else troubles.set(operation, error instanceof Error ? error.message : "it failed");
        events.onStoreCall(operation, durationMs, error);
      },
    },
    traceStoreCall: (operation, run) =>
      tracing === undefined ? run() : tracing.traceStoreCall({ backend, operation }, run),
  });
}

function observe(metrics: Metrics, namespace: Namespace, clock: Clock): void {
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
  });
}

interface WatchParts {
  readonly path: string;
  readonly flags: Latest<FlagTable>;
  readonly namespace: Namespace;
  readonly metrics: Metrics;
  readonly deps: DaemonDeps;
}

function watchDescriptors({ path, flags, namespace, metrics, deps }: WatchParts): DescriptorWatch {
  const { clock, logger } = deps;
  return openDescriptorWatch({
    path,
    table: flags,
    clock,
    onWatchError: (error) => logger.warn("descriptor_watch_failed", { path, err: error }),
    onReload(result) {
      metrics.recordDescriptorReload(result.kind);
      switch (result.kind) {
        case "unchanged":
          break;
        case "replaced":
          logger.info("descriptors_replaced", { path, ...result.comparison });
          namespace.flagsReplaced();
          break;
        case "rejected":
        case "held":
          logger.error(`descriptors_${result.kind}`, { path, reason: result.reason });
          break;
      }
    },
  });
}

/** Resolves once the store has answered all that readiness needs, or the process is asked to end. */
async function firstContact(namespace: Namespace, { clock, stopping }: DaemonDeps): Promise<void> {
  const end = new AbortController();
  const abort = () => end.abort();
  stopping.addEventListener("abort", abort, { once: true });
  const ready = namespace.whenReady(end.signal).then(
    () => true,
    () => stopping.aborted,
  );
  const tooLate = clock.sleep(FIRST_CONTACT_MS, end.signal).then(
    () => false,
    () => true,
  );
  const contacted = stopping.aborted || (await Promise.race([ready, tooLate]));
  stopping.removeEventListener("abort", abort);
  end.abort();
  if (contacted) return;
  throw new StoreRequiredError(`Cannot start: the store has not answered within ${FIRST_CONTACT_MS} ms`);
}
