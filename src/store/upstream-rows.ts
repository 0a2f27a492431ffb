import type { FlagState, Mode, Override } from "../evaluation/state.ts";
import type { FlagType } from "../flags/definition.ts";
import type { FlagRow, OverrideRow } from "../gen/pbflagd/v1/state_pb.ts";
import type { GetFlagStateResponse, GetOverridesResponse } from "../gen/pbflags/v1/evaluator_pb.ts";
import { type FlagValue, State, FlagType as WireType } from "../gen/pbflags/v1/types_pb.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";

/** What another evaluator says of one flag. Throws an UpstreamError for an answer about something else. */
export function toFlagState(flagId: string, { flag, archived }: GetFlagStateResponse): FlagState {
  if (flag?.flagId !== flagId) {
    const got = flag === undefined ? "none" : quoted(flag.flagId);
    throw senseless(`a flag state must be of ${JSON.stringify(flagId)}, got ${got}`);
  }
  // The type is not on the wire.
  return { flagId, archived, type: undefined, ...toSetting(flag.state, flag.value) };
}

/** What another evaluator says of one entity. Throws an UpstreamError for an answer about another. */
export function toOverrides(entityId: string, { overrides }: GetOverridesResponse): readonly Override[] {
  return overrides.map((override) => {
    if (override.entityId !== entityId) {
      const got = quoted(override.entityId);
      throw senseless(`overrides must be of entity ${JSON.stringify(entityId)}, got ${got}`);
    }
    return { flagId: override.flagId, entityId, ...toSetting(override.state, override.value) };
  });
}

/** What another pbflagd says of one flag. */
export function fromFlagRow({ flagId, state, value, archived, flagType, invalid }: FlagRow): FlagState {
  return {
    flagId,
    archived,
    type: TYPE_OF_WIRE.get(flagType),
    ...toSetting(state, value),
    ...toInvalid(invalid),
  };
}

/** What another pbflagd says of one override. */
export function fromOverrideRow({ flagId, entityId, state, value, invalid }: OverrideRow): Override {
  return { flagId, entityId, ...toSetting(state, value), ...toInvalid(invalid) };
}

/** Rows by their id. Throws an UpstreamError where two have the same: they may contradict each other. */
export function byId<T>(rows: readonly T[], idOf: (row: T) => string): ReadonlyMap<string, T> {
  const found = new Map<string, T>();
  for (const row of rows) {
    const id = idOf(row);
    if (found.has(id)) throw senseless(`${quoted(id)} must be there once, got twice`);
    found.set(id, row);
  }
  return found;
}

/** What an upstream says makes no sense: that counts against it, and another one may know better. */
export function senseless(why: string): UpstreamError {
  return new UpstreamError("answer", `Cannot use what it answers: ${why}`);
}

/** Another process's text in an error: as much of it as helps. */
export function quoted(text: string): string {
  return JSON.stringify(text.slice(0, ID_CHARACTERS_MAX));
}

const ID_CHARACTERS_MAX = 100;
const REASON_CHARACTERS_MAX = 500;

/** The reason goes into logs, and is remembered. */
function toInvalid(invalid: string): { readonly invalid?: string } {
  return invalid === "" ? {} : { invalid: invalid.slice(0, REASON_CHARACTERS_MAX) };
}

const TYPE_OF_WIRE: ReadonlyMap<WireType, FlagType> = new Map([
  [WireType.BOOL, "BOOL"],
  [WireType.STRING, "STRING"],
  [WireType.INT64, "INT64"],
  [WireType.DOUBLE, "DOUBLE"],
  [WireType.BOOL_LIST, "BOOL_LIST"],
  [WireType.STRING_LIST, "STRING_LIST"],
  [WireType.INT64_LIST, "INT64_LIST"],
  [WireType.DOUBLE_LIST, "DOUBLE_LIST"],
]);

/** Stands for a flag of which the upstream cannot tell the state, although it can for others. */
export function untoldFlagState(flagId: string, reason: string): FlagState {
  return { flagId, mode: "default", value: undefined, archived: false, type: undefined, invalid: reason };
}

const MODE_OF_STATE: ReadonlyMap<State, Mode> = new Map([
  [State.ENABLED, "enabled"],
  [State.DEFAULT, "default"],
  [State.KILLED, "killed"],
]);

function toSetting(state: State, value: FlagValue | undefined): Pick<Override, "mode" | "value" | "invalid"> {
  const mode = MODE_OF_STATE.get(state);
  // A state from later than us: what it means is anyone's guess, so nothing of it is served.
  if (mode === undefined)
    return { mode: "default", value: undefined, invalid: `expected a state, got ${state}` };
  return { mode, value: value?.value.case === undefined ? undefined : value };
}
