import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { openFlagsDatabase } from "./flags-database.ts";

const revision = "SELECT split_part(feature_flags.version(), ':', 2)::integer";
const newest = `SELECT jsonb_build_object('flags', flag_ids, 'entities', entity_ids)
  FROM feature_flags.changes ORDER BY revision DESC LIMIT 1`;

test.each([
  ["UPDATE feature_flags.flags SET state = 'KILLED' WHERE flag_id = 'shop/1'", ["shop/1"], []],
  [
    "UPDATE feature_flags.flags SET value = '\\x0801' WHERE flag_id IN ('shop/1', 'shop/9')",
    ["shop/1", "shop/9"],
    [],
  ],
  ["UPDATE feature_flags.flags SET archived_at = now() WHERE flag_id = 'shop/1'", ["shop/1"], []],
  ["UPDATE feature_flags.flags SET flag_type = 'STRING' WHERE flag_id = 'shop/1'", ["shop/1"], []],
  [
    "UPDATE feature_flags.flags SET flag_id = 'shop/99', field_number = 99 WHERE flag_id = 'shop/1'",
    ["shop/1", "shop/99"],
    [],
  ],
  [
    "INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, flag_type) VALUES ('shop/10', 'shop', 10, 'BOOL')",
    ["shop/10"],
    [],
  ],
  ["DELETE FROM feature_flags.flags WHERE flag_id = 'shop/3'", ["shop/3"], []],
  ["DELETE FROM feature_flags.flags WHERE flag_id = 'shop/2'", ["shop/2"], ["known"]],
  [
    "INSERT INTO feature_flags.flag_overrides (flag_id, entity_id) VALUES ('shop/1', 'a'), ('shop/2', 'a'), ('shop/1', 'b')",
    [],
    ["a", "b"],
  ],
  ["UPDATE feature_flags.flag_overrides SET state = 'KILLED'", [], ["known"]],
  ["UPDATE feature_flags.flag_overrides SET entity_id = 'other'", [], ["known", "other"]],
  ["DELETE FROM feature_flags.flag_overrides", [], ["known"]],
  ["TRUNCATE feature_flags.flag_overrides", [], null],
  ["TRUNCATE feature_flags.flags CASCADE", null, null],
  [
    `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state) VALUES ('shop/2', 'known', 'KILLED'), ('shop/2', 'new', 'KILLED')
     ON CONFLICT (flag_id, entity_id) DO UPDATE SET state = EXCLUDED.state`,
    [],
    ["known", "new"],
  ],
])("one revision says what changed: %s", async (change, flags, entities) => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_override('shop/2', 'known', 'x')");
  const before = Number(await opened.one(revision));
  await opened.database.query(change);
  expect(await opened.one(revision)).toBe(before + 1);
  expect(await opened.one(newest)).toEqual({ flags, entities });
  expect(await opened.one("SELECT known FROM feature_flags.changes_since($1)", [before])).toBe(
    flags !== null && entities !== null,
  );
});

test.each([
  "UPDATE feature_flags.flags SET description = 'x', display_name = 'y', default_value = '\\x0801', supported_values = '', layer = 'TENANT', updated_at = now()",
  "UPDATE feature_flags.flags SET state = state, value = value",
  "UPDATE feature_flags.flags SET state = 'KILLED' WHERE flag_id = 'nobody'",
  "UPDATE feature_flags.features SET owner = 'x'",
  "UPDATE feature_flags.flag_overrides SET updated_at = now()",
  "DELETE FROM feature_flags.flag_overrides WHERE entity_id = 'nobody'",
  "SELECT feature_flags.kill('shop/9')",
  "BEGIN; SELECT feature_flags.kill('shop/1'); ROLLBACK",
  "INSERT INTO feature_flags.flag_audit_log (flag_id, action, actor) VALUES ('shop/1', 'UPDATE_STATE', 'x')",
])("nothing that evaluation sees changed, so no revision: %s", async (statement) => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_override('shop/2', 'known', 'x')");
  await opened.one("SELECT feature_flags.kill('shop/9')");
  const before = await opened.one("SELECT feature_flags.version()");
  const rows = await opened.one("SELECT count(*) FROM feature_flags.changes");
  await opened.database.query(statement);
  expect(await opened.one("SELECT feature_flags.version()")).toBe(before);
  expect(await opened.one("SELECT count(*) FROM feature_flags.changes")).toBe(rows);
});

