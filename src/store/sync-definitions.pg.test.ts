import { create, fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { defineFlag, flagValue, tableOf } from "../../test/support/flag-builders.ts";
import { createTestDatabase, type TestDatabase } from "../../test/support/postgres.ts";
import { createFlagTable } from "../flags/definition.ts";
import { SupportedValuesSchema } from "../gen/pbflags/options_pb.ts";
import { FlagValueSchema } from "../gen/pbflags/v1/types_pb.ts";
import { connectDatabase, type Database } from "./database.ts";
import { SyncError, syncDefinitions } from "./sync-definitions.ts";

const actor = { actor: "deploy" };

async function open(created: TestDatabase): Promise<Database> {
  return connectDatabase({ url: created.url });
}

async function column(database: Database, text: string): Promise<readonly unknown[]> {
  const { rows } = await database.query(text);
  return rows.map((row) => Object.values(row)[0]);
}

test("definitions become rows", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  const supportedValues = create(SupportedValuesSchema, { stringValues: ["daily", "weekly"] });
  const table = createFlagTable(
    [{ id: "shop", displayName: "Shop", description: "Sells", owner: "team-shop" }],
    [
      defineFlag("shop/1", { name: "digest", description: "How often", layer: "user", supportedValues }),
      defineFlag("shop/2", { name: "open", type: "BOOL", layer: "", defaultValue: undefined }),
    ],
  );
  const report = await syncDefinitions(database, table, actor);
  expect(report).toMatchObject({
    created: ["shop/1", "shop/2"],
    updated: [],
    archived: [],
    restored: [],
    unchanged: 0,
  });
  expect(report.version).toMatch(/:1$/);

  const { rows } = await database.query<
    Record<string, unknown> & { default_value: Buffer; supported_values: Buffer }
  >(
    `SELECT flag_id, feature_id, field_number, display_name, flag_type, layer, description, state, value, archived_at,
       default_value, supported_values FROM feature_flags.flags ORDER BY flag_id`,
  );
  expect(rows).toMatchObject([
    {
      flag_id: "shop/1",
      feature_id: "shop",
      field_number: 1,
      display_name: "digest",
      flag_type: "STRING",
      layer: "USER",
      description: "How often",
      state: "DEFAULT",
      value: null,
      archived_at: null,
    },
    {
      flag_id: "shop/2",
      display_name: "open",
      flag_type: "BOOL",
      layer: "GLOBAL",
      default_value: null,
      supported_values: null,
    },
  ]);
  expect(fromBinary(FlagValueSchema, rows[0]?.default_value ?? Buffer.of())).toEqual(flagValue("daily"));
  expect(fromBinary(SupportedValuesSchema, rows[0]?.supported_values ?? Buffer.of())).toEqual(
    supportedValues,
  );
  expect(
    (await database.query("SELECT display_name, description, owner FROM feature_flags.features")).rows,
  ).toEqual([{ display_name: "Shop", description: "Sells", owner: "team-shop" }]);
});

test("a second run changes nothing, tells nobody, and writes no audit", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  const table = tableOf(defineFlag("shop/1"), defineFlag("shop/2", { description: "ü\0x".repeat(600) }));
  const first = await syncDefinitions(database, table, actor);
  const rows = await database.query(
    "SELECT f.xmin::text AS flag_row, g.xmin::text AS feature_row, f.*, g.* FROM feature_flags.flags AS f, feature_flags.features AS g ORDER BY f.flag_id",
  );
  const second = await syncDefinitions(database, table, actor);
  expect(second).toEqual({
    created: [],
    updated: [],
    archived: [],
    restored: [],
    unchanged: 2,
    version: first.version,
  });
  expect(
    (
      await database.query(
        "SELECT f.xmin::text AS flag_row, g.xmin::text AS feature_row, f.*, g.* FROM feature_flags.flags AS f, feature_flags.features AS g ORDER BY f.flag_id",
      )
    ).rows,
  ).toEqual(rows.rows);
  expect(await column(database, "SELECT action FROM feature_flags.flag_audit_log")).toEqual([]);
});

