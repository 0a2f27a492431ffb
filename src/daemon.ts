import type { Config } from "./config/settings.ts";
import { openConfiguredNamespace } from "./daemon/configured-namespace.ts";
import { feedHealth, stateFolder, stateHealth, withoutTrouble } from "./daemon/dependencies.ts";
import type { DaemonDeps } from "./daemon/deps.ts";
import { type Descriptors, followDescriptors, loadFlags } from "./daemon/descriptors.ts";
import { firstAnswers, keepChecking } from "./daemon/first-answers.ts";
import { firstContact } from "./daemon/first-contact.ts";
import { type ConfigFollower, followConfig } from "./daemon/follow-config.ts";
import { observe } from "./daemon/observe.ts";
import { openFeed, takeUpUsable } from "./daemon/open-feed.ts";
import { type OpenStore, openDatabase, openStore } from "./daemon/open-store.ts";
import type { WorkerPart } from "./daemon/part.ts";
import { reportServer } from "./daemon/report-server.ts";
import { keepKnowledge, loadKnowledge } from "./daemon/snapshot.ts";
import type { ReloadResult } from "./flags/watch-descriptors.ts";
import { type DependencyCheck, DependencyHealth } from "./health/dependency-health.ts";
import type { ChangeFeed } from "./kills/change-feed.ts";
import type { SnapshotWriter } from "./kills/snapshot/snapshot-writer.ts";
import type { Namespace } from "./namespaces/namespace.ts";
import { type HttpServer, openHttpServer } from "./server/http-server.ts";
import { PROCEDURES } from "./server/procedures.ts";
import { createRoutes } from "./server/routes.ts";
import { Opened } from "./system/opened.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";

/** A running evaluator. Disposing of it drains it: readiness ends, requests finish, connections close. */
export interface Daemon extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly address: HttpServer["address"];
  /** Where the admin service is. Undefined: nowhere. */
  readonly adminAddress: HttpServer["address"] | undefined;
  readonly namespace: Namespace;
  readonly metrics: Pick<Metrics, "collect" | "recordConnectionDropped">;
  /** Of everything the daemon depends on, the last results. */
  readonly checks: readonly DependencyCheck[];
  /** Reads the descriptors again, now. */
  reloadDescriptors(options?: { readonly force?: boolean }): Promise<ReloadResult>;
  /** Reads the configuration again, now, and takes up what may change while the daemon runs. */
  reloadConfig(): Promise<void>;
  /** Keeps what is known a last time, where it is kept at all, in 2 s at most: the process is about to end. Never rejects. */
  keepLast(): Promise<void>;
}

/** Between two sweeps over the dependencies while not ready. */
const STARTING_SWEEP_MS = 1_000;

/**
 * Starts the evaluator: descriptors, then the ports, then the store in the background. A store that is down does
 * not stop it, unless `require_store` is set.
 *
 * @throws DescriptorError, UpstreamError, ListenError, StoreRequiredError
 */
