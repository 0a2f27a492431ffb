import { access, constants } from "node:fs/promises";
import type { Config } from "../config/settings.ts";
import { createFlagTable, type FlagTable } from "../flags/definition.ts";
import { openDescriptorFollower } from "../flags/follow-descriptors.ts";
import { loadKeptDescriptors, openDescriptorKeep } from "../flags/kept-descriptors.ts";
import { loadDescriptors } from "../flags/load-descriptors.ts";
import { type DescriptorWatch, openDescriptorWatch, type ReloadResult } from "../flags/watch-descriptors.ts";
import type { Dependency } from "../health/dependency-health.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import { fetchDescriptorSet } from "../store/upstream-descriptors.ts";
import { Latest } from "../system/latest.ts";
import { Opened } from "../system/opened.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import type { DaemonDeps } from "./deps.ts";

/** What keeps the flags of a running daemon like their descriptors, wherever those come from. */
export interface Descriptors extends DescriptorWatch {
  /** An upstream says which set it has now. */
  announced(hash: string): void;
  /** An upstream is usable where none was. */
  usable(): void;
  readonly dependency: Dependency;
}

export interface DescriptorParts {
  readonly config: Config;
  readonly flags: Latest<FlagTable>;
  /** Undefined in root mode. */
  readonly pool: UpstreamPool | undefined;
  readonly namespace: Pick<Namespace, "flagsReplaced">;
  /** What a look at whether the file has changed since it was read waits for. */
  readonly startsAfter: (signal: AbortSignal) => Promise<void>;
  readonly metrics: Pick<Metrics, "recordDescriptorReload">;
  readonly deps: DaemonDeps;
}

/**
 * The flags to begin with: those of the file; without one, those kept from an earlier run, or none until the upstream
 * has told them.
 *
 * @throws DescriptorError
 */
export async function loadFlags(config: Config, { logger }: DaemonDeps): Promise<Latest<FlagTable>> {
  const { descriptors: path, stateDir } = config;
  if (path !== undefined) {
    const table = await loadDescriptors(path);
    logger.info("descriptors_loaded", { path, ...sizeOf(table) });
    return new Latest(table);
  }
  const kept =
    stateDir === undefined
      ? undefined
      : await loadKeptDescriptors(stateDir, (reason) => logger.warn("kept_descriptors_unusable", { reason }));
  if (kept !== undefined) logger.info("descriptors_loaded", { path: stateDir, ...sizeOf(kept) });
  return new Latest(kept ?? createFlagTable([], []));
}

/** From the file, or from whichever upstream has them. */
export function followDescriptors(parts: DescriptorParts): Descriptors {
  const { config, pool } = parts;
  const { descriptors: path } = config;
  if (path !== undefined) return followFile(path, parts);
  if (pool === undefined) throw new Error("Cannot start: descriptors is not set");
  return followUpstream(pool, parts);
}

function followFile(path: string, parts: DescriptorParts): Descriptors {
  const { flags, deps } = parts;
  const { clock, logger } = deps;
  const watch = openDescriptorWatch({
    path,
    table: flags,
    clock,
    startsAfter: parts.startsAfter,
    onWatchError: (error) => logger.warn("descriptor_watch_failed", { path, err: error }),
    onReload: (result) => takeNote(result, { path }, parts),
  });
  return toDescriptors(watch, {
    opened: watch,
    announced() {},
    usable() {},
    async check() {
      await access(path, constants.R_OK);
      return "in force";
    },
  });
}

function followUpstream(pool: UpstreamPool, parts: DescriptorParts): Descriptors {
  const { config, flags, deps } = parts;
  const { clock, random, logger } = deps;
  const { stateDir } = config;
  const opened = new Opened();
  const keep =
    stateDir === undefined
      ? undefined
      : opened.add(
          openDescriptorKeep({
            folder: stateDir,
            clock,
            onProblem: (reason) => logger.warn("descriptors_not_kept", { reason }),
          }),
        );
  const follower = openDescriptorFollower({
    table: flags,
    fetch: (knownHash, signal) => fetchDescriptorSet(pool, { knownHash, clock, signal }),
    clock,
    random,
    onReload: (result) => takeNote(result, { path: "upstream" }, parts),
    onFetchFailed: (reason) => logger.warn("descriptors_not_fetched", { reason }),
    ...(keep === undefined ? {} : { keep: (set) => keep.keep(set) }),
  });
  opened.add(follower);
  return toDescriptors(follower, {
    opened,
    announced(hash) {
      // The primary has judged it.
      if (deps.part?.kind === "worker") void follower.reload({ force: true });
      else follower.poke(hash);
    },
    usable() {
      // Whoever has a set is told when there is another one.
      if (flags.value.descriptorSet === undefined) follower.poke();
    },
    async check() {
      if (follower.fetchFailure !== undefined) throw new Error(follower.fetchFailure);
      if (flags.value.descriptorSet === undefined) throw new Error("no upstream has told them yet");
      return "in force, from upstream";
    },
  });
}

interface Following extends Pick<Descriptors, "announced" | "usable"> {
  readonly check: () => Promise<string>;
  readonly opened: AsyncDisposable;
}

function toDescriptors(watch: DescriptorWatch, { announced, usable, check, opened }: Following): Descriptors {
  return {
    reload: (options) => watch.reload(options),
    get lastResult() {
      return watch.lastResult;
    },
    announced,
    usable,
    dependency: {
      name: "descriptors",
      async check() {
        const last = watch.lastResult;
        if (last?.kind === "rejected" || last?.kind === "held")
          throw new Error(`${last.kind}: ${last.reason}`);
        return check();
      },
    },
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  };
}

function takeNote(
  result: ReloadResult,
  from: { readonly path: string },
  { namespace, metrics, deps }: DescriptorParts,
): void {
  const { logger } = deps;
  metrics.recordDescriptorReload(result.kind);
  switch (result.kind) {
    case "unchanged":
      break;
    case "replaced":
      logger.info("descriptors_replaced", { ...from, ...result.comparison });
      namespace.flagsReplaced();
      break;
    case "rejected":
    case "held":
      logger.error(`descriptors_${result.kind}`, { ...from, reason: result.reason });
      break;
  }
}

function sizeOf({ features, flags }: FlagTable): { readonly features: number; readonly flags: number } {
  return { features: features.length, flags: flags.length };
}
