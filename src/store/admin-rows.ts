import type { FlagState, Override } from "../evaluation/state.ts";
import { readSupportedValues } from "../flags/read-values.ts";
import { WireReader } from "../flags/wire-reader.ts";
import type { SupportedValues } from "../gen/pbflags/options_pb.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import { runInSlices } from "../system/run-in-slices.ts";
import { decodeValue, type FlagRow, type OverrideRow, toFlagState, toOverride } from "./postgres-rows.ts";
import type { Query } from "./transactions.ts";

/** A feature, and those of its flags that are not archived, by field number. */
export interface StoredFeature {
  readonly id: string;
  readonly description: string;
  readonly owner: string;
  readonly flags: readonly StoredFlag[];
}

/** A flag as the database has it. */
export interface StoredFlag extends FlagState {
  /** The field's name. */
  readonly name: string;
  readonly description: string;
  /** In upper case; `GLOBAL` for a flag that does not vary. */
  readonly layer: string;
  readonly defaultValue: FlagValue | undefined;
  readonly supportedValues: SupportedValues | undefined;
}

/** One row of the audit log. */
export interface AuditEntry {
  readonly id: bigint;
  readonly flagId: string;
  readonly action: string;
  readonly oldValue: FlagValue | undefined;
  readonly newValue: FlagValue | undefined;
  readonly actor: string;
  /** Microseconds since 1970. Undefined for a time that is none, such as infinity. */
  readonly createdAtMicros: bigint | undefined;
}

/** The answer would be larger than one answer may be. */
export class AnswerTooLargeError extends Error {
  override readonly name = "AnswerTooLargeError";
}

/** Of values in one answer. */
const VALUE_BYTES_MAX = 4 * 1024 * 1024;
const OVERRIDES_MAX = 10_000;

/** Features that have flags, by id. Throws an AnswerTooLargeError if all their values together are over 4 MiB. */
export async function readFeatures(query: Query): Promise<readonly StoredFeature[]> {
  const [size] = await query<{ bytes: number }>(
    `SELECT coalesce(sum(${BYTES_OF_FLAG}), 0)::double precision AS bytes
     FROM feature_flags.flags AS f WHERE f.archived_at IS NULL`,
  );
  if (size !== undefined && size.bytes > VALUE_BYTES_MAX)
    throw new AnswerTooLargeError(
      `the values of all flags have ${size.bytes} bytes, and at most ${VALUE_BYTES_MAX} go into one answer; GetFlag shows one flag`,
    );
  const rows = await query<StoredFlagRow & StoredFeatureRow>(
    `SELECT ${FLAG}, t.feature_id, t.description AS feature_description, t.owner
     FROM feature_flags.features AS t JOIN feature_flags.flags AS f ON f.feature_id = t.feature_id
     WHERE f.archived_at IS NULL ORDER BY t.feature_id, f.field_number`,
  );
  return runInSlices(toFeatures(rows));
}

/** By id or alias. The database fails with PF001 if there is no such flag. */
export async function readStoredFlag(query: Query, flag: string): Promise<StoredFlag | undefined> {
  const [row] = await query<StoredFlagRow>(
    `SELECT ${FLAG} FROM feature_flags.flags AS f
     WHERE f.flag_id = (SELECT g.flag_id FROM feature_flags.find_flag($1, 'Cannot show') AS g)`,
    [flag],
  );
  return row === undefined ? undefined : toStoredFlag(row);
}

/** Of one flag, by entity id: the first 10,000, or as many as have 4 MiB of values. */
export async function readOverridesOf(query: Query, flagId: string): Promise<readonly Override[]> {
  const rows = await query<OverrideRow>(
    `SELECT flag_id, entity_id, state, value FROM (
       SELECT o.*, sum(coalesce(octet_length(o.value), 0)) OVER (ORDER BY o.entity_id) AS bytes
       FROM (SELECT * FROM feature_flags.flag_overrides WHERE flag_id = $1 ORDER BY entity_id LIMIT $2) AS o
     ) AS o WHERE bytes <= $3 ORDER BY entity_id`,
    [flagId, OVERRIDES_MAX, VALUE_BYTES_MAX],
  );
  return runInSlices(mapSteps(rows, toOverride));
}

/**
 * The newest first, of one flag or of all (undefined): `limit` of them, or as many as have 4 MiB of values. A flag that
 * is gone is known by its id as long as the log has it; the database fails with PF001 for one that never was.
 */
