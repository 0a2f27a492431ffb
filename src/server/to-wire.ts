import { create } from "@bufbuild/protobuf";
import type { Evaluation, Source } from "../evaluation/precedence.ts";
import type { FlagState, KilledOverride, Override } from "../evaluation/state.ts";
import { toWireState } from "../evaluation/wire-rows.ts";
import {
  EvaluateResponseSchema,
  EvaluationSource,
  EvaluatorStatus,
  FlagStateSchema,
  GetKilledFlagsResponseSchema,
  HealthResponseSchema,
  OverrideStateSchema,
} from "../gen/pbflags/v1/evaluator_pb.ts";
import type { HealthStatus } from "../health/health-tracker.ts";

/** How the wire names where an answer came from. */
export const toWireSource: Readonly<Record<Source, EvaluationSource>> = {
  default: EvaluationSource.DEFAULT,
  global: EvaluationSource.GLOBAL,
  override: EvaluationSource.OVERRIDE,
  killed: EvaluationSource.KILLED,
  cached: EvaluationSource.CACHED,
  archived: EvaluationSource.ARCHIVED,
  stale: EvaluationSource.STALE,
};

/** How the wire names the health of the store. */
export const toWireStatus: Readonly<Record<HealthStatus, EvaluatorStatus>> = {
  connecting: EvaluatorStatus.CONNECTING,
  serving: EvaluatorStatus.SERVING,
  degraded: EvaluatorStatus.DEGRADED,
};

/** `name` is the flag's id or alias: whichever was asked for. */
export function toEvaluateResponse(name: string, { value, source }: Evaluation) {
  const wire = { flagId: name, source: toWireSource[source] };
  return create(EvaluateResponseSchema, value === undefined ? wire : { ...wire, value });
}

/** `name` is the flag's id or alias: whichever was asked for. */
export function toWireFlagState(name: string, { mode, value }: FlagState) {
  const wire = { flagId: name, state: toWireState[mode] };
  return create(FlagStateSchema, value === undefined ? wire : { ...wire, value });
}

/** `name` is the flag's id or alias: whichever was asked for. */
export function toWireOverride(name: string, { entityId, mode, value }: Override) {
  const wire = { flagId: name, entityId, state: toWireState[mode] };
  return create(OverrideStateSchema, value === undefined ? wire : { ...wire, value });
}

export function toKilledFlags(flagIds: Iterable<string>, overrides: readonly KilledOverride[]) {
  const killedOverrides = overrides.map(({ flagId, entityId }) => ({ flagId, entityId }));
  return create(GetKilledFlagsResponseSchema, { flagIds: [...flagIds], killedOverrides });
}

export interface Health {
  readonly status: HealthStatus;
  readonly msSinceSuccess: number | undefined;
  readonly failuresInARow: number;
  readonly cachedFlagCount: number;
}

/** Whole seconds; -1 before the first contact. */
export function toHealthResponse({ status, msSinceSuccess, failuresInARow, cachedFlagCount }: Health) {
  const seconds = msSinceSuccess === undefined ? -1 : Math.floor(msSinceSuccess / 1_000);
  return create(HealthResponseSchema, {
    status: toWireStatus[status],
    secondsSinceServerContact: BigInt(seconds),
    cachedFlagCount,
    consecutiveFailures: failuresInARow,
  });
}