test("a transaction is one revision, however many statements and savepoints it has", async () => {
  await using opened = await openFlagsDatabase();
  const before = Number(await opened.one(revision));
  await opened.database.query(`
    BEGIN;
    SELECT feature_flags.kill('shop/1');
    SAVEPOINT s; SELECT feature_flags.kill('shop/2'); ROLLBACK TO s;
    SAVEPOINT s; SELECT feature_flags.kill('shop/3'); RELEASE s;
    SELECT feature_flags.set_override('shop/1', 'u', true);
    COMMIT`);
  expect(await opened.one(revision)).toBe(before + 1);
  expect(await opened.one(newest)).toEqual({ flags: ["shop/1", "shop/3"], entities: ["u"] });
});

test("constraints that are checked at once seal each statement, in order", async () => {
  await using opened = await openFlagsDatabase();
  const before = Number(await opened.one(revision));
  await opened.database.query(
    "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; SELECT feature_flags.kill('shop/1'); SELECT feature_flags.kill('shop/2'); COMMIT",
  );
  expect(await opened.one(revision)).toBe(before + 2);
});

test("the version is that of the statement's snapshot", async () => {
  await using opened = await openFlagsDatabase();
  await using writer = await opened.connect();
  const before = await opened.one("SELECT feature_flags.version()");
  await opened.database.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
  expect(await opened.one("SELECT feature_flags.version()")).toBe(before);
  await writer.query("SELECT feature_flags.kill('shop/1')");
  expect(await opened.one("SELECT feature_flags.version()")).toBe(before);
  expect(await opened.one("SELECT state FROM feature_flags.flags WHERE flag_id = 'shop/1'")).toBe("DEFAULT");
  await opened.database.query("COMMIT");
  expect(await opened.one("SELECT feature_flags.version()")).not.toBe(before);
});

test("a database that was there first begins at revision 0", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query("DELETE FROM feature_flags.changes WHERE revision > 0");
  expect(await opened.one("SELECT feature_flags.version()")).toMatch(
    /^[0-9a-f-]{36}\.[0-9a-f]+\.\d+\.\d+\.\d+:0$/,
  );
});

test("changes_since lists what came after, and knows when it does not know", async () => {
  await using opened = await openFlagsDatabase();
  const since = async (from: unknown): Promise<unknown> => {
    const { rows } = await opened.database.query(
      "SELECT known, flag_ids, entity_ids FROM feature_flags.changes_since($1)",
      [from],
    );
    return rows[0];
  };
  const unknown = { known: false, flag_ids: [], entity_ids: [] };
  const start = Number(await opened.one(revision));
  expect(await since(start)).toEqual({ known: true, flag_ids: [], entity_ids: [] });

  await opened.one("SELECT feature_flags.kill('shop/1')");
  await opened.database.query("BEGIN; SELECT feature_flags.kill('shop/2'); ROLLBACK");
  await opened.one("SELECT feature_flags.set_override('shop/1', 'u', true)");
  await opened.one("SELECT feature_flags.revive('shop/1')");
  expect(await since(start)).toEqual({ known: true, flag_ids: ["shop/1"], entity_ids: ["u"] });
  expect(await since(start + 2)).toEqual({ known: true, flag_ids: ["shop/1"], entity_ids: [] });
  expect(await since(start + 100)).toEqual(unknown);
  expect(await since(-1)).toEqual(unknown);
  expect(await since(null)).toEqual(unknown);

  // What is older than the rows that were kept.
  await opened.database.query("DELETE FROM feature_flags.changes WHERE revision <= $1", [start]);
  expect(await since(start)).toEqual(unknown);
  expect(await since(start + 1)).toMatchObject({ known: true });
});

test("more than 5,000 ids are not listed", async () => {
  await using opened = await openFlagsDatabase();
  const before = Number(await opened.one(revision));
  const insert = `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id) SELECT 'shop/1', 'user-' || n FROM generate_series($1::integer, $2) AS n`;
  await opened.database.query(insert, [1, 5000]);
  expect(await opened.one("SELECT known FROM feature_flags.changes_since($1)", [before])).toBe(true);
  expect(
    await opened.one("SELECT cardinality(entity_ids) FROM feature_flags.changes_since($1)", [before]),
  ).toBe(5000);
  await opened.database.query(insert, [5001, 5001]);
  expect(await opened.one("SELECT known FROM feature_flags.changes_since($1)", [before])).toBe(false);
  expect(await opened.one("SELECT known FROM feature_flags.changes_since($1)", [before + 1])).toBe(true);
  await opened.database.query("UPDATE feature_flags.flag_overrides SET state = 'KILLED'");
  expect(await opened.one("SELECT known FROM feature_flags.changes_since($1)", [before + 2])).toBe(false);
});

