import type { Config } from "../config/settings.ts";
import type { FlagTable } from "../flags/definition.ts";
import { loadSnapshot } from "../kills/snapshot/load-snapshot.ts";
import { identifyStore, type SnapshotContent } from "../kills/snapshot/snapshot-content.ts";
import { openSnapshotWriter, type SnapshotWriter } from "../kills/snapshot/snapshot-writer.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Latest } from "../system/latest.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { DaemonDeps } from "./deps.ts";

export interface SnapshotParts {
  readonly config: Config;
  readonly flags: Latest<FlagTable>;
  readonly metrics: Pick<Metrics, "recordSnapshot" | "recordSnapshotFailure">;
  readonly deps: Pick<DaemonDeps, "clock" | "logger">;
}

/** What an earlier run of this daemon knew. Undefined: nothing, nothing that can be used, or it is not kept. */
export async function loadKnowledge({
  config,
  flags,
  metrics,
  deps,
}: SnapshotParts): Promise<SnapshotContent | undefined> {
  const { stateDir } = config;
  if (stateDir === undefined) return undefined;
  const loaded = await loadSnapshot(stateDir, {
    store: storeName(config, flags.value),
    onProblem(reason) {
      metrics.recordSnapshotFailure();
      deps.logger.warn("snapshot_unusable", { reason });
    },
  });
  if (loaded === undefined) return undefined;
  deps.logger.info("snapshot_loaded", {
    killed: loaded.kills.flagIds.length,
    flags: loaded.flags.length,
    entities: loaded.entities.length,
  });
  return loaded;
}

/** Keeps what is known, for the next start. Undefined: it is not to be kept. */
export function keepKnowledge(
  namespace: Pick<Namespace, "remember">,
  { config, flags, metrics, deps }: SnapshotParts,
): SnapshotWriter | undefined {
  const { stateDir } = config;
  if (stateDir === undefined) return undefined;
  return openSnapshotWriter({
    folder: stateDir,
    read: () => {
      const known = namespace.remember();
      return known === undefined ? undefined : { ...known, store: storeName(config, flags.value) };
    },
    clock: deps.clock,
    onWritten: (written) => metrics.recordSnapshot(written),
    onProblem: (reason) => {
      metrics.recordSnapshotFailure();
      deps.logger.warn("snapshot_not_written", { reason });
    },
  });
}

/** For stores without versions: the same for as long as they are asked at the same place. */
function storeName({ database, upstreams }: Config, { descriptorSet }: FlagTable): string {
  const urls = database === undefined ? (upstreams?.upstreams ?? []).map(({ url }) => url) : [database];
  // A new password does not make another store.
  const places = urls.map((url) => url.replace(/\/\/[^/@]*@/, "//"));
  return identifyStore(places, descriptorSet?.hash ?? "");
}
