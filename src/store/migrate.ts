import { systemClock } from "../system/clock.ts";
import type { Database } from "./database.ts";
import { loadMigrations, type Migration, MigrationError, planMigrations } from "./migration-files.ts";
import { checkSchema, readLedger } from "./schema-state.ts";

export { MigrationError } from "./migration-files.ts";
export { checkSchema, type SchemaState } from "./schema-state.ts";

export interface MigrationReport {
  readonly applied: readonly { readonly name: string; readonly durationMs: number }[];
  /** How many were there before, or came from another process meanwhile. */
  readonly alreadyApplied: number;
  /** The database held tables of pbflags, which were taken over with all they hold. */
  readonly adopted: boolean;
}

/** "pbflagd" and 2. Changes are sealed under 1, syncs run under 3. */
const lockKey = "8098147695642240002";

/**
 * Brings the schema `feature_flags` up to date, each file in its own transaction. Needs the right to create
 * in the database, and where pbflags created the tables, to own them.
 *
 * Several processes may do this at once: each file is applied once, and all return when the last one is in.
 */
export async function migrate(database: Database, known?: readonly Migration[]): Promise<MigrationReport> {
  const migrations = known ?? (await loadMigrations());
  const before = await checkSchema(database, migrations);
  if (before.kind === "breaking") {
    throw new MigrationError(
      `Cannot migrate: a newer pbflagd changed the database in a way that this one cannot serve, got ${before.newer.join(", ")}`,
    );
  }
  const applied: { name: string; durationMs: number }[] = [];
  for (const migration of migrations) {
    const durationMs = await applyOnce(database, migration, migrations);
    if (durationMs !== undefined) applied.push({ name: migration.name, durationMs });
  }
  return {
    applied,
    alreadyApplied: migrations.length - applied.length,
    adopted: before.kind === "unmigrated" && applied.length > 0,
  };
}

/** How long it took, in milliseconds; undefined if it was there already. */
async function applyOnce(
  database: Database,
  migration: Migration,
  all: readonly Migration[],
): Promise<number | undefined> {
  try {
    return await database.transaction(async () => {
      await lock(database);
      await createLedger(database);
      const { pending } = planMigrations(all, await readLedger(database));
      if (!pending.includes(migration)) return undefined;
      const startedAt = systemClock.now();
      await database.query(migration.sql);
      await database.query(
        "INSERT INTO feature_flags.pbflagd_migrations (name, checksum, breaking) VALUES ($1, $2, $3)",
        [migration.name, migration.checksum, migration.breaking],
      );
      return systemClock.now() - startedAt;
    });
  } catch (error) {
    if (error instanceof MigrationError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new MigrationError(`Cannot apply migration ${migration.name}: ${reason}`, { cause: error });
  }
}

/**
 * The lock is the transaction's, so it works through a pooler too, and a lost process leaves none behind.
 * Who waited for it must see what the holder did, whatever isolation and timeouts the role has.
 */
async function lock(database: Database): Promise<void> {
  await database.query(`
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET LOCAL statement_timeout = 0;
    SET LOCAL lock_timeout = 0;
    SET LOCAL client_min_messages = warning`);
  await database.query("SELECT pg_advisory_xact_lock($1)", [lockKey]);
}

async function createLedger(database: Database): Promise<void> {
  // CREATE SCHEMA IF NOT EXISTS asks for rights on the database even where the schema exists.
  await database.query(`
    DO $$ BEGIN
      IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'feature_flags') THEN
        CREATE SCHEMA feature_flags;
      END IF;
    END $$;
    CREATE TABLE IF NOT EXISTS feature_flags.pbflagd_migrations (
      name       text        PRIMARY KEY,
      checksum   text        NOT NULL,
      breaking   boolean     NOT NULL DEFAULT false,
      applied_at timestamptz NOT NULL DEFAULT now()
    );
    -- A daemon with read-only rights asks as well.
    GRANT SELECT ON feature_flags.pbflagd_migrations TO PUBLIC`);
}
