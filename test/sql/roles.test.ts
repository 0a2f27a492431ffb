import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { migrate } from "../../src/store/migrate.ts";
import { syncDefinitions } from "../../src/store/sync-definitions.ts";
import { defineFlag, tableOf } from "../support/flag-builders.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";

/** The SQL of a chapter of docs/database.md, with roles of our own. */
function documentedSql(heading: string): readonly string[] {
  const text = readFileSync(new URL("../../docs/database.md", import.meta.url), "utf8");
  const chapter = text.split(/^## /m).find((part) => part.startsWith(heading)) ?? "";
  return [...chapter.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql = ""]) =>
    sql.replaceAll("flags_", prefix),
  );
}

const prefix = `test_${process.pid}_`;
let created: TestDatabase;
let admin: Database;

function connectAs(role: string): Promise<Database> {
  const url = Object.assign(new URL(created.url), { username: prefix + role, password: "change-me" });
  return connectDatabase({ url: url.href });
}

beforeAll(async () => {
  created = await createTestDatabase({ migrated: false });
  admin = await connectDatabase({ url: created.url });
  const [makeRoles = "", grant = ""] = documentedSql("Roles");
  await admin.query(makeRoles);
  await using owner = await connectAs("owner");
  await migrate(owner);
  await owner.query(grant);
  const flags = [defineFlag("notifications/1", { name: "email_enabled", type: "BOOL" })];
  const others = [defineFlag("notifications/2"), defineFlag("notifications/3", { type: "INT64" })];
  await syncDefinitions(owner, tableOf(...flags, ...others), { actor: "test" });
});

afterAll(async () => {
  for (const role of ["owner", "evaluator", "operator"]) {
    await admin.query(`DROP OWNED BY ${prefix}${role} CASCADE; DROP ROLE ${prefix}${role}`);
  }
  await admin[Symbol.asyncDispose]();
  await created[Symbol.asyncDispose]();
});

test("an evaluator reads rows and versions and hears of changes, and changes nothing", async () => {
  await using evaluator = await connectAs("evaluator");
  await evaluator.query("LISTEN feature_flags_changed");
  const { rows } = await evaluator.query(
    `SELECT feature_flags.version() <> '' AS versioned, (SELECT known FROM feature_flags.changes_since(0)) AS known,
       (SELECT count(*)::integer FROM feature_flags.flags) AS flags, (SELECT count(*)::integer FROM feature_flags.flag_overrides) AS overrides`,
  );
  expect(rows).toEqual([{ versioned: true, known: true, flags: 3, overrides: 0 }]);
  for (const statement of [
    "SELECT feature_flags.kill('notifications/1')",
    "UPDATE feature_flags.flags SET state = 'KILLED'",
    "SELECT feature_flags.set_override('notifications/1', 'u', true)",
    "SELECT feature_flags.new_epoch()",
    "INSERT INTO feature_flags.changes (flag_ids, entity_ids) VALUES ('{}', '{}')",
    "SELECT * FROM feature_flags.flag_audit_log",
  ]) {
    await expect(evaluator.query(statement), statement).rejects.toMatchObject({ code: "42501" });
  }
});

test("an operator flips every switch, and it is written down and announced without rights on that", async () => {
  await using operator = await connectAs("operator");
  for (const statement of documentedSql("Flipping a switch")) await operator.query(statement);
  const { rows } = await admin.query("SELECT DISTINCT actor FROM feature_flags.flag_audit_log");
  expect(rows).toEqual([{ actor: `${prefix}operator` }]);
  const states = await operator.query("SELECT DISTINCT state FROM feature_flags.flag_status");
  expect(states.rows).toEqual([{ state: "KILLED" }]);
  await operator.query(
    "SELECT feature_flags.reset('notifications/3'), feature_flags.revive(flag_id) FROM feature_flags.flags",
  );
});

test("an operator touches neither definitions nor the records", async () => {
  await using operator = await connectAs("operator");
  for (const statement of [
    "UPDATE feature_flags.flags SET description = 'x'",
    "UPDATE feature_flags.flags SET archived_at = now()",
    "DELETE FROM feature_flags.flags",
    "TRUNCATE feature_flags.flag_overrides",
    "UPDATE feature_flags.features SET owner = 'x'",
    "DELETE FROM feature_flags.flag_audit_log",
    "INSERT INTO feature_flags.flag_audit_log (flag_id, action, actor) VALUES ('notifications/1', 'UPDATE_STATE', 'somebody else')",
    "DELETE FROM feature_flags.changes",
    "SELECT feature_flags.new_epoch()",
  ]) {
    await expect(operator.query(statement), statement).rejects.toMatchObject({ code: "42501" });
  }
});

test("a function that a role plants on its own search path is not called with the owner's rights", async () => {
  await admin.query(`CREATE SCHEMA planted; GRANT USAGE, CREATE ON SCHEMA planted TO ${prefix}operator`);
  await using operator = await connectAs("operator");
  await operator.query(`
    CREATE FUNCTION planted.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted as %', current_user; END $$;
    CREATE FUNCTION planted.upper(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'planted as %', current_user; END $$;
    SET search_path = planted, pg_catalog`);
  await operator.query("SELECT feature_flags.kill('notifications/1')");
  await operator.query("UPDATE feature_flags.flags SET state = 'ENABLED' WHERE flag_id = 'notifications/1'");
  const { rows } = await operator.query(
    "SELECT state FROM feature_flags.flags WHERE flag_id = 'notifications/1'",
  );
  expect(rows).toEqual([{ state: "ENABLED" }]);
});
