import type { Config } from "../config/settings.ts";
import type { FlagTable } from "../flags/definition.ts";
import type { SnapshotContent } from "../kills/snapshot/snapshot-content.ts";
import { type Namespace, openNamespace } from "../namespaces/namespace.ts";
import { reportEvents } from "../namespaces/report-events.ts";
import type { Latest } from "../system/latest.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { DaemonDeps } from "./deps.ts";
import type { OpenStore } from "./open-store.ts";

/**
 * For one of many proxies that lose the same upstream together: none of them hurries to come back. What an upstream has in
 * memory costs it little, so notices are taken up faster than a database would like.
 */
export const OF_MANY = { returnSpreadMs: 3_000, probeFirstMs: 2_000, noticeRestMs: 20 };

/** For a worker: its upstream is a part of the same daemon, and as many ask it as there are workers. */
const OF_ONE_DAEMON = { noticeRestMs: OF_MANY.noticeRestMs };

export interface NamespaceParts {
  readonly config: Config;
  readonly deps: DaemonDeps;
  readonly flags: Latest<FlagTable>;
  readonly store: OpenStore;
  readonly metrics: Metrics;
  /** By operation, why its last call failed; kept up to date here. */
  readonly troubles: Map<string, string>;
  /** What an earlier run knew. */
  readonly snapshot: SnapshotContent | undefined;
  readonly onLearnt: (isNews: boolean) => void;
}

/** The namespace as configured, with its metrics, logs and spans. */
export function openConfiguredNamespace(parts: NamespaceParts): Namespace {
  const { config, deps, flags, metrics, troubles, snapshot, onLearnt } = parts;
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
    ...(backend === "db" ? {} : deps.part?.kind === "worker" ? OF_ONE_DAEMON : OF_MANY),
    hasDescriptors: () => flags.value.descriptorSet !== undefined,
    ...(snapshot === undefined ? {} : { snapshot }),
    onLearnt,
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
