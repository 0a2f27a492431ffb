import { create } from "@bufbuild/protobuf";
import type { FlagType } from "../flags/definition.ts";
import {
  type FlagRow,
  FlagRowSchema,
  type OverrideRow,
  OverrideRowSchema,
} from "../gen/pbflagd/v1/state_pb.ts";
import { State, FlagType as WireType } from "../gen/pbflags/v1/types_pb.ts";
import type { FlagState, Mode, Override } from "./state.ts";

/** How the wire names what an operator set. */
export const toWireState: Readonly<Record<Mode, State>> = {
  enabled: State.ENABLED,
  default: State.DEFAULT,
  killed: State.KILLED,
};

/** How the wire names the type of a flag. */
export const toWireType: Readonly<Record<FlagType, WireType>> = {
  BOOL: WireType.BOOL,
  STRING: WireType.STRING,
  INT64: WireType.INT64,
  DOUBLE: WireType.DOUBLE,
  BOOL_LIST: WireType.BOOL_LIST,
  STRING_LIST: WireType.STRING_LIST,
  INT64_LIST: WireType.INT64_LIST,
  DOUBLE_LIST: WireType.DOUBLE_LIST,
};

/** What is known of one flag, for another evaluator or a later start: all it needs to treat it as this one does. */
export function toFlagRow({ flagId, mode, value, archived, type, invalid }: FlagState): FlagRow {
  return create(FlagRowSchema, {
    flagId,
    state: toWireState[mode],
    archived,
    ...(value === undefined ? {} : { value }),
    ...(type === undefined ? {} : { flagType: toWireType[type] }),
    ...(invalid === undefined ? {} : { invalid }),
  });
}

/** The same of one override. */
export function toOverrideRow({ flagId, entityId, mode, value, invalid }: Override): OverrideRow {
  return create(OverrideRowSchema, {
    flagId,
    entityId,
    state: toWireState[mode],
    ...(value === undefined ? {} : { value }),
    ...(invalid === undefined ? {} : { invalid }),
  });
}
