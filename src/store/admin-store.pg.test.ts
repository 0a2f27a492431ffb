import { expect, test } from "vitest";
import { openFlagsDatabase } from "../../test/sql/flags-database.ts";
import { createTestDatabase } from "../../test/support/postgres.ts";
import {
  GlobalFlagError,
  InvalidEntityError,
  InvalidValueError,
  SchemaError,
  UnknownFlagError,
} from "./admin-errors.ts";
import { createAdminStore } from "./admin-store.ts";
import { connectDatabase } from "./database.ts";

const actor = { actor: "alice" };

test("writes return the new state and a version that has it", async () => {
  await using opened = await openFlagsDatabase();
  const store = createAdminStore(opened.database, actor);
  const version = async (): Promise<unknown> => opened.one("SELECT feature_flags.version()");
  expect(await store.setValue("shop.string", "weekly")).toEqual({
    state: "ENABLED",
    version: await version(),
  });
  expect(await store.kill("shop/2")).toEqual({ state: "KILLED", version: await version() });
  expect(await store.revive("shop/2")).toEqual({ state: "ENABLED", version: await version() });
  expect(await store.reset("shop/2")).toEqual({ state: "DEFAULT", version: await version() });
  expect(await store.setOverride("shop/2", "u", "never")).toEqual({
    state: "ENABLED",
    version: await version(),
  });
  expect(await store.removeOverride("shop/2", "u")).toEqual({ removed: true, version: await version() });
  expect(await store.removeOverride("shop/2", "u")).toEqual({ removed: false, version: await version() });
  expect(new Set(await opened.column("SELECT actor FROM feature_flags.flag_audit_log"))).toEqual(
    new Set(["alice"]),
  );
});

test("the actor ends with the transaction", async () => {
  await using opened = await openFlagsDatabase();
  await createAdminStore(opened.database, actor).kill("shop/1");
  expect(await opened.one("SELECT coalesce(current_setting('pbflags.actor', true), '')")).toBe("");
});

test("flags are read with what is stored, what is the default, and what revive brings back", async () => {
  await using opened = await openFlagsDatabase();
  await opened.database.query(
    "UPDATE feature_flags.flags SET default_value = '\\x18ffffffffffffffff7f' WHERE flag_id = 'shop/3'",
  );
  const store = createAdminStore(opened.database, actor);
  await store.setValue("shop/3", "9007199254740993");
  await store.kill("shop/3");
  await store.setOverride("shop/3", "u", "1");
  expect(await store.flag("shop.int64")).toEqual({
    flagId: "shop/3",
    alias: "shop.int64",
    flagType: "INT64",
    layer: "USER",
    state: "KILLED",
    value: "9007199254740993",
    defaultValue: "9223372036854775807",
    revivesTo: { state: "ENABLED", value: "9007199254740993" },
    archived: false,
    overrideCount: 1,
    problem: undefined,
    description: "",
    updatedAt: expect.any(Date),
  });
  const flags = await store.flags();
  expect(flags.map(({ flagId }) => flagId)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => `shop/${n}`));
  expect(flags[0]).toMatchObject({
    state: "DEFAULT",
    value: undefined,
    defaultValue: undefined,
    revivesTo: undefined,
  });
});

test("overrides are listed by flag, by entity, or all", async () => {
  await using opened = await openFlagsDatabase();
  const store = createAdminStore(opened.database, actor);
  await store.setOverride("shop/1", "a", "true");
  await store.setOverride("shop/1", "b", "false");
  await store.setOverride("shop/2", "a", "weekly");
  const shown = async (filter?: { flag?: string; entity?: string }): Promise<readonly string[]> =>
    (await store.overrides(filter)).map(({ flagId, entityId, value }) => `${flagId} ${entityId} ${value}`);
  expect(await shown()).toEqual(["shop/1 a true", "shop/1 b false", 'shop/2 a "weekly"']);
  expect(await shown({ flag: "shop.bool" })).toEqual(["shop/1 a true", "shop/1 b false"]);
  expect(await shown({ entity: "a" })).toEqual(["shop/1 a true", 'shop/2 a "weekly"']);
  expect(await shown({ flag: "shop/2", entity: "b" })).toEqual([]);
  await expect(shown({ flag: "shop/77" })).rejects.toThrow(UnknownFlagError);
});

test("errors say what is wrong in the operator's words", async () => {
  await using opened = await openFlagsDatabase();
  const store = createAdminStore(opened.database, actor);
  await expect(store.kill("shop/77")).rejects.toThrow(UnknownFlagError);
  await expect(store.flag("shop/77")).rejects.toThrow(
    /^Cannot show "shop\/77": no such flag\. There are: shop\/1 \(bool\)/,
  );
  await expect(store.setValue("shop/1", "weekly")).rejects.toThrow(InvalidValueError);
  await expect(store.setValue("shop/1", "weekly")).rejects.toThrow(
    'Cannot set "shop/1" (BOOL): expected true or false, got "weekly"',
  );
  await expect(store.setOverride("shop/1", "", "true")).rejects.toThrow(InvalidEntityError);
  await expect(store.setOverride("shop/9", "u", "true")).rejects.toThrow(GlobalFlagError);
  expect(await opened.column("SELECT action FROM feature_flags.flag_audit_log")).toEqual([]);
});

test("a database without our functions is an error that says what to run", async () => {
  await using created = await createTestDatabase({ migrated: false });
  await using database = await connectDatabase({ url: created.url });
  const store = createAdminStore(database, actor);
  await expect(store.kill("shop/1")).rejects.toThrow(SchemaError);
  await expect(store.flags()).rejects.toThrow('run "pbflagd migrate" first');
});
