import { isDeepStrictEqual } from "node:util";
import { type ConfigChange, compareConfigs } from "../config/compare-configs.ts";
import { ConfigError } from "../config/config-error.ts";
import type { ConfigSource, LoadedConfig } from "../config/load-config.ts";
import type { Config } from "../config/settings.ts";
import type { Dependency } from "../health/dependency-health.ts";
import type { Clock } from "../system/clock.ts";
import { watchFile } from "../system/watch-file.ts";
import type { Logger } from "../telemetry/logger.ts";
import { type PoolChange, PoolReloadError, type UpstreamPool } from "../upstream/pool/upstream-pool.ts";

export interface ConfigFollowerOptions {
  readonly source: ConfigSource;
  /** What the daemon was started with. */
  readonly config: Config;
  readonly pool: Pick<UpstreamPool, "reload"> | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly onReload: (result: ConfigReload["kind"]) => void;
}

/** What became of one reload of the configuration. `needRestart` are settings that changed and are not in force. */
export type ConfigReload =
  | { readonly kind: "unchanged"; readonly needRestart: readonly string[] }
  | { readonly kind: "applied"; readonly needRestart: readonly string[] }
  /** Nothing was changed. */
  | { readonly kind: "rejected"; readonly reason: string };

/** Takes up what may change while the daemon runs. */
export interface ConfigFollower extends AsyncDisposable {
  /** Reads the configuration again, now. Never rejects. */
  reload(): Promise<ConfigReload>;
  /** What the last reload came to, for /readyz. Undefined where there is no file. */
  readonly dependency: Dependency | undefined;
}

/** Where the operating system does not say that the file changed. */
const POLL_MS = 30_000;
/** A file that cannot be used may be half-written. */
const RETRY_MS = 1_000;

/** Follows the configuration file, if there is one. A configuration that cannot be used changes nothing. */
export function followConfig(options: ConfigFollowerOptions): ConfigFollower {
  const { source, clock, logger } = options;
  const stop = new AbortController();
  let inForce = options.config;
  let isPoolInDoubt = false;
  let last: Promise<unknown> = Promise.resolve();
  let lastResult: ConfigReload = { kind: "unchanged", needRestart: [] };

  /** One at a time. */
  function enqueue(patient: boolean): Promise<ConfigReload> {
    const result = last.then(() => reload(patient));
    last = result;
    return result;
  }

  async function reload(patient: boolean): Promise<ConfigReload> {
    const loaded = await load(patient);
    const result = "kind" in loaded ? loaded : await apply(loaded.config);
    if (stop.signal.aborted) return result;
    const isKnown = patient && result.kind === "rejected" && isDeepStrictEqual(result, lastResult);
    lastResult = result;
    // Whoever asked for it by a signal has been told already.
    if (isKnown) return result;
    report(result, logger);
    options.onReload(result.kind);
    return result;
  }

  async function load(patient: boolean): Promise<LoadedConfig | ConfigReload> {
    try {
      return await source.load();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      if (!patient) return { kind: "rejected", reason: error.message };
      await clock.sleep(RETRY_MS, stop.signal).catch(() => {});
      return load(false);
    }
  }

  async function apply(next: Config): Promise<ConfigReload> {
    const { live, needRestart } = compareConfigs(inForce, next);
    if (live.length === 0 && !isPoolInDoubt) return { kind: "unchanged", needRestart };
    const { upstreams, logLevel, drainTimeoutMs } = next;
    // A root that shall become a proxy, or a proxy a root, needs a restart: `compareConfigs` says so.
    if (options.pool !== undefined && upstreams !== undefined && (isPoolInDoubt || live.some(concernsPool))) {
      const change = await options.pool.reload(upstreams).catch(toRejection);
      // What was in force may not have come back whole: whatever is read next is put into force anew.
      isPoolInDoubt = "kind" in change;
      if ("kind" in change) return change;
      if (hasChanged(change)) logger.info("upstreams_reloaded", { ...change });
      inForce = { ...inForce, upstreams };
    }
    logger.level = logLevel;
    inForce = { ...inForce, logLevel, drainTimeoutMs };
    return { kind: "applied", needRestart };
  }

  async function check(): Promise<string> {
    if (lastResult.kind === "rejected") throw new Error(`rejected: ${lastResult.reason}`);
    return "in force";
  }

  const { path } = source;
  const watch =
    path === undefined
      ? undefined
      : watchFile({
          path,
          clock,
          pollMs: POLL_MS,
          onChange: async () => void (await enqueue(true)),
          onWatchError: (error) => logger.warn("configuration_watch_failed", { path, err: error }),
        });

  return {
    reload: () => enqueue(false),
    dependency: path === undefined ? undefined : { name: "configuration", check },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watch?.[Symbol.asyncDispose]();
      await last;
    },
  };
}

function hasChanged({ added, updated, removed, settings }: PoolChange): boolean {
  return added.length + updated.length + removed.length + settings.length > 0;
}

function concernsPool(key: ConfigChange["live"][number]): boolean {
  return key === "upstreams" || key === "server" || key === "drain_timeout";
}

function toRejection(error: unknown): ConfigReload {
  if (error instanceof PoolReloadError) return { kind: "rejected", reason: error.message };
  throw error;
}

function report(result: ConfigReload, logger: Logger): void {
  if (result.kind === "rejected") {
    logger.error("configuration_rejected", { msg: "nothing has changed", reason: result.reason });
    return;
  }
  if (result.kind === "applied") logger.info("configuration_reloaded");
  if (result.needRestart.length === 0) return;
  logger.warn("configuration_needs_restart", {
    msg: "these settings have changed and are not in force",
    settings: result.needRestart,
  });
}
