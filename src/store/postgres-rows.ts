import type { FlagState, KilledOverride, Mode, Override } from "../evaluation/state.ts";
import type { FlagType } from "../flags/definition.ts";
import { caseOfType } from "../flags/flag-value.ts";
import { readFlagValue } from "../flags/read-values.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";

/** What is stored of a flag or an override. */
interface StoredSetting {
  readonly state: string | null;
  readonly value: Uint8Array | null;
}

interface FlagColumns {
  readonly flag_type: string | null;
  readonly state: string | null;
  readonly archived: boolean;
}

export interface FlagRow extends FlagColumns, StoredSetting {
  readonly flag_id: string;
}

/** Some of the flags that have these columns in common. */
export interface FlagsRow extends FlagColumns {
  /** Id and value of each, the value in hexadecimal. */
  readonly flags: readonly (readonly [string, string | null])[];
}

export interface OverrideRow extends StoredSetting {
  readonly flag_id: string;
  readonly entity_id: string;
}

export interface KillsRow {
  readonly flag_ids: readonly string[];
  /** Flag id and entity id of each. Null: as at the version that the caller knows. */
  readonly overrides: readonly (readonly [string, string])[] | null;
  /** Whether what follows is all that changed. */
  readonly known: boolean;
  readonly changed_flag_ids: readonly string[];
  readonly changed_entity_ids: readonly string[];
  readonly committed_ago_ms: number | null;
  /** By id. Null: nothing changed. */
  readonly changed_ago_ms: {
    readonly flags: Readonly<Record<string, number>> | null;
    readonly entities: Readonly<Record<string, number>> | null;
  } | null;
}

/** One unreadable row is told of, and spoils no other. */
export function toFlagState(row: FlagRow): FlagState {
  return { flagId: row.flag_id, archived: row.archived, type: toFlagType(row.flag_type), ...toSetting(row) };
}

/** Not by way of `toFlagState`: what they have in common is read once, which takes half the time where thousands are unset. */
export function* toFlagStates({ flag_type, state, archived, flags }: FlagsRow): Generator<FlagState> {
  const type = toFlagType(flag_type);
  const unset = toSetting({ state, value: null });
  for (const [flagId, hex] of flags) {
    const setting = hex === null ? unset : toSetting({ state, value: Buffer.from(hex, "hex") });
    yield { flagId, archived, type, ...setting };
  }
}

export function toOverride(row: OverrideRow): Override {
  return { flagId: row.flag_id, entityId: row.entity_id, ...toSetting(row) };
}

export function toKilledOverrides(row: KillsRow): readonly KilledOverride[] | undefined {
  return row.overrides?.map(([flagId, entityId]) => ({ flagId, entityId }));
}

interface Setting {
  readonly mode: Mode;
  readonly value: FlagValue | undefined;
  readonly invalid?: string;
}

const MODES: ReadonlyMap<string | null, Mode> = new Map([
  ["ENABLED", "enabled"],
  ["DEFAULT", "default"],
  ["KILLED", "killed"],
]);

function toSetting(row: StoredSetting): Setting {
  const mode = MODES.get(row.state);
  const decoded = decodeValue(row.value);
  if (mode !== undefined) return { mode, ...decoded };
  return { mode: "default", value: decoded.value, invalid: `unknown state ${JSON.stringify(row.state)}` };
}

/** What a value column holds. */
export function decodeValue(bytes: Uint8Array | null): Pick<Setting, "value" | "invalid"> {
  // No bytes are how an unset message is written.
  if (bytes === null || bytes.length === 0) return { value: undefined };
  try {
    const value = readFlagValue(bytes);
    if (value.value.case !== undefined) return { value };
    return { value: undefined, invalid: `${bytes.length} bytes that hold no value` };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { value: undefined, invalid: `${bytes.length} bytes that are no FlagValue: ${reason}` };
  }
}

function toFlagType(text: string | null): FlagType | undefined {
  return text !== null && isFlagType(text) ? text : undefined;
}

function isFlagType(text: string): text is FlagType {
  return Object.hasOwn(caseOfType, text);
}
