import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { canExist, canHaveOverrides } from "../evaluation/ids.ts";
import type { Found, Overrides } from "../evaluation/state.ts";
import type { FlagTable } from "../flags/definition.ts";
import {
  BulkEvaluateResponseSchema,
  type FlagEvaluatorService,
  GetFlagStateResponseSchema,
  GetOverridesResponseSchema,
} from "../gen/pbflags/v1/evaluator_pb.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Reaching, Rows } from "./reach-version.ts";
import {
  toEvaluateResponse,
  toHealthResponse,
  toKilledFlags,
  toWireFlagState,
  toWireOverride,
} from "./to-wire.ts";
import type { Evaluating } from "./trace-evaluations.ts";
import { evaluationRows, type Worth } from "./worth.ts";

/** What the service needs of a namespace. */
export type Evaluated = Reaching & Pick<Namespace, "health" | "cachedFlagCount" | "flagState" | "overrides">;

export interface EvaluatorServiceOptions {
  readonly namespace: Evaluated;
  readonly evaluating: Evaluating;
  /** How many flags one request may name. */
  readonly bulkFlagsMax: number;
  readonly worth: Worth;
}

/**
 * The evaluator's RPCs. Only a caller's mistakes are errors, and not to know what was asked for: state, or a version.
 */
export function createEvaluatorService(
  options: EvaluatorServiceOptions,
): ServiceImpl<typeof FlagEvaluatorService> {
  const { namespace, evaluating, bulkFlagsMax, worth } = options;

  return {
    async evaluate({ flagId, entityId }, call) {
      requireText(flagId, "Evaluate", "flag_id");
      const evaluation = await worth.answer(
        call,
        () => evaluationRows(namespace, [flagId], entityId),
        (isPlain) => evaluating.evaluate(flagId, isPlain ? "" : entityId),
      );
      return toEvaluateResponse(flagId, evaluation);
    },

    async bulkEvaluate({ flagIds, entityId }, call) {
      requireAtMost(bulkFlagsMax, flagIds, "BulkEvaluate");
      const names = namesAsked(namespace.flags.value, flagIds);
      const evaluations = await worth.answer(
        call,
        () => evaluationRows(namespace, names, entityId),
        (isPlain) => evaluating.evaluateMany(names, isPlain ? "" : entityId),
      );
      return create(BulkEvaluateResponseSchema, {
        evaluations: evaluations.map((evaluation, i) => toEvaluateResponse(names[i] ?? "", evaluation)),
      });
    },

    health(_, call) {
      worth.tell(call);
      const { health, cachedFlagCount } = namespace;
      const { status, msSinceSuccess, failuresInARow } = health;
      return toHealthResponse({ status, msSinceSuccess, failuresInARow, cachedFlagCount });
    },

    async getFlagState({ flagId }, call) {
      requireText(flagId, "GetFlagState", "flag_id");
      const found = await worth.answer(
        call,
        () => stateRows(namespace.flags.value.find(flagId)?.id ?? flagId),
        () => namespace.flagState(flagId),
      );
      const state = known(found, "flag state");
      if (state === undefined) throw noSuchRow(flagId);
      return create(GetFlagStateResponseSchema, {
        flag: toWireFlagState(flagId, state),
        archived: state.archived,
      });
    },

    getKilledFlags(_, call) {
      return worth.answer(
        call,
        () => NO_ROWS,
        () => {
          const killSet = namespace.killSet.value;
          if (killSet === undefined) throw notKnown("kill set");
          return toKilledFlags(killSet.flagIds, killSet.overrides);
        },
      );
    },

    async getOverrides({ entityId, flagIds }, call) {
      requireText(entityId, "GetOverrides", "entity_id");
      requireAtMost(bulkFlagsMax, flagIds, "GetOverrides");
      const found = await worth.answer(
        call,
        () => overrideRows(entityId),
        (isPlain) => (isPlain ? HAS_NONE : namespace.overrides(entityId)),
      );
      const overrides = known(found, "overrides") ?? NO_OVERRIDES;
      const names = flagIds.length === 0 ? [...overrides.keys()] : [...new Set(flagIds)];
      return create(GetOverridesResponseSchema, {
        overrides: names.flatMap((name) => {
          const override = overrides.get(namespace.flags.value.find(name)?.id ?? name);
          return override === undefined ? [] : [toWireOverride(name, override)];
        }),
      });
    },
  };
}

/** The flags that a bulk asks for: all that are defined unless it names some. */
export function namesAsked(table: FlagTable, flagIds: readonly string[]): readonly string[] {
  return flagIds.length === 0 ? table.flags.map((flag) => flag.id) : flagIds;
}

const NO_ROWS: Rows = { flagIds: [], entityId: undefined };

function stateRows(flagId: string): Rows {
  return canExist(flagId) ? { flagIds: [flagId], entityId: undefined } : NO_ROWS;
}

function overrideRows(entityId: string): Rows {
  return canHaveOverrides(entityId) ? { flagIds: [], entityId } : NO_ROWS;
}

const HAS_NONE: Found<Overrides> = { kind: "fresh", value: undefined };

const NO_OVERRIDES: Overrides = new Map();

function requireText(text: string, procedure: string, field: string): void {
  if (text === "") throw new ConnectError(`Cannot ${procedure}: ${field} is empty`, Code.InvalidArgument);
}

function requireAtMost(max: number, flagIds: readonly string[], procedure: string): void {
  if (flagIds.length > max) {
    throw new ConnectError(
      `Cannot ${procedure}: at most ${max} flags in one request, got ${flagIds.length}`,
      Code.InvalidArgument,
    );
  }
}

/** Undefined: there is no such row. Throws UNAVAILABLE where that is not known: it must not look the same. */
function known<T>(found: Found<T>, what: string): T | undefined {
  if (found.kind === "unavailable") throw notKnown(what);
  return found.value;
}

/** An id may be as long as a request: the message, which travels in a header, shows the beginning. */
function noSuchRow(flagId: string): ConnectError {
  const shown = JSON.stringify(flagId.length > 100 ? `${flagId.slice(0, 100)}…` : flagId);
  return new ConnectError(`Cannot find a state of flag ${shown}`, Code.NotFound);
}

function notKnown(what: string): ConnectError {
  return new ConnectError(`Cannot tell the ${what}: the store has not answered yet`, Code.Unavailable);
}
