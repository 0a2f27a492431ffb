import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, inject, test } from "vitest";
import { parseVersion, type Version } from "../../src/evaluation/version.ts";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { type EmbeddedPostgres, openEmbeddedPostgres } from "../../src/store/embedded/embedded-postgres.ts";
import { migrate } from "../../src/store/migrate.ts";
import { systemClock } from "../../src/system/clock.ts";
import { createTestDatabase } from "../support/postgres.ts";

async function readVersion(database: Database): Promise<Version> {
  const { rows } = await database.query<{ version: string }>("SELECT feature_flags.version() AS version");
  const version = parseVersion(rows[0]?.version ?? "");
  if (version === undefined) throw new Error(`Not a version: ${rows[0]?.version}`);
  return version;
}

const define = `
  INSERT INTO feature_flags.features (feature_id) VALUES ('shop');
  INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, flag_type) VALUES ('shop/1', 'shop', 1, 'BOOL')`;

test("an older state that was brought back beside it is another epoch", async () => {
  await using created = await createTestDatabase();
  {
    await using database = await connectDatabase({ url: created.url });
    await database.query(define);
  }
  const clone = `${new URL(created.url).pathname.slice(1)}_restored`;
  await using admin = await connectDatabase({
    url: Object.assign(new URL(created.url), { pathname: "/postgres" }).href,
  });
  await admin.query(`CREATE DATABASE ${clone} TEMPLATE ${new URL(created.url).pathname.slice(1)}`);
  {
    await using live = await connectDatabase({ url: created.url });
    await live.query("SELECT feature_flags.kill('shop/1')");
    await using restored = await connectDatabase({
      url: Object.assign(new URL(created.url), { pathname: `/${clone}` }).href,
    });
    const [newer, older] = [await readVersion(live), await readVersion(restored)];
    expect(older.revision).toBe(newer.revision - 1);
    expect(older.epoch).not.toBe(newer.epoch);
    await restored.query("SELECT feature_flags.kill('shop/1')");
    expect(await readVersion(restored)).toEqual({ epoch: older.epoch, revision: newer.revision });
  }
  await admin.query(`DROP DATABASE ${clone} WITH (FORCE)`);
});

test("tables that were brought back into the same database are another epoch", async () => {
  await using created = await createTestDatabase();
  await using database = await connectDatabase({ url: created.url });
  await database.query(define);
  const before = await readVersion(database);
  // What a restore does to this table: a new one with the old rows.
  await database.query(`
    CREATE TEMP TABLE dumped AS SELECT * FROM feature_flags.changes;
    DROP TABLE feature_flags.changes;
    CREATE TABLE feature_flags.changes (LIKE dumped);
    INSERT INTO feature_flags.changes SELECT * FROM dumped`);
  const after = await readVersion(database);
  expect(after.revision).toBe(before.revision);
  expect(after.epoch).not.toBe(before.epoch);
});

test("a standby has the epoch of its primary, and another one as soon as it is promoted", async () => {
  const dataDir = join(inject("runFolder"), `standby-${process.pid}`);
  const open = (): Promise<EmbeddedPostgres> =>
    openEmbeddedPostgres({
      dataDir,
      clock: systemClock,
      binaries: "npm",
      noSync: true,
      settings: { wal_level: "replica" },
    });
  let before: Version;
  let dataDirectory: string;
  {
    await using primary = await open();
    await using database = await connectDatabase({ url: primary.url });
    await migrate(database);
    await database.query(define);
    before = await readVersion(database);
    const { rows } = await database.query<{ data_directory: string }>("SHOW data_directory");
    dataDirectory = rows[0]?.data_directory ?? "";
  }
  await appendFile(join(dataDirectory, "standby.signal"), "");
  await using standby = await open();
  {
    await using database = await connectDatabase({ url: standby.url });
    expect((await database.query("SELECT pg_is_in_recovery() AS standby")).rows).toEqual([{ standby: true }]);
    expect(await readVersion(database)).toEqual(before);

    await database.query("SELECT pg_promote()");
    const promoted = await readVersion(database);
    expect(promoted.revision).toBe(before.revision);
    expect(promoted.epoch).not.toBe(before.epoch);
    await database.query("SELECT feature_flags.kill('shop/1')");
    expect(await readVersion(database)).toEqual({ epoch: promoted.epoch, revision: before.revision + 1 });
  }
});
