import { expect, test } from "vitest";
import { createTestDatabase } from "../../test/support/postgres.ts";
import { connectDatabase, type Database } from "./database.ts";
import { checkSchema, MigrationError, migrate } from "./migrate.ts";
import { loadMigrations, parseMigration } from "./migration-files.ts";

const ledger = "SELECT name FROM feature_flags.pbflagd_migrations ORDER BY name";
const table = (name: string): string => `CREATE TABLE feature_flags.${name} ();`;

async function names(database: Database): Promise<readonly string[]> {
  return (await database.query<{ name: string }>(ledger)).rows.map(({ name }) => name);
}

test("an empty database gets every migration once", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  const all = (await loadMigrations()).map(({ name }) => name);
  expect(await checkSchema(database)).toEqual({ kind: "none", pending: all, newer: [] });

  const first = await migrate(database);
  expect(first).toMatchObject({ alreadyApplied: 0, adopted: false });
  expect(first.applied.map(({ name }) => name)).toEqual(all);
  expect(await checkSchema(database)).toEqual({ kind: "current", pending: [], newer: [] });
  expect(await migrate(database)).toEqual({ applied: [], alreadyApplied: all.length, adopted: false });
});

test("five processes that start at once apply each file once, and all find it done", async () => {
  await using created = await createTestDatabase({ migrated: false });
  const databases = await Promise.all(Array.from({ length: 5 }, () => connectDatabase({ url: created.url })));
  const reports = await Promise.all(databases.map((database) => migrate(database)));
  const all = (await loadMigrations()).map(({ name }) => name);
  expect(reports.flatMap(({ applied }) => applied.map(({ name }) => name)).toSorted()).toEqual(all);
  for (const database of databases) {
    expect((await checkSchema(database)).kind).toBe("current");
    await database[Symbol.asyncDispose]();
  }
});

test("processes that start at once agree whatever isolation and timeouts the database has", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using admin = await connectDatabase({ url: created.url });
  await admin.query(`DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = ''repeatable read''', current_database());
    EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''1ms''', current_database());
  END $$`);
  const databases = await Promise.all(Array.from({ length: 3 }, () => connectDatabase({ url: created.url })));
  const reports = await Promise.all(databases.map((database) => migrate(database)));
  expect(reports.flatMap(({ applied }) => applied)).toHaveLength((await loadMigrations()).length);
  for (const database of databases) await database[Symbol.asyncDispose]();
});

test("a file that fails leaves nothing of itself, and those before it stay", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  const good = parseMigration("0001_good.sql", table("good"));
  const bad = parseMigration("0002_bad.sql", `${table("half")} SELECT 1 / 0;`);
  await expect(migrate(database, [good, bad])).rejects.toThrow(
    "Cannot apply migration 0002_bad: division by zero",
  );
  expect(await names(database)).toEqual(["0001_good"]);
  expect((await database.query("SELECT to_regclass('feature_flags.half') AS half")).rows).toEqual([
    { half: null },
  ]);
  const mended = parseMigration("0002_bad.sql", table("half"));
  expect((await migrate(database, [good, mended])).applied.map(({ name }) => name)).toEqual(["0002_bad"]);
});

test("a changed or missing old file is an error, and nothing is applied", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  const first = parseMigration("0001_first.sql", table("first"));
  const second = parseMigration("0002_second.sql", table("second"));
  const third = parseMigration("0003_third.sql", table("third"));
  await migrate(database, [first, second]);
  const changed = parseMigration("0001_first.sql", table("other"));
  for (const wrong of [
    [changed, second, third],
    [first, third],
  ]) {
    await expect(migrate(database, wrong)).rejects.toThrow(MigrationError);
    await expect(checkSchema(database, wrong)).rejects.toThrow(MigrationError);
  }
  expect(await names(database)).toEqual(["0001_first", "0002_second"]);
});

test("a newer database is served unless a migration is marked breaking", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  const first = parseMigration("0001_first.sql", table("first"));
  const second = parseMigration("0002_second.sql", table("second"));
  const third = parseMigration("0003_third.sql", `-- pbflagd: breaking\n${table("third")}`);

  await migrate(database, [first, second]);
  expect(await checkSchema(database, [first])).toEqual({
    kind: "newer",
    pending: [],
    newer: ["0002_second"],
  });
  expect(await migrate(database, [first])).toEqual({ applied: [], alreadyApplied: 1, adopted: false });

  await migrate(database, [first, second, third]);
  expect((await checkSchema(database, [first])).kind).toBe("breaking");
  await expect(migrate(database, [first])).rejects.toThrow("got 0002_second, 0003_third");
});

test("a database that lacks migrations is behind", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  const all = await loadMigrations();
  await migrate(database, all.slice(0, -1));
  expect(await checkSchema(database)).toEqual({ kind: "behind", pending: [all.at(-1)?.name], newer: [] });
});

test("a role that may only read finds out what was applied", async () => {
  await using created = await createTestDatabase();
  await using admin = await connectDatabase({ url: created.url });
  const role = `reader_${process.pid}`;
  await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA feature_flags TO ${role}`);
  {
    await using reader = await connectDatabase({
      url: Object.assign(new URL(created.url), { username: role, password: "x" }).href,
    });
    expect((await checkSchema(reader)).kind).toBe("current");
  }
  await admin.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
});
