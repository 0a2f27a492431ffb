import type { FlagType } from "../flags/definition.ts";
import { hasType } from "../flags/flag-value.ts";
import type { FlagState, Override } from "./state.ts";

/** Why a stored value cannot be served; undefined if it can, or if there is none. */
export function whyInvalid(row: FlagState | Override, type: FlagType | undefined): string | undefined {
  if (row.invalid !== undefined) return row.invalid;
  if (row.value === undefined || type === undefined || hasType(row.value, type)) return undefined;
  return `expected a value of type ${type}, got ${row.value.value.case ?? "none"}`;
}