test("a change of words or defaults is written, and is no new version", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  const first = await syncDefinitions(database, tableOf(defineFlag("shop/1"), defineFlag("shop/2")), actor);
  const changed = defineFlag("shop/1", {
    name: "renamed",
    description: "new",
    defaultValue: flagValue("weekly"),
    layer: "tenant",
  });
  const report = await syncDefinitions(database, tableOf(changed, defineFlag("shop/2")), actor);
  expect(report).toMatchObject({ updated: ["shop/1"], unchanged: 1, version: first.version });
  expect(await column(database, "SELECT alias || ' ' || layer FROM feature_flags.flag_status")).toEqual([
    "shop.renamed TENANT",
    "shop.flag_2 USER",
  ]);
});

test("what is gone is archived with its state, value and overrides, and comes back with them", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  const both = tableOf(defineFlag("shop/1"), defineFlag("shop/2"));
  await syncDefinitions(database, both, actor);
  await database.query(
    "SELECT feature_flags.set_value('shop/2', 'weekly'), feature_flags.set_override('shop/2', 'u', 'never')",
  );
  const kept =
    "SELECT state, value, (SELECT count(*) FROM feature_flags.flag_overrides) FROM feature_flags.flags WHERE flag_id = 'shop/2'";
  const before = (await database.query(kept)).rows;

  const gone = await syncDefinitions(database, tableOf(defineFlag("shop/1")), actor);
  expect(gone).toMatchObject({ archived: ["shop/2"], unchanged: 1 });
  expect(
    await column(database, "SELECT flag_id FROM feature_flags.flags WHERE archived_at IS NOT NULL"),
  ).toEqual(["shop/2"]);
  expect((await syncDefinitions(database, tableOf(defineFlag("shop/1")), actor)).version).toBe(gone.version);

  const back = await syncDefinitions(database, both, actor);
  expect(back).toMatchObject({ restored: ["shop/2"], updated: [], archived: [] });
  expect(back.version).not.toBe(gone.version);
  expect((await database.query(kept)).rows).toEqual(before);
  expect(
    await column(
      database,
      "SELECT action || ' ' || actor FROM feature_flags.flag_audit_log WHERE action LIKE '%ARCHIVE%' ORDER BY id",
    ),
  ).toEqual(["ARCHIVE_FLAG deploy", "UNARCHIVE_FLAG deploy"]);
});

test("two teams' sets live in one database", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  await syncDefinitions(database, tableOf(defineFlag("shop/1"), defineFlag("shop/2")), actor);
  await syncDefinitions(database, tableOf(defineFlag("search/1")), actor);
  const report = await syncDefinitions(database, tableOf(defineFlag("shop/1")), actor);
  expect(report).toMatchObject({ archived: ["shop/2"], created: [], unchanged: 1 });
  expect(
    await column(database, "SELECT flag_id FROM feature_flags.flags WHERE archived_at IS NULL ORDER BY 1"),
  ).toEqual(["search/1", "shop/1"]);
});

test("a feature without flags archives what it had", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  await syncDefinitions(database, tableOf(defineFlag("shop/1")), actor);
  const empty = createFlagTable([{ id: "shop", displayName: "", description: "", owner: "" }], []);
  expect(await syncDefinitions(database, empty, actor)).toMatchObject({ archived: ["shop/1"] });
  expect(await syncDefinitions(database, createFlagTable([], []), actor)).toMatchObject({
    archived: [],
    unchanged: 0,
  });
});

