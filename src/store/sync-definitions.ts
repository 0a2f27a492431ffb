import type { FlagTable } from "../flags/definition.ts";
import type { Database } from "./database.ts";
import {
  archiveFlags,
  insertFlags,
  readFlagRecords,
  toFlagRecord,
  updateFlags,
  writeFeatures,
} from "./definition-rows.ts";
import { checkSchema } from "./schema-state.ts";
import { type FlagRecord, planSync, type SyncPlan } from "./sync-plan.ts";

export interface SyncOptions {
  /** For the audit log, which notes what was archived and what came back. */
  readonly actor: string;
}

/** Flag ids, ordered. */
export interface SyncReport {
  readonly created: readonly string[];
  readonly updated: readonly string[];
  readonly archived: readonly string[];
  /** Archived before, and defined again. */
  readonly restored: readonly string[];
  readonly unchanged: number;
  /** `epoch:revision`, as of after the commit. */
  readonly version: string;
}

/** The definitions do not fit what is stored. Nothing was changed. */
export class SyncError extends Error {
  override readonly name = "SyncError";
  /** All that is wrong, one line each. */
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`Cannot sync: ${problems.join("; ")}`);
    this.problems = problems;
  }
}

/** "pbflagd" and 3: two syncs do not overlap. */
const lockKey = "8098147695642240003";

/**
 * Makes the rows of `features` and `flags` say what the table says, in one transaction. Flags of these features
 * that the table no longer has are archived; other features, states, values and overrides are left alone.
 */
export async function syncDefinitions(
  database: Database,
  table: FlagTable,
  options: SyncOptions,
): Promise<SyncReport> {
  await requireSchema(database);
  const plan = await database.transaction(async () => {
    await database.query("SELECT set_config('pbflags.actor', $1, true), pg_advisory_xact_lock($2::bigint)", [
      options.actor,
      lockKey,
    ]);
    const wanted = table.flags.map(toFlagRecord);
    const plan = planSync(wanted, await readFlagRecords(database, table));
    await refuseTypeChanges(database, plan);
    await writeFeatures(database, table);
    await insertFlags(database, plan.create);
    await updateFlags(database, [...plan.update, ...plan.restore]);
    await archiveFlags(database, plan.archive);
    return plan;
  });
  return {
    created: idsOf(plan.create),
    updated: idsOf(plan.update),
    archived: plan.archive,
    restored: idsOf(plan.restore),
    unchanged: plan.unchanged,
    version: await readVersion(database),
  };
}

async function requireSchema(database: Database): Promise<void> {
  const { kind } = await checkSchema(database);
  if (kind === "current" || kind === "newer") return;
  const advice = kind === "breaking" ? "use the pbflagd that migrated it" : 'run "pbflagd migrate" first';
  throw new SyncError([`the database's schema is not this pbflagd's (${kind}): ${advice}`]);
}

/** A value of the old type would never be served again, and nobody would be told. */
async function refuseTypeChanges(database: Database, plan: SyncPlan): Promise<void> {
  const problems = plan.retyped.length === 0 ? [] : await findStoredValues(database, plan);
  if (problems.length > 0) throw new SyncError(problems);
}

async function findStoredValues(database: Database, plan: SyncPlan): Promise<readonly string[]> {
  // Locked, so that no value is stored between the look and the change.
  const { rows } = await database.query<{ id: string; value: boolean; overrides: number }>(
    `SELECT f.flag_id AS id, (f.value IS NOT NULL OR f.restore_value IS NOT NULL) AS value,
       (SELECT count(*)::integer FROM feature_flags.flag_overrides AS o
        WHERE o.flag_id = f.flag_id AND o.value IS NOT NULL) AS overrides
     FROM feature_flags.flags AS f WHERE f.flag_id = ANY ($1) ORDER BY f.flag_id FOR UPDATE`,
    [plan.retyped.map(({ flagId }) => flagId)],
  );
  return rows.flatMap(({ id, value, overrides }) => {
    const change = plan.retyped.find(({ flagId }) => flagId === id);
    if (change === undefined || (!value && overrides === 0)) return [];
    const stored = [...(value ? ["a value"] : []), ...(overrides > 0 ? [`${overrides} override(s)`] : [])];
    return [
      `flag ${id} cannot become ${change.to}: the database holds ${stored.join(" and ")} of type ${change.from}; ` +
        "give the new type a new field number, or remove them (feature_flags.reset, feature_flags.remove_override)",
    ];
  });
}

function idsOf(flags: readonly FlagRecord[]): readonly string[] {
  return flags.map(({ flagId }) => flagId);
}

async function readVersion(database: Database): Promise<string> {
  const { rows } = await database.query<{ version: string }>("SELECT feature_flags.version() AS version");
  return rows[0]?.version ?? "";
}
