import { expect, test } from "vitest";
import { parseDescriptors } from "../../src/flags/parse-descriptors.ts";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { checkSchema, migrate } from "../../src/store/migrate.ts";
import { syncDefinitions as syncOurDefinitions } from "../../src/store/sync-definitions.ts";
import { describeFlags } from "../support/descriptors.ts";
import { createTestDatabase } from "../support/postgres.ts";
import {
  describeContents,
  describeDatabase,
  type PbflagsVersion,
  pbflagsVersions,
} from "./pbflags-databases.ts";

async function readAll(database: Database, version: PbflagsVersion): Promise<readonly unknown[]> {
  const contents = [];
  for (const statement of describeContents(version)) contents.push((await database.query(statement)).rows);
  return contents;
}

test.each(pbflagsVersions)("a database of %s is adopted, and nothing in it is lost", async (version) => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  await database.query(describeDatabase(version));
  const before = await readAll(database, version);
  expect((await checkSchema(database)).kind).toBe("unmigrated");

  expect(await migrate(database)).toMatchObject({ adopted: true, alreadyApplied: 0 });
  expect(await readAll(database, version)).toEqual(before);
  expect((await checkSchema(database)).kind).toBe("current");
  expect(await migrate(database)).toMatchObject({ adopted: false, applied: [] });
  expect(await readAll(database, version)).toEqual(before);
});

test.each(pbflagsVersions)("an adopted database of %s is like one of ours", async (version) => {
  const describe = async (database: Database): Promise<unknown> =>
    (
      await database.query(`
        SELECT 'column' AS kind, table_name || '.' || column_name AS name, concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default) AS what
          FROM information_schema.columns WHERE table_schema = 'feature_flags'
        UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'feature_flags'
        UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger
          WHERE tgrelid::regclass::text LIKE 'feature_flags.%' AND NOT tgisinternal
        UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, regexp_replace(pg_get_constraintdef(oid), '::(text|character varying)(\\[\\])?|[()]', '', 'g')
          FROM pg_constraint WHERE connamespace = 'feature_flags'::regnamespace AND contype <> 'n'
        ORDER BY 1, 2`)
    ).rows;
  await using ours = await createTestDatabase();
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  await database.query(describeDatabase(version));
  await migrate(database);
  await using fresh = await connectDatabase({ url: ours.url });
  expect(await describe(database)).toEqual(await describe(fresh));
});

test.each(pbflagsVersions)("what was killed at %s is killed, and can be revived", async (version) => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  await database.query(describeDatabase(version));
  await migrate(database);
  const { rows } = await database.query(
    "SELECT flag_id, value, revives_to FROM feature_flags.flag_status WHERE state = 'KILLED' ORDER BY flag_id",
  );
  expect(rows).toEqual([
    { flag_id: "notifications/3", value: 10, revives_to: "DEFAULT" },
    { flag_id: "notifications/4", value: null, revives_to: "DEFAULT" },
  ]);
  expect((await database.query("SELECT feature_flags.revive('notifications/3') AS state")).rows).toEqual([
    { state: "DEFAULT" },
  ]);
  const { rows: problems } = await database.query(
    "SELECT flag_id, problem FROM feature_flags.flag_status WHERE problem IS NOT NULL",
  );
  expect(problems).toEqual([{ flag_id: "checkout/1", problem: "the stored value cannot be read" }]);
});

test("a database of v0.5 with its descriptor set, layers by number, keeps states and overrides", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  await database.query(describeDatabase("v0.5"));
  await migrate(database);
  const bytes = describeFlags(
    [
      {
        feature: "notifications",
        flags: [
          { number: 1, name: "email_enabled", type: "BOOL", layer: "user", default: true },
          { number: 2, name: "digest", type: "STRING", layer: "global", default: "daily" },
          { number: 3, name: "per_hour", type: "INT64", layer: "user", default: 5n },
          { number: 4, name: "ratio", type: "DOUBLE", layer: "global" },
        ],
      },
    ],
    { layers: "enum" },
  );
  const contents = "SELECT flag_id, layer, state, value, default_value FROM feature_flags.flags ORDER BY 1";
  const overrides = "SELECT * FROM feature_flags.flag_overrides ORDER BY 1, 2";
  const before = [await database.query(contents), await database.query(overrides)].map(({ rows }) => rows);
  const report = await syncOurDefinitions(database, parseDescriptors([{ name: "flags.pb", bytes }]), {
    actor: "test",
  });
  expect(report).toMatchObject({ created: [], archived: [], restored: [] });
  expect([await database.query(contents), await database.query(overrides)].map(({ rows }) => rows)).toEqual(
    before,
  );
  expect(
    (await database.query("SELECT feature_flags.set_override('notifications/1', 'user-7', false) AS state"))
      .rows,
  ).toEqual([{ state: "ENABLED" }]);
});
