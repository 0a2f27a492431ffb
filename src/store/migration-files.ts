import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";

/** One file of `migrations/`. */
export interface Migration {
  /** The file's name without `.sql`, such as `0001_tables`. */
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, in hexadecimal. Line ends do not count. */
  readonly checksum: string;
  /** Daemons that do not know it must not serve from the database. The line `-- pbflagd: breaking` says so. */
  readonly breaking: boolean;
}

/** What the database's ledger says about one migration. */
export interface AppliedMigration {
  readonly name: string;
  readonly checksum: string;
  readonly breaking: boolean;
}

/** A migration failed, or the database's history is not this one's. Nothing of the failed file remains. */
export class MigrationError extends Error {
  override readonly name = "MigrationError";
}

// The same way from src/store and from dist/store.
const ownDirectory = new URL("../../migrations/", import.meta.url);

/** The migrations that come with this version, in order. */
export async function loadMigrations(directory: URL = ownDirectory): Promise<readonly Migration[]> {
  const files = (await readdir(directory)).filter((file) => file.endsWith(".sql")).toSorted();
  return Promise.all(
    files.map(async (file) => parseMigration(file, await readFile(new URL(file, directory), "utf8"))),
  );
}

/** Throws a MigrationError if the name does not say where the file belongs. */
export function parseMigration(file: string, text: string): Migration {
  if (!/^\d{4}_[a-z0-9_]+\.sql$/.test(file)) {
    throw new MigrationError(`Cannot read migration: its name must look like 0001_name.sql, got ${file}`);
  }
  const sql = text.replaceAll("\r\n", "\n");
  return {
    name: file.replace(/\.sql$/, ""),
    sql,
    checksum: createHash("sha256").update(sql).digest("hex"),
    breaking: /^-- pbflagd: breaking$/m.test(sql),
  };
}

/** What is left to do, and what somebody newer did. */
export interface MigrationPlan {
  readonly pending: readonly Migration[];
  /** Applied ones that come after all that this version knows. */
  readonly newer: readonly AppliedMigration[];
}

/** Throws a MigrationError if the database's history is not the beginning of this version's. */
export function planMigrations(
  known: readonly Migration[],
  applied: readonly AppliedMigration[],
): MigrationPlan {
  const last = known.at(-1)?.name ?? "";
  const newest = applied.reduce((max, { name }) => (name > max ? name : max), "");
  for (const { name, checksum } of applied) {
    const file = known.find((migration) => migration.name === name);
    if (file === undefined && name <= last) {
      throw new MigrationError(
        `Cannot migrate: ${name} was applied to the database, but its file is missing`,
      );
    }
    if (file !== undefined && file.checksum !== checksum) {
      throw new MigrationError(
        `Cannot migrate: ${name} was changed after it had been applied, expected checksum ${checksum}, got ${file.checksum}`,
      );
    }
  }
  const pending = known.filter(({ name }) => !applied.some((one) => one.name === name));
  const late = pending.find(({ name }) => name < newest);
  if (late !== undefined) {
    throw new MigrationError(
      `Cannot migrate: ${late.name} comes before ${newest}, which the database already has`,
    );
  }
  return { pending, newer: applied.filter(({ name }) => name > last) };
}
