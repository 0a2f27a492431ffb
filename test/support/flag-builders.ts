import { create } from "@bufbuild/protobuf";
import type { FlagState, Override } from "../../src/evaluation/state.ts";
import {
  createFlagTable,
  type FlagDefinition,
  type FlagTable,
  type FlagType,
} from "../../src/flags/definition.ts";
import { type FlagValue, FlagValueSchema, StringListSchema } from "../../src/gen/pbflags/v1/types_pb.ts";

/** A value of the case that fits the JavaScript value: whole bigint for int64, number for double. */
export function flagValue(value: boolean | string | bigint | number | readonly string[]): FlagValue {
  return create(FlagValueSchema, { value: toCase(value) });
}

function toCase(value: boolean | string | bigint | number | readonly string[]): FlagValue["value"] {
  if (typeof value === "boolean") return { case: "boolValue", value };
  if (typeof value === "string") return { case: "stringValue", value };
  if (typeof value === "bigint") return { case: "int64Value", value };
  if (typeof value === "number") return { case: "doubleValue", value };
  return { case: "stringListValue", value: create(StringListSchema, { values: [...value] }) };
}

/** A string flag of the layer `user` with the default "daily", unless told otherwise. */
export function defineFlag(id: string, overrides: Partial<FlagDefinition> = {}): FlagDefinition {
  const [featureId = "", number = "1"] = id.split("/");
  const name = overrides.name ?? `flag_${number}`;
  return {
    id,
    alias: `${featureId}.${name}`,
    featureId,
    fieldNumber: Number(number),
    name,
    type: "STRING" satisfies FlagType,
    layer: "user",
    description: "",
    defaultValue: flagValue("daily"),
    supportedValues: undefined,
    ...overrides,
  };
}

export function tableOf(...flags: readonly FlagDefinition[]): FlagTable {
  const ids = [...new Set(flags.map((flag) => flag.featureId))];
  const features = ids.map((id) => ({ id, displayName: id, description: "", owner: "" }));
  return createFlagTable(features, flags);
}

/** An enabled row with the value "weekly", unless told otherwise. */
export function stateOf(flagId: string, overrides: Partial<FlagState> = {}): FlagState {
  return {
    flagId,
    mode: "enabled",
    value: flagValue("weekly"),
    archived: false,
    type: "STRING",
    ...overrides,
  };
}

export function overrideOf(flagId: string, entityId: string, overrides: Partial<Override> = {}): Override {
  return { flagId, entityId, mode: "enabled", value: flagValue("never"), ...overrides };
}