test("a commit is announced with its epoch, its revision, its time and what changed", async () => {
  await using opened = await openFlagsDatabase();
  const notices = await opened.listen();
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  await eventually(() => notices.length === 1);
  const [epoch, number] = String(await opened.one("SELECT feature_flags.version()")).split(":");
  const at = Number(
    await opened.one(
      "SELECT floor(extract(epoch FROM at) * 1000) FROM feature_flags.changes ORDER BY revision DESC LIMIT 1",
    ),
  );
  expect(notices).toEqual([{ epoch, revision: Number(number), at, flags: ["shop/2"], entities: [] }]);
});

test("a transaction that kills says so once, before it is announced, whatever else it does", async () => {
  await using opened = await openFlagsDatabase();
  const heard = await opened.listen(["feature_flags_changed", "feature_flags_kills"]);
  await opened.database.query(
    "BEGIN; SELECT feature_flags.set_value('shop/2', 'weekly'); UPDATE feature_flags.flags SET state = 'KILLED'; COMMIT",
  );
  await opened.one("SELECT feature_flags.set_value('shop/3', '5')");
  await eventually(() => heard.length === 3);
  expect(heard).toEqual([
    "",
    expect.objectContaining({ entities: [] }),
    expect.objectContaining({ flags: ["shop/3"] }),
  ]);
});

const insertOf = (state: string) =>
  `INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, flag_type, state) VALUES ('shop/10', 'shop', 10, 'BOOL', '${state}')`;

test.each([
  [insertOf("KILLED"), true],
  [insertOf("killed"), true],
  [`${insertOf("DEFAULT")}; SELECT feature_flags.kill('shop/1')`, true],
  [insertOf("DEFAULT"), false],
  ["DELETE FROM feature_flags.flags WHERE flag_id = 'shop/9'", true],
  ["DELETE FROM feature_flags.flags", true],
  ["DELETE FROM feature_flags.flags WHERE flag_id = 'shop/1'", false],
  // It does not say what it took.
  ["TRUNCATE feature_flags.flags CASCADE", true],
  ["TRUNCATE feature_flags.flag_overrides", true],
])(
  "the first row of a killed flag and the end of its last are told first as well: %s",
  async (change, isKill) => {
    await using opened = await openFlagsDatabase();
    await opened.one("SELECT feature_flags.kill('shop/9')");
    const heard = await opened.listen(["feature_flags_changed", "feature_flags_kills"]);
    await opened.database.query(`BEGIN; ${change}; COMMIT`);
    const notice = expect.objectContaining({ epoch: expect.any(String) });
    const all = isKill ? ["", notice] : [notice];
    await eventually(() => heard.length >= all.length);
    expect(heard).toEqual(all);
  },
);

test("what does not fit into a notice is announced as all", async () => {
  await using opened = await openFlagsDatabase();
  const notices = await opened.listen();
  await opened.database.query(
    "INSERT INTO feature_flags.flag_overrides (flag_id, entity_id) SELECT 'shop/1', repeat('ü', 200) || n FROM generate_series(1, 30) AS n",
  );
  await opened.database.query("TRUNCATE feature_flags.flags CASCADE");
  await eventually(() => notices.length === 2);
  expect(notices).toEqual([
    { epoch: expect.any(String), revision: expect.any(Number), at: expect.any(Number), all: true },
    { epoch: expect.any(String), revision: expect.any(Number), at: expect.any(Number), all: true },
  ]);
});

test("nothing is announced for what was rolled back", async () => {
  await using opened = await openFlagsDatabase();
  const notices = await opened.listen();
  await opened.database.query("BEGIN; SELECT feature_flags.kill('shop/1'); ROLLBACK");
  await opened.one("SELECT feature_flags.kill('shop/2')");
  await eventually(() => notices.length > 0);
  expect(notices).toMatchObject([{ flags: ["shop/2"] }]);
});

