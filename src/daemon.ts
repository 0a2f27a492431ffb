import type { Config } from "./config/settings.ts";
import type { DaemonDeps } from "./daemon/deps.ts";
import { type Descriptors, followDescriptors, loadFlags } from "./daemon/descriptors.ts";
import { type ConfigFollower, followConfig } from "./daemon/follow-config.ts";
import { observe } from "./daemon/observe.ts";
import { type OpenStore, openStore } from "./daemon/open-store.ts";
import type { FlagTable } from "./flags/definition.ts";
import type { ReloadResult } from "./flags/watch-descriptors.ts";
import { type Dependency, DependencyHealth } from "./health/dependency-health.ts";
import { type Namespace, openNamespace } from "./namespaces/namespace.ts";
import { reportEvents } from "./namespaces/report-events.ts";
import { type HttpServer, openHttpServer } from "./server/http-server.ts";
import { createRoutes, PROCEDURES } from "./server/routes.ts";
import type { Latest } from "./system/latest.ts";
import { Opened } from "./system/opened.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";

/** A running evaluator. Disposing of it drains it: readiness ends, requests finish, connections close. */
export interface Daemon extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly address: HttpServer["address"];
  readonly namespace: Namespace;
  /** Reads the descriptors again, now. */
  reloadDescriptors(options?: { readonly force?: boolean }): Promise<ReloadResult>;
  /** Reads the configuration again, now, and takes up what may change while the daemon runs. */
  reloadConfig(): Promise<void>;
}

/** The store could not be reached, and the configuration says not to start without it. */
export class StoreRequiredError extends Error {
  override readonly name = "StoreRequiredError";
}

/** How long `require_store` waits for the store's first answers. */
const FIRST_CONTACT_MS = 10_000;
/** Between two sweeps over the dependencies while not ready. */
const STARTING_SWEEP_MS = 1_000;
/** Many proxies may have lost the same upstream. */
const RETURN_SPREAD_MS = 3_000;

/**
 * Starts the evaluator: descriptors, then the port, then the store in the background. A store that is down does
 * not stop it, unless `require_store` is set.
 *
 * @throws DescriptorError, UpstreamError, ListenError, StoreRequiredError
 */
export async function openDaemon(config: Config, deps: DaemonDeps): Promise<Daemon> {
  const { clock, logger, tracing } = deps;
  const opened = new Opened();
  try {
    const flags = await loadFlags(config, deps);
    const metrics = createMetrics({ version: deps.version, procedures: PROCEDURES });
    opened.defer(() => metrics[Symbol.dispose]());

    // The pool begins to ask before the parts that hear from it are there.
    const hears: { namespace?: Namespace; descriptors?: Descriptors } = {};
    const store = openStore({
      config,
      deps,
      metrics,
      events: {
        onUsable() {
          hears.namespace?.storeReturned();
          hears.descriptors?.usable();
        },
        onDescriptorHash: (hash) => hears.descriptors?.announced(hash),
      },
    });
    const { pool } = store;
    const troubles = new Map<string, string>();
    const namespace = opened.add(openConfiguredNamespace({ config, deps, flags, store, metrics, troubles }));
    hears.namespace = namespace;
    observe(metrics, { namespace, pool, clock });

    const descriptors = opened.add(followDescriptors({ config, flags, pool, namespace, metrics, deps }));
    hears.descriptors = descriptors;
    const configuration = followConfiguration({ config, deps, pool, metrics });
    if (configuration !== undefined) opened.add(configuration);
    const health = new DependencyHealth({
      dependencies: () => [
        ...store.dependencies().map((dependency) => withoutTrouble(dependency, troubles)),
        descriptors.dependency,
        ...(configuration?.dependency === undefined ? [] : [configuration.dependency]),
      ],
      // Whoever waits for it to become ready wants to know what is missing.
      intervalMs: () =>
        namespace.ready ? config.health.intervalMs : Math.min(STARTING_SWEEP_MS, config.health.intervalMs),
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
        upstreams: pool,
        version: deps.version,
        limits: {
          bodyBytesMax: config.limits.bodyBytesMax,
          bulkFlagsMax: config.limits.bulkMaxFlags,
          requestTimeoutMs: config.limits.requestTimeoutMs,
          fetchTimeoutMs: config.cache.fetchTimeoutMs,
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
      reloadDescriptors: (options) => descriptors.reload(options),
      reloadConfig: async () => void (await configuration?.reload()),
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

function followConfiguration({
  config,
  deps,
  pool,
  metrics,
}: {
  readonly config: Config;
  readonly deps: DaemonDeps;
  readonly pool: OpenStore["pool"];
  readonly metrics: Metrics;
}): ConfigFollower | undefined {
  const { configSource: source, clock, logger } = deps;
  if (source === undefined) return undefined;
  return followConfig({
    source,
    config,
    pool,
    logger,
    clock,
    onReload: (result) => metrics.recordConfigReload(result),
  });
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

interface NamespaceParts {
  readonly config: Config;
  readonly deps: DaemonDeps;
  readonly flags: Latest<FlagTable>;
  readonly store: OpenStore;
  readonly metrics: Metrics;
  /** By operation, why its last call failed; kept up to date here. */
  readonly troubles: Map<string, string>;
}

function openConfiguredNamespace(parts: NamespaceParts): Namespace {
  const { config, deps, flags, metrics, troubles } = parts;
  const { store, backend } = parts.store;
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
    returnSpreadMs: backend === "upstream" ? RETURN_SPREAD_MS : 0,
    hasDescriptors: () => flags.value.descriptorSet !== undefined,
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
