import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type FlagsDatabase, openFlagsDatabase } from "./flags-database.ts";

const stateAndValue = "SELECT concat_ws(' ', state, value) FROM feature_flags.flag_status WHERE flag_id = $1";

test("a switch is named by its id or by its alias", async () => {
  await using opened = await openFlagsDatabase();
  expect(await opened.one("SELECT feature_flags.kill('shop/1')")).toBe("KILLED");
  expect(await opened.one("SELECT feature_flags.kill('shop.string')")).toBe("KILLED");
  expect(
    await opened.column("SELECT flag_id FROM feature_flags.flags WHERE state = 'KILLED' ORDER BY 1"),
  ).toEqual(["shop/1", "shop/2"]);
});

test("an alias means the flag in use where an archived one had the same name", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(`
    UPDATE feature_flags.flags SET archived_at = now() WHERE flag_id = 'shop/9';
    INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, display_name, flag_type) VALUES
      ('shop/5000', 'shop', 5000, 'global', 'BOOL')`);
  expect(await opened.one("SELECT (feature_flags.find_flag('shop.global')).flag_id")).toBe("shop/5000");
});

test("an alias is found where the feature's id has dots", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(`
    INSERT INTO feature_flags.features (feature_id) VALUES ('acme.shop');
    INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, display_name, flag_type) VALUES
      ('acme.shop/1', 'acme.shop', 1, 'open', 'BOOL')`);
  expect(await opened.one("SELECT (feature_flags.find_flag('acme.shop.open')).flag_id")).toBe("acme.shop/1");
  expect(await opened.one("SELECT (feature_flags.find_flag('acme.shop/1')).flag_id")).toBe("acme.shop/1");
});

test("an unknown flag is an error that says what there is and what to run", async () => {
  await using opened = await openFlagsDatabase();
  const fails = (text: string, expected: object): Promise<void> =>
    expect(opened.one(text)).rejects.toMatchObject(expected);
  await fails("SELECT feature_flags.kill('shop/77')", {
    code: "PF001",
    message: 'Cannot kill "shop/77": no such flag',
    hint: expect.stringMatching(/There are: shop\/1 \(bool\).*run "pbflagd sync"/),
  });
  await fails("SELECT feature_flags.revive('int64')", {
    hint: expect.stringContaining("shop/3 (int64)"),
  });
  await fails("SELECT feature_flags.set_value('elsewhere/1', true)", {
    hint: expect.stringContaining("feature_flags.flag_status lists all flags"),
  });
  await fails("SELECT feature_flags.set_override(NULL, 'u', true)", { code: "PF001" });
  await fails("SELECT feature_flags.kill('')", { code: "PF001" });
  await opened.database.query("DELETE FROM feature_flags.flags");
  await fails("SELECT feature_flags.kill('shop/1')", {
    hint: 'This database knows no flags yet: run "pbflagd sync" with your descriptor set first.',
  });
});

