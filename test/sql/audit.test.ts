import { expect, test } from "vitest";
import { openFlagsDatabase } from "./flags-database.ts";

const log = `SELECT concat_ws(' ', action, flag_id, entity_id, coalesce(old_state, '-') || '>' || coalesce(new_state, '-'),
  coalesce(feature_flags.decode_value(old_value)::text, '-') || '>' || coalesce(feature_flags.decode_value(new_value)::text, '-'))
  FROM feature_flags.flag_audit_log ORDER BY id`;

test("every change of state is written down, whoever makes it", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  await opened.one("SELECT feature_flags.kill('shop/2')");
  await opened.database.query("UPDATE feature_flags.flags SET state = 'DEFAULT' WHERE flag_id = 'shop/2'");
  await opened.one("SELECT feature_flags.set_override('shop/2', 'u', 'daily')");
  await opened.one("SELECT feature_flags.set_override('shop/2', 'u', 'never')");
  await opened.one("SELECT feature_flags.remove_override('shop/2', 'u')");
  await opened.database.query("UPDATE feature_flags.flags SET archived_at = now() WHERE flag_id = 'shop/2'");
  await opened.database.query("UPDATE feature_flags.flags SET archived_at = NULL WHERE flag_id = 'shop/2'");
  await opened.database.query("DELETE FROM feature_flags.flags WHERE flag_id = 'shop/2'");
  expect(await opened.column(log)).toEqual([
    'UPDATE_STATE shop/2 DEFAULT>ENABLED ->"weekly"',
    'UPDATE_STATE shop/2 ENABLED>KILLED "weekly">"weekly"',
    'UPDATE_STATE shop/2 KILLED>DEFAULT "weekly">"weekly"',
    'CREATE_OVERRIDE shop/2 u ->ENABLED ->"daily"',
    'UPDATE_OVERRIDE shop/2 u ENABLED>ENABLED "daily">"never"',
    'REMOVE_OVERRIDE shop/2 u ENABLED>- "never">-',
    'ARCHIVE_FLAG shop/2 DEFAULT>DEFAULT "weekly">"weekly"',
    'UNARCHIVE_FLAG shop/2 DEFAULT>DEFAULT "weekly">"weekly"',
    'DELETE_FLAG shop/2 DEFAULT>- "weekly">-',
  ]);
});

test("what changes no state is not written down", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(
    "UPDATE feature_flags.flags SET description = 'x', default_value = '\\x0801', layer = 'TENANT'",
  );
  await opened.one("SELECT feature_flags.revive('shop/1')");
  await opened.database.query("UPDATE feature_flags.flags SET state = state, value = value");
  await opened.one("SELECT feature_flags.remove_override('shop/1', 'nobody')");
  expect(await opened.column(log)).toEqual([]);
});

test("the actor is the transaction's setting, else who connected", async () => {
  await using opened = await openFlagsDatabase();
  const actors = "SELECT actor FROM feature_flags.flag_audit_log ORDER BY id";
  await opened.database.transaction(async () => {
    await opened.one("SELECT set_config('pbflags.actor', 'alice@example.com', true)");
    await opened.one("SELECT feature_flags.kill('shop/1')");
  });
  await opened.one("SELECT feature_flags.revive('shop/1')");
  const user = await opened.one("SELECT session_user::text");
  expect(await opened.column(actors)).toEqual(["alice@example.com", user]);
});

const ownRow =
  "INSERT INTO feature_flags.flag_audit_log (flag_id, action, old_value, new_value, actor) VALUES ($1, $2, NULL, NULL, 'bob')";

test.each(["before", "after"])(
  "a writer that keeps its own log %s the change is not logged twice",
  async (when) => {
    await using opened = await openFlagsDatabase();
    const write = async (action: string, flag: string, change: string): Promise<void> => {
      await opened.database.transaction(async () => {
        if (when === "before") await opened.database.query(ownRow, [flag, action]);
        await opened.database.query(change);
        if (when === "after") await opened.database.query(ownRow, [flag, action]);
      });
    };
    const upsert = `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state, value) VALUES ('shop/1', 'u', 'ENABLED', '\\x0801')
    ON CONFLICT (flag_id, entity_id) DO UPDATE SET state = 'DEFAULT', updated_at = now()`;
    await write(
      "UPDATE_STATE",
      "shop/1",
      "UPDATE feature_flags.flags SET state = 'KILLED' WHERE flag_id = 'shop/1'",
    );
    // An upserting writer may call both by the same name.
    await write("CREATE_OVERRIDE", "shop/1", upsert);
    await write("CREATE_OVERRIDE", "shop/1", upsert);
    await write("REMOVE_OVERRIDE", "shop/1", "DELETE FROM feature_flags.flag_overrides");
    expect(
      await opened.column("SELECT action || ' ' || actor FROM feature_flags.flag_audit_log ORDER BY id"),
    ).toEqual(["UPDATE_STATE bob", "CREATE_OVERRIDE bob", "CREATE_OVERRIDE bob", "REMOVE_OVERRIDE bob"]);
  },
);

test("a writer's own row stands for that flag, that action and that transaction only", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(ownRow, ["shop/1", "UPDATE_STATE"]);
  await opened.database.transaction(async () => {
    await opened.database.query(ownRow, ["shop/2", "UPDATE_STATE"]);
    await opened.database.query(ownRow, ["shop/1", "CREATE_OVERRIDE"]);
    await opened.database.query(
      "UPDATE feature_flags.flags SET state = 'KILLED' WHERE flag_id IN ('shop/1', 'shop/2')",
    );
  });
  expect(
    await opened.column("SELECT flag_id FROM feature_flags.flag_audit_log WHERE old_state IS NOT NULL"),
  ).toEqual(["shop/1"]);
});

test("two changes in one transaction leave two rows", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.transaction(async () => {
    await opened.one("SELECT feature_flags.set_value('shop/1', true)");
    await opened.one("SELECT feature_flags.kill('shop/1')");
  });
  expect(await opened.column(log)).toEqual([
    "UPDATE_STATE shop/1 DEFAULT>ENABLED ->true",
    "UPDATE_STATE shop/1 ENABLED>KILLED true>true",
  ]);
});

test("a change that is rolled back leaves no trace", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query("BEGIN; SELECT feature_flags.kill('shop/1'); ROLLBACK");
  await opened.database.query(
    "BEGIN; SAVEPOINT s; SELECT feature_flags.kill('shop/1'); ROLLBACK TO s; SELECT feature_flags.kill('shop/2'); COMMIT",
  );
  expect(await opened.column(log)).toEqual(["UPDATE_STATE shop/2 DEFAULT>KILLED ->-"]);
});