test.each([
  ["a value", "SELECT feature_flags.set_value('shop/1', 'weekly')", "a value of type STRING"],
  [
    "a killed flag's value",
    "SELECT feature_flags.set_value('shop/1', 'weekly'), feature_flags.kill('shop/1')",
    "a value of type STRING",
  ],
  ["overrides", "SELECT feature_flags.set_override('shop/1', 'u', 'never')", "1 override(s) of type STRING"],
  [
    "an archived flag's value",
    "SELECT feature_flags.set_value('shop/1', 'weekly'); UPDATE feature_flags.flags SET archived_at = now() WHERE flag_id = 'shop/1'",
    "a value of type STRING",
  ],
])(
  "a type does not change while the database holds %s, and nothing else is written either",
  async (_, store, held) => {
    await using created = await createTestDatabase();
    await using database = await open(created);
    await syncDefinitions(database, tableOf(defineFlag("shop/1")), actor);
    await database.query(store);
    const retyped = tableOf(
      defineFlag("shop/1", { type: "BOOL", defaultValue: undefined }),
      defineFlag("shop/2"),
    );
    const failed = syncDefinitions(database, retyped, actor);
    await expect(failed).rejects.toThrow(SyncError);
    await expect(failed).rejects.toThrow(`flag shop/1 cannot become BOOL: the database holds ${held}`);
    expect(await column(database, "SELECT flag_type FROM feature_flags.flags")).toEqual(["STRING"]);

    await database.query(
      "SELECT feature_flags.revive('shop/1'), feature_flags.remove_override('shop/1', 'u')",
    );
    await database.query("SELECT feature_flags.reset('shop/1')");
    expect(await syncDefinitions(database, retyped, actor)).toMatchObject({ created: ["shop/2"] });
  },
);

test("a type changes where no value is stored, which is a new version", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  const first = await syncDefinitions(database, tableOf(defineFlag("shop/1")), actor);
  const report = await syncDefinitions(
    database,
    tableOf(defineFlag("shop/1", { type: "BOOL", defaultValue: undefined })),
    actor,
  );
  expect(report.updated).toEqual(["shop/1"]);
  expect(report.version).not.toBe(first.version);
});

test("every problem is named", async () => {
  await using created = await createTestDatabase();
  await using database = await open(created);
  await syncDefinitions(database, tableOf(defineFlag("shop/1"), defineFlag("shop/2")), actor);
  await database.query(
    "SELECT feature_flags.set_value('shop/1', 'x'), feature_flags.set_value('shop/2', 'x')",
  );
  const retyped = tableOf(defineFlag("shop/1", { type: "BOOL" }), defineFlag("shop/2", { type: "INT64" }));
  await expect(syncDefinitions(database, retyped, actor)).rejects.toMatchObject({
    problems: [
      expect.stringContaining("shop/1 cannot become BOOL"),
      expect.stringContaining("shop/2 cannot become INT64"),
    ],
  });
});

test("syncs that run at once do not collide", async () => {
  await using created = await createTestDatabase();
  const databases = await Promise.all(Array.from({ length: 4 }, () => open(created)));
  const tables = [0, 1, 2, 3].map((n) =>
    tableOf(...[1, 2, 3].map((m) => defineFlag(`shop/${n % 2 === 0 ? m : m + 1}`))),
  );
  const reports = await Promise.all(
    databases.map((database, n) => syncDefinitions(database, tables[n] ?? tableOf(), actor)),
  );
  expect(reports.flatMap((report) => report.created).toSorted()).toEqual([
    "shop/1",
    "shop/2",
    "shop/3",
    "shop/4",
  ]);
  for (const database of databases) await database[Symbol.asyncDispose]();
});

test("5,000 flags are a handful of statements", async () => {
  await using created = await createTestDatabase();
  await using opened = await open(created);
  let statements = 0;
  const database: Database = {
    ...opened,
    query: (text, values) => {
      statements++;
      return opened.query(text, values);
    },
  };
  const flags = Array.from({ length: 5_000 }, (_, n) =>
    defineFlag(`feature-${n % 50}/${1 + Math.floor(n / 50)}`),
  );
  expect((await syncDefinitions(database, tableOf(...flags), actor)).created).toHaveLength(5_000);
  expect(statements).toBeLessThan(12);
  expect((await syncDefinitions(database, tableOf(...flags), actor)).unchanged).toBe(5_000);
});

test("a database that was not migrated is an error that says what to run", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await open(created);
  await expect(syncDefinitions(database, tableOf(defineFlag("shop/1")), actor)).rejects.toThrow(
    'run "pbflagd migrate" first',
  );
});
