import type { Database } from "./database.ts";
import { type AppliedMigration, loadMigrations, type Migration, planMigrations } from "./migration-files.ts";

/** What a database's schema is to this version. */
export interface SchemaState {
  /**
   * - `none`: there are no flags.
   * - `unmigrated`: pbflags created it. It can be served, without versions, but not written by us.
   * - `behind`: `pbflagd migrate` has something to do. - `current`: it has not.
   * - `newer`: a newer pbflagd migrated it, and it can be served all the same. - `breaking`: it cannot.
   */
  readonly kind: "none" | "unmigrated" | "behind" | "current" | "newer" | "breaking";
  /** Names of migrations that were not applied yet. */
  readonly pending: readonly string[];
  /** Names of migrations that only a newer version knows. */
  readonly newer: readonly string[];
}

/**
 * Says whether the database can be served and written. Read-only rights suffice.
 * Throws a MigrationError if its history is another one.
 */
export async function checkSchema(database: Database, known?: readonly Migration[]): Promise<SchemaState> {
  const migrations = known ?? (await loadMigrations());
  const tables = await readTables(database);
  const applied = tables.has("pbflagd_migrations") ? await readLedger(database) : [];
  const { pending, newer } = planMigrations(migrations, applied);
  return {
    kind: kindOf(tables, applied, pending, newer),
    pending: pending.map(({ name }) => name),
    newer: newer.map(({ name }) => name),
  };
}

/** What was applied. The table must be there. */
export async function readLedger(database: Database): Promise<readonly AppliedMigration[]> {
  const { rows } = await database.query<AppliedMigration>(
    "SELECT name, checksum, breaking FROM feature_flags.pbflagd_migrations ORDER BY name",
  );
  return rows;
}

function kindOf(
  tables: ReadonlySet<string>,
  applied: readonly AppliedMigration[],
  pending: readonly Migration[],
  newer: readonly AppliedMigration[],
): SchemaState["kind"] {
  if (newer.some(({ breaking }) => breaking)) return "breaking";
  if (applied.length === 0) return tables.has("flags") ? "unmigrated" : "none";
  if (pending.length > 0) return "behind";
  return newer.length > 0 ? "newer" : "current";
}

/** Asks the catalogue, since a name that one has no rights on would be an error. */
async function readTables(database: Database): Promise<ReadonlySet<string>> {
  const { rows } = await database.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.nspname = 'feature_flags' AND c.relname IN ('flags', 'pbflagd_migrations')`,
  );
  return new Set(rows.map(({ name }) => name));
}