describe("set_value", () => {
  let opened: FlagsDatabase;
  beforeAll(async () => {
    opened = await openFlagsDatabase();
  });
  afterAll(() => opened[Symbol.asyncDispose]());

  test.each([
    ["shop/1", "true", "true"],
    ["shop/1", "'on'", "true"],
    ["shop/1", "'0'", "false"],
    ["shop/2", "'weekly'", '"weekly"'],
    ["shop/2", "''", '""'],
    ["shop/2", "'{1,2}'", '"{1,2}"'],
    ["shop/2", "'daily'::varchar", '"daily"'],
    ["shop/2", "'\"quoted\"'::jsonb", '"quoted"'],
    ["shop/3", "5", "5"],
    ["shop/3", "5::smallint", "5"],
    ["shop/3", "5.00", "5"],
    ["shop/3", "' -5 '", "-5"],
    ["shop/3", "9223372036854775807", "9223372036854775807"],
    ["shop/3", "'-9223372036854775808'", "-9223372036854775808"],
    ["shop/4", "0.5", "0.5"],
    ["shop/4", "1", "1"],
    ["shop/4", "'1e-3'", "0.001"],
    ["shop/4", "'Infinity'::float8", '"Infinity"'],
    ["shop/5", "ARRAY[true,false]", "[true, false]"],
    ["shop/5", "'{t,f}'", "[true, false]"],
    ["shop/5", "'[true]'", "[true]"],
    ["shop/6", "ARRAY['a','b']", '["a", "b"]'],
    ["shop/6", "'[\"a, b\"]'", '["a, b"]'],
    ["shop/6", "'{\"a, b\",c}'", '["a, b", "c"]'],
    ["shop/6", "'{}'", "[]"],
    ["shop/7", "ARRAY[1,2]", "[1, 2]"],
    ["shop/7", "ARRAY[]::bigint[]", "[]"],
    ["shop/7", "'[1, 2]'", "[1, 2]"],
    ["shop/7", "'{1,2}'", "[1, 2]"],
    ["shop/8", "ARRAY[1,2.5]", "[1, 2.5]"],
    ["shop/8", "'[]'", "[]"],
  ])("('%s', %s) serves %s", async (flag, given, shown) => {
    expect(await opened.one(`SELECT feature_flags.set_value($1, ${given})`, [flag])).toBe("ENABLED");
    expect(await opened.one(stateAndValue, [flag])).toBe(`ENABLED ${shown}`);
    await opened.one("SELECT feature_flags.reset($1)", [flag]);
  });

  test.each([
    ["shop/1", "5", "expected true or false, got 5"],
    ["shop/1", "'weekly'", 'expected true or false, got "weekly"'],
    ["shop/1", "NULL", "expected a value, got NULL"],
    ["shop/1", "NULL::boolean", "expected a value, got NULL"],
    ["shop/1", "ARRAY[true]", "expected true or false, got [true]"],
    ["shop/2", "5", "expected a text, got 5"],
    ["shop/2", "'null'::jsonb", "expected a value, got NULL"],
    ["shop/3", "true", "got true"],
    ["shop/3", "0.5", "expected a whole number from -9223372036854775808 to 9223372036854775807, got 0.5"],
    ["shop/3", "9223372036854775808", "got 9223372036854775808"],
    ["shop/3", "'-9223372036854775809'", 'got "-9223372036854775809"'],
    ["shop/3", "'1_000'", 'got "1_000"'],
    ["shop/3", "'NaN'::float8", 'got "NaN"'],
    ["shop/3", "''", 'got ""'],
    ["shop/4", "'NaN'::float8", 'expected a number that a double can hold, got "NaN"'],
    ["shop/4", "'nan'", 'got "nan"'],
    ["shop/4", "'1e999'", 'got "1e999"'],
    ["shop/4", "'many'", 'got "many"'],
    ["shop/5", "'true'", `expected a list such as '[true, false]', got "true"`],
    ["shop/5", "ARRAY[1,0]", "expected true or false, got 1"],
    ["shop/6", "'a,b'", `expected a list such as '["a", "b"]', got "a,b"`],
    ["shop/6", "'{\"a\":1}'", `expected a list such as '["a", "b"]'`],
    ["shop/6", "'[\"a\", 1]'", "expected a text, got 1"],
    ["shop/6", "'[\"a\"'", `expected a list such as '["a", "b"]'`],
    ["shop/7", "5", "expected a list, got 5"],
    ["shop/7", "ARRAY[1,NULL]", "got null"],
    ["shop/7", "ARRAY[[1],[2]]", "got [1]"],
    ["shop/7", "'{\"a\": 1}'::jsonb", 'expected a list, got {"a": 1}'],
    ["shop/8", "ARRAY['a']", 'expected a number that a double can hold, got "a"'],
  ])("('%s', %s) is refused: %s", async (flag, given, why) => {
    const type = await opened.one("SELECT flag_type FROM feature_flags.flags WHERE flag_id = $1", [flag]);
    const refusal = {
      code: "PF002",
      message: expect.stringMatching(new RegExp(`^Cannot set "${flag}" \\(${String(type)}\\): `)),
    };
    await expect(opened.one(`SELECT feature_flags.set_value($1, ${given})`, [flag])).rejects.toMatchObject(
      refusal,
    );
    await expect(opened.one(`SELECT feature_flags.set_value($1, ${given})`, [flag])).rejects.toThrow(why);
    await expect(
      opened.one(`SELECT feature_flags.set_override($1, 'u', ${given})`, [flag]),
    ).rejects.toMatchObject(refusal);
    expect(await opened.one(stateAndValue, [flag])).toBe("DEFAULT");
  });
});

