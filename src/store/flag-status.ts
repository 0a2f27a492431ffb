import type { Database } from "./database.ts";

/** One flag as `feature_flags.flag_status` shows it. Values are JSON texts; undefined where there is none. */
export interface FlagRow {
  readonly flagId: string;
  readonly alias: string;
  readonly flagType: string;
  /** In upper case; `GLOBAL` for a flag that does not vary. */
  readonly layer: string;
  readonly state: string;
  readonly value: string | undefined;
  readonly defaultValue: string | undefined;
  /** What `revive` brings back; undefined unless the flag is killed. */
  readonly revivesTo: { readonly state: string; readonly value: string | undefined } | undefined;
  readonly archived: boolean;
  readonly overrideCount: number;
  /** Why the stored value is not served. */
  readonly problem: string | undefined;
  readonly description: string;
  readonly updatedAt: Date;
}

/** One override as `feature_flags.override_status` shows it. */
export interface OverrideRow {
  readonly flagId: string;
  readonly alias: string;
  readonly entityId: string;
  readonly state: string;
  readonly value: string | undefined;
  readonly problem: string | undefined;
  readonly updatedAt: Date;
}

/** All overrides, unless it names a flag, an entity, or both. */
export interface OverrideFilter {
  readonly flag?: string | undefined;
  readonly entity?: string | undefined;
}

/** Ordered by feature id, then field number. */
export async function readFlags(database: Database): Promise<readonly FlagRow[]> {
  const { rows } = await database.query<StoredFlagStatus>(selectFlags);
  return rows.map(toFlagRow);
}

/** By id or alias. Fails in the database if there is no such flag. */
export async function readFlag(database: Database, flag: string): Promise<FlagRow> {
  const { rows } = await database.query<StoredFlagStatus>(
    `${selectFlags} WHERE flag_id = (SELECT f.flag_id FROM feature_flags.find_flag($1, 'Cannot show') AS f)`,
    [flag],
  );
  const [row] = rows;
  if (row === undefined) throw new Error(`Cannot show "${flag}": it was deleted meanwhile`);
  return toFlagRow(row);
}

/** Ordered by feature id, field number, then entity id. */
export async function readOverrides(
  database: Database,
  filter: OverrideFilter = {},
): Promise<readonly OverrideRow[]> {
  const { rows } = await database.query<StoredOverrideStatus>(
    `${selectOverrides}
     WHERE ($1::text IS NULL OR flag_id = (
         SELECT f.flag_id FROM (SELECT $1 WHERE $1 IS NOT NULL) AS given (flag),
           feature_flags.find_flag(given.flag, 'Cannot list overrides of') AS f))
       AND ($2::text IS NULL OR entity_id = $2)`,
    [filter.flag ?? null, filter.entity ?? null],
  );
  return rows.map(toOverrideRow);
}

// Values as texts: JSON numbers beyond 2^53 would lose digits on the way.
const selectFlags = `
  SELECT flag_id, alias, flag_type, layer, state, value::text, default_value::text, revives_to,
    revives_to_value::text, archived, overrides::integer, problem, description, updated_at
  FROM feature_flags.flag_status`;

const selectOverrides = `
  SELECT flag_id, alias, entity_id, state, value::text, problem, updated_at
  FROM feature_flags.override_status`;

interface StoredFlagStatus {
  readonly flag_id: string;
  readonly alias: string;
  readonly flag_type: string;
  readonly layer: string;
  readonly state: string;
  readonly value: string | null;
  readonly default_value: string | null;
  readonly revives_to: string | null;
  readonly revives_to_value: string | null;
  readonly archived: boolean;
  readonly overrides: number;
  readonly problem: string | null;
  readonly description: string;
  readonly updated_at: Date;
}

function toFlagRow(row: StoredFlagStatus): FlagRow {
  return {
    flagId: row.flag_id,
    alias: row.alias,
    flagType: row.flag_type,
    layer: row.layer,
    state: row.state,
    value: row.value ?? undefined,
    defaultValue: row.default_value ?? undefined,
    revivesTo:
      row.revives_to === null
        ? undefined
        : { state: row.revives_to, value: row.revives_to_value ?? undefined },
    archived: row.archived,
    overrideCount: row.overrides,
    problem: row.problem ?? undefined,
    description: row.description,
    updatedAt: row.updated_at,
  };
}

interface StoredOverrideStatus {
  readonly flag_id: string;
  readonly alias: string;
  readonly entity_id: string;
  readonly state: string;
  readonly value: string | null;
  readonly problem: string | null;
  readonly updated_at: Date;
}

function toOverrideRow(row: StoredOverrideStatus): OverrideRow {
  return {
    flagId: row.flag_id,
    alias: row.alias,
    entityId: row.entity_id,
    state: row.state,
    value: row.value ?? undefined,
    problem: row.problem ?? undefined,
    updatedAt: row.updated_at,
  };
}