export async function readAuditLog(
  query: Query,
  flag: string | undefined,
  limit: number,
): Promise<readonly AuditEntry[]> {
  const flagId = flag === undefined ? null : await findLogged(query, flag);
  const rows = await query<AuditRow>(
    `SELECT id, flag_id, action, old_value, new_value, actor,
       CASE WHEN isfinite(created_at) THEN floor(extract(epoch FROM created_at) * 1000000)::text END AS micros
     FROM (
       SELECT l.*, sum(coalesce(octet_length(l.old_value), 0) + coalesce(octet_length(l.new_value), 0))
         OVER (ORDER BY l.id DESC) AS bytes
       FROM (
         SELECT * FROM feature_flags.flag_audit_log WHERE $1::text IS NULL OR flag_id = $1 ORDER BY id DESC LIMIT $2
       ) AS l
     ) AS l WHERE bytes <= $3 ORDER BY id DESC`,
    [flagId, limit, VALUE_BYTES_MAX],
  );
  return runInSlices(mapSteps(rows, toAuditEntry));
}

async function findLogged(query: Query, flag: string): Promise<string> {
  const [logged] = await query<{ found: boolean }>(
    "SELECT EXISTS (SELECT FROM feature_flags.flag_audit_log WHERE flag_id = $1) AS found",
    [flag],
  );
  if (logged?.found === true) return flag;
  const [row] = await query<{ flag_id: string }>(
    "SELECT f.flag_id FROM feature_flags.find_flag($1, 'Cannot show changes of') AS f",
    [flag],
  );
  return row?.flag_id ?? flag;
}

const FLAG = `f.flag_id, f.display_name, f.description, f.flag_type, f.layer, f.state, f.value, f.default_value,
  f.supported_values, f.archived_at IS NOT NULL AS archived`;

const BYTES_OF_FLAG = `coalesce(octet_length(f.value), 0) + coalesce(octet_length(f.default_value), 0)
  + coalesce(octet_length(f.supported_values), 0)`;

interface StoredFlagRow extends FlagRow {
  readonly display_name: string;
  readonly description: string;
  readonly layer: string;
  readonly default_value: Uint8Array | null;
  readonly supported_values: Uint8Array | null;
}

interface StoredFeatureRow {
  readonly feature_id: string;
  readonly feature_description: string;
  readonly owner: string;
}

interface AuditRow {
  readonly id: string;
  readonly flag_id: string;
  readonly action: string;
  readonly old_value: Uint8Array | null;
  readonly new_value: Uint8Array | null;
  readonly actor: string;
  readonly micros: string | null;
}

function toStoredFlag(row: StoredFlagRow): StoredFlag {
  return {
    ...toFlagState(row),
    name: row.display_name,
    description: row.description,
    layer: row.layer,
    defaultValue: decodeValue(row.default_value).value,
    supportedValues: decodeSupported(row.supported_values),
  };
}

/** What cannot be read is left out: one unreadable row spoils no other. */
function decodeSupported(bytes: Uint8Array | null): SupportedValues | undefined {
  if (bytes === null) return undefined;
  try {
    return readSupportedValues([new WireReader(bytes)]);
  } catch {
    return undefined;
  }
}

function toAuditEntry(row: AuditRow): AuditEntry {
  return {
    id: BigInt(row.id),
    flagId: row.flag_id,
    action: row.action,
    oldValue: decodeValue(row.old_value).value,
    newValue: decodeValue(row.new_value).value,
    actor: row.actor,
    createdAtMicros: row.micros === null ? undefined : BigInt(row.micros),
  };
}

// Row by row, so that many hold nobody up.

function* toFeatures(
  rows: readonly (StoredFlagRow & StoredFeatureRow)[],
): Generator<void, readonly StoredFeature[]> {
  const features = new Map<string, StoredFeature & { readonly flags: StoredFlag[] }>();
  for (const row of rows) {
    const { feature_id: id, feature_description: description, owner } = row;
    const feature = features.get(id) ?? { id, description, owner, flags: [] };
    features.set(id, feature);
    feature.flags.push(toStoredFlag(row));
    yield;
  }
  return [...features.values()];
}

function* mapSteps<R, T>(rows: readonly R[], convert: (row: R) => T): Generator<void, readonly T[]> {
  const converted: T[] = [];
  for (const row of rows) {
    converted.push(convert(row));
    yield;
  }
  return converted;
}