test("old changes go, from the oldest on, and never the newest", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query("UPDATE feature_flags.changes SET at = at - interval '61 minutes'");
  const flip = async (times: number): Promise<void> => {
    await opened.database.query(`DO $$ BEGIN FOR i IN 1..${times} LOOP
      UPDATE feature_flags.flags SET state = CASE state WHEN 'KILLED' THEN 'DEFAULT' ELSE 'KILLED' END WHERE flag_id = 'shop/1'; COMMIT;
      END LOOP; END $$`);
  };
  await flip(70);
  expect(await opened.one("SELECT min(revision)::integer FROM feature_flags.changes")).toBe(2);
  const kept = await opened.one("SELECT count(*) FROM feature_flags.changes");

  await opened.database.query("UPDATE feature_flags.changes SET at = at - interval '61 minutes'");
  await flip(64);
  expect(Number(await opened.one("SELECT count(*) FROM feature_flags.changes"))).toBeLessThan(Number(kept));
  expect(await opened.one("SELECT bool_and(at > now() - interval '1 hour') FROM feature_flags.changes")).toBe(
    true,
  );
});

test("100,000 changes are kept at most", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query("SELECT setval('feature_flags.changes_revision_seq', 100095)");
  await opened.one("SELECT feature_flags.kill('shop/1')");
  expect(await opened.one("SELECT count(*)::integer FROM feature_flags.changes")).toBe(1);
});

test("pruning gives way to others, and to a snapshot that is too old for it", async () => {
  await using opened = await openFlagsDatabase();
  await using other = await opened.connect();
  const prune =
    "SELECT setval('feature_flags.changes_revision_seq', 127); SELECT feature_flags.kill('shop/1')";
  await opened.database.query("UPDATE feature_flags.changes SET at = at - interval '61 minutes'");

  await other.query("BEGIN; SELECT FROM feature_flags.changes FOR UPDATE");
  await opened.database.query(prune);
  expect(await opened.one("SELECT min(revision)::integer FROM feature_flags.changes")).toBe(0);
  await other.query("COMMIT");

  await opened.database.query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT feature_flags.kill('shop/2')");
  await other.query("DELETE FROM feature_flags.changes WHERE revision = 0");
  await opened.database.query("SELECT setval('feature_flags.changes_revision_seq', 255); COMMIT");
  expect(await opened.one("SELECT max(revision)::integer FROM feature_flags.changes")).toBe(256);
  expect(await opened.one("SELECT state FROM feature_flags.flags WHERE flag_id = 'shop/2'")).toBe("KILLED");
});

test("a sequence that was set back does not stop a kill", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.kill('shop/1')");
  const before = Number(await opened.one(revision));
  await opened.database.query("SELECT setval('feature_flags.changes_revision_seq', 1, false)");
  await opened.one("SELECT feature_flags.kill('shop/2')");
  await opened.one("SELECT feature_flags.kill('shop/3')");
  expect(await opened.one(revision)).toBe(before + 2);
});

test("new_epoch makes another epoch, and everybody hears of it", async () => {
  await using opened = await openFlagsDatabase();
  const notices = await opened.listen();
  const before = String(await opened.one("SELECT feature_flags.version()"));
  const epoch = String(await opened.one("SELECT feature_flags.new_epoch()"));
  expect(before.startsWith(epoch)).toBe(false);
  expect(String(await opened.one("SELECT feature_flags.version()"))).toMatch(new RegExp(`^${epoch}:\\d+$`));
  await eventually(() => notices.length === 1);
  expect(notices).toMatchObject([{ epoch, all: true }]);
});

test("where the control functions are not permitted, there is a version all the same", async () => {
  await using opened = await openFlagsDatabase();
  const role = `owner_${process.pid}`;
  await opened.database.query(`
    CREATE ROLE ${role};
    REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_walfile_name(pg_lsn) FROM PUBLIC;
    GRANT USAGE ON SCHEMA feature_flags TO ${role};
    GRANT SELECT ON feature_flags.changes, feature_flags.pbflagd_meta TO ${role};
    ALTER FUNCTION feature_flags.version() OWNER TO ${role}`);
  expect(await opened.one("SELECT feature_flags.version()")).toMatch(/^[0-9a-f-]{36}\.0\.\d+\.\d+\.\d+:1$/);
  await opened.database.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
});

test("numbers of revisions are exact in JavaScript", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query("SELECT setval('feature_flags.changes_revision_seq', 9007199254740000)");
  await opened.one("SELECT feature_flags.kill('shop/1')");
  const notices = await opened.listen();
  await opened.one("SELECT feature_flags.kill('shop/2')");
  await eventually(() => notices.length === 1);
  expect(notices).toMatchObject([{ revision: 9007199254740002 }]);
});