test("revive brings back the state and the value from before the kill", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  await opened.one("SELECT feature_flags.kill('shop/2')");
  await opened.one("SELECT feature_flags.kill('shop/2')");
  expect(await opened.one("SELECT feature_flags.revive('shop/2')")).toBe("ENABLED");
  expect(await opened.one(stateAndValue, ["shop/2"])).toBe('ENABLED "weekly"');

  await opened.one("SELECT feature_flags.kill('shop/1')");
  expect(await opened.one("SELECT feature_flags.revive('shop/1')")).toBe("DEFAULT");
  expect(await opened.one("SELECT feature_flags.revive('shop/1')")).toBe("DEFAULT");
  expect(opened.notices).toEqual(['"shop/1" is not killed; its state is DEFAULT']);
});

test.each([
  ["UPDATE feature_flags.flags SET state = 'KILLED' WHERE flag_id = 'shop/2'"],
  [
    "UPDATE feature_flags.flags SET state = 'KILLED', value = NULL, updated_at = now() WHERE flag_id = 'shop/2'",
  ],
  ["UPDATE feature_flags.flags SET state = ' killed ' WHERE feature_id = 'shop'"],
  ["UPDATE feature_flags.flags SET state = 'KILLED', value = '\\x1205646169' WHERE flag_id = 'shop/2'"],
])("a kill by plain SQL loses nothing: %s", async (kill) => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  await opened.database.query(kill);
  await opened.database.query(kill);
  expect(await opened.one("SELECT state FROM feature_flags.flags WHERE flag_id = 'shop/2'")).toBe("KILLED");
  expect(await opened.one("SELECT feature_flags.revive('shop/2')")).toBe("ENABLED");
  expect(await opened.one(stateAndValue, ["shop/2"])).toBe('ENABLED "weekly"');
});

test("a kill without a value keeps the stored one", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  await opened.database.query(
    "UPDATE feature_flags.flags SET state = 'KILLED', value = NULL WHERE flag_id = 'shop/2'",
  );
  expect(await opened.one(stateAndValue, ["shop/2"])).toBe('KILLED "weekly"');
});

test("a flag that was killed before anybody kept its state revives to DEFAULT, value kept", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(
    "INSERT INTO feature_flags.flags (flag_id, feature_id, field_number, flag_type, state, value) VALUES ('shop/20', 'shop', 20, 'BOOL', 'KILLED', '\\x0801')",
  );
  expect(await opened.one("SELECT feature_flags.revive('shop/20')")).toBe("DEFAULT");
  expect(await opened.one(stateAndValue, ["shop/20"])).toBe("DEFAULT true");
});

test("a value set on a killed flag waits for the revive, and says so", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.kill('shop/2')");
  expect(await opened.one("SELECT feature_flags.set_value('shop/2', 'monthly')")).toBe("KILLED");
  expect(opened.notices).toEqual(['"shop/2" is killed and stays so: the value is served once it is revived']);
  expect(
    await opened.one(
      "SELECT concat_ws(' ', revives_to, revives_to_value) FROM feature_flags.flag_status WHERE flag_id = 'shop/2'",
    ),
  ).toBe('ENABLED "monthly"');
  expect(await opened.one("SELECT feature_flags.revive('shop/2')")).toBe("ENABLED");
  expect(await opened.one(stateAndValue, ["shop/2"])).toBe('ENABLED "monthly"');
});

test("setting the value that a killed flag happens to hold still makes it ENABLED on revive", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(
    "UPDATE feature_flags.flags SET value = '\\x12077765656b6c79' WHERE flag_id = 'shop/2'",
  );
  await opened.one("SELECT feature_flags.kill('shop/2')");
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  expect(await opened.one("SELECT feature_flags.revive('shop/2')")).toBe("ENABLED");
});