export async function openDaemon(config: Config, deps: DaemonDeps): Promise<Daemon> {
  const { clock, logger, tracing, part } = deps;
  const opened = new Opened();
  try {
    // It connects while the descriptors are parsed. The namespace closes it as well: who closes it first, closes it.
    const database = openDatabase(config, deps);
    if (database !== undefined) opened.add(database);
    const flags = await loadFlags(config, deps);
    // Loaded only where there is one: the start has to be quick.
    const admin = config.admin === undefined ? undefined : await import("./daemon/open-admin.ts");
    const metrics = createMetrics({
      version: deps.version,
      procedures: [...PROCEDURES, ...(admin?.ADMIN_PROCEDURES ?? [])],
    });
    opened.defer(() => metrics[Symbol.dispose]());

    // The pool begins to ask before the parts that hear from it are there.
    const hears: {
      namespace?: Namespace;
      feed?: ChangeFeed;
      descriptors?: Descriptors;
      snapshot?: SnapshotWriter | undefined;
    } = {};
    const snapshot = await loadKnowledge({ config, flags, metrics, deps });
    const store = await openStore({
      config,
      deps,
      metrics,
      database,
      events: {
        onUsable() {
          const { namespace, feed } = hears;
          if (namespace !== undefined) takeUpUsable({ namespace, feed });
          hears.descriptors?.usable();
        },
        onDescriptorHash: (hash) => hears.descriptors?.announced(hash),
      },
    });
    const { pool } = store;
    const troubles = new Map<string, string>();
    const namespace = opened.add(
      openConfiguredNamespace({
        config,
        deps,
        flags,
        store,
        metrics,
        troubles,
        snapshot,
        onLearnt: (isNews) => (isNews ? hears.snapshot?.changed() : hears.snapshot?.refreshed()),
      }),
    );
    hears.namespace = namespace;
    hears.snapshot = keepKnowledge(namespace, { config, flags, metrics, deps });
    if (hears.snapshot !== undefined) opened.add(hears.snapshot);
    const startsAfter = (signal: AbortSignal) => firstAnswers(namespace, { clock, signal });
    const feed = openFeed({ config, deps, namespace, pool, startsAfter });
    if (feed !== undefined) hears.feed = opened.add(feed);
    observe(metrics, { namespace, pool, feed, clock });

    const descriptors = opened.add(
      followDescriptors({ config, flags, pool, namespace, startsAfter, metrics, deps }),
    );
    hears.descriptors = descriptors;
    const configuration = followConfiguration({ config, deps, pool, metrics });
    if (configuration !== undefined) opened.add(configuration);
    const health = new DependencyHealth({
      dependencies: () => [
        // Which upstream a failed call went to, its own check says.
        ...(pool === undefined
          ? store.dependencies().map((dependency) => withoutTrouble(dependency, troubles))
          : store.dependencies()),
        ...stateFolder(config, hears.snapshot),
        stateHealth({ namespace, pool, clock }),
        ...feedHealth(feed),
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
    const reports = reportServer({ metrics, logger });
    // What workers ask of their primary is no call of anybody's.
    const { onRpc, onDrop } = part?.kind === "primary" ? UNCOUNTED : reports;
    const { onStalled, onInternalError } = reports;
    const limits = part?.kind === "primary" ? part.limits : config.limits;
    const worker = part?.kind === "worker" ? part : undefined;
    const server = await openHttpServer({
      address: config.listen,
      openListener: worker?.openListener,
      limits,
      drainTimeoutMs: config.shutdownTimeoutMs,
      clock,
      handle: createRoutes({
        namespace: worker === undefined ? namespace : asOne(namespace, worker),
        upstreams: pool,
        upstreamService: worker?.upstreamService,
        version: deps.version,
        limits: {
          bodyBytesMax: limits.bodyBytesMax,
          bulkFlagsMax: limits.bulkMaxFlags,
          requestTimeoutMs: limits.requestTimeoutMs,
          fetchTimeoutMs: config.cache.fetchTimeoutMs,
        },
        clock,
        tracing,
        stopping: stopping.signal,
        checks: () => worker?.checks(health.checks) ?? health.checks,
        metrics: () => worker?.metrics() ?? metrics.render(),
        onRpc,
        onFollowers: (count) => metrics.recordFollowers(count),
        onStalled,
        onInternalError,
      }),
      onDrop,
      onInternalError,
    });
    opened.add(server);
    const adminServer = await admin?.openAdmin({ config, deps, metrics, stopping: stopping.signal });
    // Both drain at once: together they have the time that one has.
    opened.defer(async () => {
      await Promise.all([server[Symbol.asyncDispose](), adminServer?.[Symbol.asyncDispose]()]);
    });
    const checking = keepChecking(health, namespace, { clock, signal: stopping.signal });
    opened.defer(async () => {
      stopping.abort();
      await checking;
    });
    if (config.requireStore) await firstContact(namespace, deps);

    return {
      address: server.address,
      adminAddress: adminServer?.address,
      namespace,
      metrics,
      get checks() {
        return health.checks;
      },
      reloadDescriptors: (options) => descriptors.reload(options),
      reloadConfig: async () => void (await configuration?.reload()),
      keepLast: async () => hears.snapshot?.[Symbol.asyncDispose](),
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

const UNCOUNTED = { onRpc: () => {}, onDrop: () => {} };

/** The namespace of a worker, whose store is as well as the primary's, and which is ready when the daemon is. */
function asOne(namespace: Namespace, { health, readiness }: WorkerPart): Namespace {
  return Object.create(namespace, {
    health: { value: health },
    ready: { get: () => readiness.reached },
    whenReady: { value: (signal: AbortSignal) => readiness.wait(signal) },
  });
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
