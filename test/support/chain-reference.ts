import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { FlagState, Override, Overrides } from "../../src/evaluation/state.ts";
import type { FlagDefinition } from "../../src/flags/definition.ts";
import { hasType } from "../../src/flags/flag-value.ts";
import type { FlagValue } from "../../src/gen/pbflags/v1/types_pb.ts";

/** Nothing was ever learnt about it. */
export type Unknown = "unknown";

/** The chain, without the kill set, from an override and a row as the store held them. */
export function reference(
  definition: FlagDefinition | undefined,
  override: Override | undefined,
  row: FlagState | undefined | Unknown,
): Evaluation {
  const byDefault = {
    value: definition?.defaultValue,
    source: "default" as const,
  };
  const fits = (value: FlagValue | undefined, type = definition?.type) =>
    value !== undefined && (type === undefined || hasType(value, type));
  if (override !== undefined && definition !== undefined && definition.layer !== "") {
    const serves = override.mode === "enabled" && fits(override.value);
    return serves ? { value: override.value, source: "override" } : byDefault;
  }
  if (row === undefined || row === "unknown") return byDefault;
  if (row.mode === "killed") return { value: definition?.defaultValue, source: "killed" };
  if (!fits(row.value, definition?.type ?? row.type)) return byDefault;
  if (row.archived) return { value: row.value, source: "archived" };
  return row.mode === "enabled" ? { value: row.value, source: "global" } : byDefault;
}

/** Whether an answer about an entity is what the store held. No overrides are none. */
export function isSame(a: Overrides | undefined, b: Overrides): boolean {
  return (a?.size ?? 0) === b.size && [...b].every(([flagId, override]) => a?.get(flagId) === override);
}

/** For the report of a failure. */
export function show({ value, source }: Evaluation): string {
  const shown = value?.value.value;
  return `${source} ${typeof shown === "object" ? JSON.stringify(shown) : String(shown)}`;
}