test("reset forgets the value; on a killed flag, what revive would restore", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  expect(await opened.one("SELECT feature_flags.reset('shop/2')")).toBe("DEFAULT");
  expect(await opened.one(stateAndValue, ["shop/2"])).toBe("DEFAULT");

  await opened.one("SELECT feature_flags.set_value('shop/2', 'weekly')");
  await opened.one("SELECT feature_flags.kill('shop/2')");
  expect(await opened.one("SELECT feature_flags.reset('shop/2')")).toBe("KILLED");
  expect(await opened.one("SELECT feature_flags.revive('shop/2')")).toBe("DEFAULT");
  expect(await opened.one(stateAndValue, ["shop/2"])).toBe("DEFAULT");
});

test("a state that is none is refused by name", async () => {
  await using opened = await openFlagsDatabase();
  await expect(
    opened.database.query("UPDATE feature_flags.flags SET state = 'OFF' WHERE flag_id = 'shop/1'"),
  ).rejects.toThrow('Cannot set the state of "shop/1": expected ENABLED, DEFAULT or KILLED, got "OFF"');
});

test("overrides are set, replaced and removed", async () => {
  await using opened = await openFlagsDatabase();
  const shown = "SELECT concat_ws(' ', flag_id, entity_id, state, value) FROM feature_flags.override_status";
  expect(await opened.one("SELECT feature_flags.set_override('shop.bool', 'user-42', true)")).toBe("ENABLED");
  expect(await opened.one("SELECT feature_flags.set_override('shop/1', 'user-42', 'off')")).toBe("ENABLED");
  expect(await opened.one("SELECT feature_flags.set_override('shop/7', 'user-42', ARRAY[1,2])")).toBe(
    "ENABLED",
  );
  expect(await opened.column(shown)).toEqual([
    "shop/1 user-42 ENABLED false",
    "shop/7 user-42 ENABLED [1, 2]",
  ]);
  expect(await opened.one("SELECT overrides FROM feature_flags.flag_status WHERE flag_id = 'shop/1'")).toBe(
    "1",
  );

  expect(await opened.one("SELECT feature_flags.remove_override('shop/1', 'user-42')")).toBe(true);
  expect(await opened.one("SELECT feature_flags.remove_override('shop/1', 'user-42')")).toBe(false);
  expect(opened.notices).toEqual(['"shop/1" has no override for "user-42"']);
});

test("a killed override keeps its value", async () => {
  await using opened = await openFlagsDatabase();
  await opened.one("SELECT feature_flags.set_override('shop/2', 'u', 'weekly')");
  await opened.database.query("UPDATE feature_flags.flag_overrides SET state = 'KILLED', value = NULL");
  expect(await opened.one("SELECT concat_ws(' ', state, value) FROM feature_flags.override_status")).toBe(
    'KILLED "weekly"',
  );
});

test("an override of a flag that does not vary, or for an entity that cannot be, is refused", async () => {
  await using opened = await openFlagsDatabase();
  await expect(
    opened.one("SELECT feature_flags.set_override('shop/9', 'user-42', true)"),
  ).rejects.toMatchObject({
    code: "PF003",
    message: 'Cannot override "shop/9" for "user-42": the flag does not vary, its layer is GLOBAL',
  });
  for (const entity of ["", "x".repeat(256), "a\nb", null]) {
    await expect(
      opened.one("SELECT feature_flags.set_override('shop/1', $1, true)", [entity]),
    ).rejects.toMatchObject({
      code: "PF004",
      message: expect.stringContaining(
        'Cannot override "shop/1": expected an entity id of 1 to 255 printable characters',
      ),
    });
  }
});

test("what cannot be served is shown as a problem", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(`
    UPDATE feature_flags.flags SET state = 'ENABLED', value = '\\xff' WHERE flag_id = 'shop/1';
    UPDATE feature_flags.flags SET state = 'ENABLED', value = '\\x0801' WHERE flag_id = 'shop/2';
    UPDATE feature_flags.flags SET state = 'ENABLED', value = '\\x1801' WHERE flag_id = 'shop/3'`);
  expect(
    await opened.column(
      "SELECT problem FROM feature_flags.flag_status WHERE flag_id IN ('shop/1', 'shop/2', 'shop/3')",
    ),
  ).toEqual(["the stored value cannot be read", "the stored value is BOOL", null]);
});
