import type { Decided } from "../evaluation/evaluator.ts";
import { KILLED_OVERRIDES_MAX, type KillSet } from "../evaluation/kill-set.ts";
import type { Source } from "../evaluation/precedence.ts";
import { formatVersion, type Version } from "../evaluation/version.ts";
import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { NamespaceEvents } from "./namespace.ts";

export interface Reporters {
  readonly metrics: Pick<
    Metrics,
    | "recordEvaluation"
    | "recordCacheHits"
    | "recordCacheMisses"
    | "recordFetch"
    | "recordInvalidValue"
    | "recordEpochChange"
    | "recordPropagation"
  >;
  readonly logger: Logger;
  /** Which kind of store the namespace reads. */
  readonly backend: "db" | "upstream";
}

/** Flag ids that one log line names; of more it gives the number. */
const NAMED_MAX = 50;

/** Turns what happens in a namespace into metrics and log lines. */
export function reportEvents({ metrics, logger, backend }: Reporters): NamespaceEvents {
  return {
    onEvaluation(flagId, entityId, { source }) {
      metrics.recordEvaluation(source);
      if (logger.debugEnabled) logger.debug("evaluated", { flag_id: flagId, entity_id: entityId, source });
    },
    onEvaluations(decided) {
      countSources(decided, metrics);
      if (logger.debugEnabled) logEach(decided, logger);
    },
    onLookUps(tier, { hits, misses }) {
      if (hits > 0) metrics.recordCacheHits(tier, hits);
      if (misses > 0) metrics.recordCacheMisses(tier, misses);
    },
    onStoreCall(operation, durationMs, error) {
      metrics.recordFetch({ backend, operation, durationMs, failed: error !== undefined });
      if (error === undefined) return;
      const duration_ms = Math.round(durationMs);
      logger.warn("store_call_failed", { operation, duration_ms, reason: reasonOf(error) });
    },
    onBreakerChange({ from, to }) {
      if (to === "open")
        logger.warn("breaker_opened", { msg: "the store keeps failing: answers come from memory" });
      else if (to === "closed") logger.info("breaker_closed", { from });
    },
    onStoreRecovery() {
      logger.info("store_recovered", { msg: "the store answers again" });
    },
    onKillSet(next, previous) {
      const killed = difference(next.flagIds, previous?.flagIds);
      const revived = difference(previous?.flagIds, next.flagIds);
      if (isFull(next) && !isFull(previous)) {
        logger.warn("killed_overrides_cut", {
          msg: "GetKilledFlags lists no more of them; evaluations are as ever",
          listed: KILLED_OVERRIDES_MAX,
        });
      }
      if (killed.length + revived.length === 0) return;
      logger.info("kill_set_changed", {
        killed: named(killed),
        revived: named(revived),
        size: next.flagIds.size,
        version: shown(next.stamp.version),
      });
    },
    onEpochChange(next, previous) {
      metrics.recordEpochChange();
      logger.warn("epoch_changed", {
        msg: "the store is another one than before: its state is taken whole",
        from: shown(previous),
        to: shown(next),
      });
    },
    onPropagation: (sinceCommitMs) => metrics.recordPropagation(sinceCommitMs),
    onInvalidValue({ flagId, entityId, reason }) {
      metrics.recordInvalidValue();
      logger.warn("invalid_value", {
        msg: "a stored value does not fit its flag and is not served",
        flag_id: flagId,
        ...(entityId === undefined ? {} : { entity_id: entityId }),
        reason,
      });
    },
  };
}

/** Neighbours mostly came to the same: they are counted together. */
function countSources({ evaluations }: Decided, metrics: Reporters["metrics"]): void {
  let last: Source | undefined;
  let alike = 0;
  for (const { source } of evaluations) {
    if (last !== undefined && source !== last) {
      metrics.recordEvaluation(last, alike);
      alike = 0;
    }
    last = source;
    alike += 1;
  }
  if (last !== undefined) metrics.recordEvaluation(last, alike);
}

function logEach({ flags, entityId, evaluations }: Decided, logger: Logger): void {
  for (const [i, { source }] of evaluations.entries())
    logger.debug("evaluated", { flag_id: flags[i]?.id, entity_id: entityId, source });
}

/** Whether there may be more killed overrides than are listed. */
function isFull(killSet: KillSet | undefined): boolean {
  return killSet !== undefined && killSet.overrides.length >= KILLED_OVERRIDES_MAX;
}

function difference(a: KillSet["flagIds"] | undefined, b: KillSet["flagIds"] | undefined): readonly string[] {
  return [...(a ?? [])].filter((flagId) => b?.has(flagId) !== true);
}

function named(flagIds: readonly string[]): readonly string[] | number {
  return flagIds.length <= NAMED_MAX ? flagIds : flagIds.length;
}

function shown(version: Version | undefined): string {
  return version === undefined ? "none" : formatVersion(version);
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
