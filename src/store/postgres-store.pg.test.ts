import { create, toBinary } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../../test/support/postgres.ts";
import { KILLED_OVERRIDES_MAX } from "../evaluation/kill-set.ts";
import { type FlagValue, FlagValueSchema } from "../gen/pbflags/v1/types_pb.ts";
import { systemClock } from "../system/clock.ts";
import { connectDatabase, type Database } from "./database.ts";
import { StoreError } from "./flag-store.ts";
import { migrate } from "./migrate.ts";
import type { FlagsRow } from "./postgres-rows.ts";
import { FLAGS_A_ROW_MAX, readFlagStates } from "./postgres-statements.ts";
import { openPostgresStore, type PostgresStoreOptions } from "./postgres-store.ts";

/** Generous: these tests are about answers, not about time. */
function open(url: string, options: Partial<PostgresStoreOptions> = {}) {
  return openPostgresStore({
    url,
    poolSize: 4,
    preparedStatements: "auto",
    fetchTimeoutMs: 10_000,
    clock: systemClock,
    ...options,
  });
}

function value(value: FlagValue["value"]): FlagValue {
  return create(FlagValueSchema, { value });
}

const yes = value({ case: "boolValue", value: true });

function bytes(value: FlagValue): Buffer {
  return Buffer.from(toBinary(FlagValueSchema, value));
}

/** The tables as pbflags makes them, without our additions. */
const PLAIN_TABLES = `
  CREATE SCHEMA feature_flags;
  CREATE TABLE feature_flags.features (
    feature_id varchar(255) PRIMARY KEY, display_name varchar(255) NOT NULL DEFAULT '', description text NOT NULL DEFAULT '',
    owner varchar(255) NOT NULL DEFAULT '', created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE feature_flags.flags (
    flag_id varchar(512) PRIMARY KEY, feature_id varchar(255) NOT NULL REFERENCES feature_flags.features,
    field_number int NOT NULL, display_name varchar(255) NOT NULL DEFAULT '', flag_type varchar(20) NOT NULL,
    layer varchar(50) NOT NULL DEFAULT 'GLOBAL', description text NOT NULL DEFAULT '', default_value bytea,
    state varchar(20) NOT NULL DEFAULT 'DEFAULT', value bytea, archived_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(), UNIQUE (feature_id, field_number));
  CREATE INDEX idx_flags_killed ON feature_flags.flags (flag_id) WHERE state = 'KILLED';
  CREATE TABLE feature_flags.flag_overrides (
    flag_id varchar(512) NOT NULL REFERENCES feature_flags.flags ON DELETE CASCADE, entity_id varchar(255) NOT NULL,
    state varchar(20) NOT NULL, value bytea, created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (flag_id, entity_id));
  CREATE INDEX idx_overrides_entity ON feature_flags.flag_overrides (entity_id);
  CREATE INDEX idx_overrides_killed ON feature_flags.flag_overrides (flag_id, entity_id) WHERE state = 'KILLED';
  CREATE TABLE feature_flags.flag_audit_log (
    id bigserial PRIMARY KEY, flag_id varchar(512) NOT NULL, action varchar(50) NOT NULL, old_value bytea, new_value bytea,
    actor varchar(255) NOT NULL, created_at timestamptz NOT NULL DEFAULT now());
  CREATE INDEX idx_audit_flag ON feature_flags.flag_audit_log (flag_id, created_at DESC);`;

let target: TestDatabase;
let database: Database;

async function prepare(migrated: boolean): Promise<void> {
  target = await createTestDatabase({ migrated });
  database = await connectDatabase({ url: target.url });
}

afterEach(async () => {
  await database[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

async function insertFlag(id: string, columns: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const [featureId, number] = id.split("/");
  await database.query("INSERT INTO feature_flags.features (feature_id) VALUES ($1) ON CONFLICT DO NOTHING", [
    featureId,
  ]);
  const row = { flag_id: id, feature_id: featureId, field_number: number, flag_type: "BOOL", ...columns };
  await insert("flags", row);
}

async function insert(table: string, row: Readonly<Record<string, unknown>>): Promise<void> {
  const names = Object.keys(row);
  const places = names.map((_, i) => `$${i + 1}`);
  await database.query(
    `INSERT INTO feature_flags.${table} (${names.join()}) VALUES (${places.join()})`,
    Object.values(row),
  );
}

describe("a migrated database", () => {
  beforeEach(() => prepare(true));

  test("gives the states of the flags that are asked for, and their version", async () => {
    await insertFlag("a/1", { state: "ENABLED", value: bytes(yes) });
    await insertFlag("a/2", { flag_type: "STRING_LIST" });
    await insertFlag("a/3", { state: "KILLED", archived_at: new Date() });
    await insertFlag("a/4");
    await using store = open(target.url);
    const { value: states, version, ageMs } = await store.flagStates(["a/1", "a/2", "a/3", "a/9"]);
    expect([...states.keys()].toSorted()).toEqual(["a/1", "a/2", "a/3"]);
    expect(states.get("a/1")).toEqual({
      flagId: "a/1",
      mode: "enabled",
      value: yes,
      archived: false,
      type: "BOOL",
    });
    expect(states.get("a/2")).toMatchObject({
      mode: "default",
      value: undefined,
      archived: false,
      type: "STRING_LIST",
    });
    expect(states.get("a/3")).toMatchObject({ mode: "killed", archived: true });
    expect(version?.revision).toBe(4);
    expect(ageMs).toBe(0);
  });

  test("answers with the version alone where nothing is found or asked for", async () => {
    await using store = open(target.url);
    for (const ids of [[], ["no/1"], ["with\0zero"], ["\ud800"]]) {
      const { value: states, version } = await store.flagStates(ids);
      expect(states.size).toBe(0);
      expect(version).toBeDefined();
    }
    expect((await store.overrides(["nobody", "\0"])).value.size).toBe(0);
  });

  test("finds flags and entities whatever they are called", async () => {
    const names = ['say "a"', "back\\slash", "{x,y}", "NULL", " spaced ", "'", "ümläut\u{1F6A9}", "$&"];
    for (const name of names) {
      await insertFlag(`${name}/1`, { state: "KILLED" });
      await insert("flag_overrides", { flag_id: `${name}/1`, entity_id: name, state: "KILLED" });
    }
    await using store = open(target.url);
    const { value: states } = await store.flagStates([
      ...names.map((name) => `${name}/1`),
      "\0/1",
      "",
      "none/1",
    ]);
    expect([...states.keys()].toSorted()).toEqual(names.map((name) => `${name}/1`).toSorted());
    const { value: overrides } = await store.overrides([...names, "\0", "", "nobody"]);
    expect([...overrides.keys()].toSorted()).toEqual(names.toSorted());
    expect((await store.flagStates([])).value.size).toBe(0);
  });

  test("gives many flags the value that each has, whatever its size, and holds up nobody with a long row", async () => {
    const sizes = [1, 1_020, 1_021, 1_022, 100_000];
    const count = 2 * FLAGS_A_ROW_MAX + 1;
    const valueOf = (i: number) =>
      value({ case: "stringValue", value: `${i}`.padEnd(sizes[i % sizes.length] ?? 0) });
    for (let i = 0; i < count; i++)
      await insertFlag(`a/${i}`, { state: "ENABLED", flag_type: "STRING", value: bytes(valueOf(i)) });
    const ids = Array.from({ length: count }, (_, i) => `a/${i}`);
    await using store = open(target.url);
    const { value: states } = await store.flagStates(ids);
    expect(states.size).toBe(count);
    for (const [i, id] of ids.entries()) expect(states.get(id)?.value, id).toEqual(valueOf(i));

    const { rows } = await database.query<FlagsRow>(readFlagStates.versioned, [ids]);
    expect(rows.reduce((sum, { flags }) => sum + flags.length, 0)).toBe(count);
    const isLong = ([, hex]: FlagsRow["flags"][number]) => hex !== null && hex.length > 2 * 1_024;
    for (const { flags } of rows)
      expect(flags.length).toBeLessThanOrEqual(flags.some(isLong) ? 1 : FLAGS_A_ROW_MAX);
  });

  test("gives the overrides of each entity", async () => {
    await insertFlag("a/1");
    await insertFlag("a/2");
    await insert("flag_overrides", { flag_id: "a/1", entity_id: "ann", state: "ENABLED", value: bytes(yes) });
    await insert("flag_overrides", { flag_id: "a/2", entity_id: "ann", state: "KILLED" });
    await insert("flag_overrides", { flag_id: "a/1", entity_id: "bob", state: "DEFAULT" });
    await insert("flag_overrides", { flag_id: "a/1", entity_id: "eve", state: "DEFAULT" });
    await using store = open(target.url);
    const { value: overrides, version } = await store.overrides(["ann", "bob", "zoe"]);
    expect([...overrides.keys()].toSorted()).toEqual(["ann", "bob"]);
    expect(overrides.get("ann")?.get("a/1")).toEqual({
      flagId: "a/1",
      entityId: "ann",
      mode: "enabled",
      value: yes,
    });
    expect(overrides.get("ann")?.get("a/2")).toMatchObject({ mode: "killed", value: undefined });
    expect(overrides.get("bob")?.size).toBe(1);
    expect(version).toBeDefined();
  });

  test("gives the kill set, and what changed since a version", async () => {
    for (const id of ["a/1", "a/2", "a/3"]) await insertFlag(id);
    await using store = open(target.url);
    const first = await store.kills(undefined);
    const committedAgoMs: unknown = expect.any(Number);
    expect(first.value).toEqual({
      flagIds: new Set(),
      overrides: [],
      changes: { kind: "unknown" },
      committedAgoMs,
    });
    const same = await store.kills(first.version);
    expect(same.version).toEqual(first.version);
    expect(same.value.changes).toEqual({
      kind: "listed",
      flagIds: [],
      entityIds: [],
      committedAgo: { flagsMs: [], entitiesMs: [] },
    });

    await database.query("SELECT feature_flags.kill('a/2')");
    await insert("flag_overrides", { flag_id: "a/1", entity_id: "ann", state: "KILLED" });
    const later = await store.kills(first.version);
    expect(later.value).toEqual({
      flagIds: new Set(["a/2"]),
      overrides: [{ flagId: "a/1", entityId: "ann" }],
      changes: {
        kind: "listed",
        flagIds: ["a/2"],
        entityIds: ["ann"],
        committedAgo: { flagsMs: [committedAgoMs], entitiesMs: [committedAgoMs] },
      },
      committedAgoMs,
    });
    expect(later.version).toEqual({
      epoch: first.version?.epoch,
      revision: (first.version?.revision ?? 0) + 2,
    });

    const elsewhere = await store.kills({ epoch: "another", revision: first.version?.revision ?? 0 });
    expect(elsewhere.value.overrides).toEqual([{ flagId: "a/1", entityId: "ann" }]);
    expect(elsewhere.value.changes).toEqual({ kind: "unknown" });
    const ahead = await store.kills({ epoch: first.version?.epoch ?? "", revision: 9_999 });
    expect(ahead.value.changes).toEqual({ kind: "unknown" });
  });

  test("tells of killed overrides only where an override has changed, and of so many at most", async () => {
    for (const id of ["a/1", "a/2"]) await insertFlag(id);
    await using store = open(target.url);
    await insert("flag_overrides", { flag_id: "a/1", entity_id: "ann", state: "KILLED" });
    const { version } = await store.kills(undefined);
    await database.query("SELECT feature_flags.kill('a/2')");
    const { value } = await store.kills(version);
    expect(value.flagIds).toEqual(new Set(["a/2"]));
    expect(value.overrides, "as they were at that version").toBeUndefined();

    await database.query(
      `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state)
       SELECT 'a/2', 'user ' || lpad(i::text, 6, '0'), 'KILLED' FROM generate_series(1, ${KILLED_OVERRIDES_MAX}) AS i`,
    );
    const { overrides = [] } = (await store.kills(version)).value;
    expect(overrides).toHaveLength(KILLED_OVERRIDES_MAX);
    expect(overrides[0]).toEqual({ flagId: "a/1", entityId: "ann" });
    expect(overrides.at(-1)?.entityId).toBe(`user ${String(KILLED_OVERRIDES_MAX - 1).padStart(6, "0")}`);
  });

  test("tells how long ago the newest commit was, by the database's clock, and asks nothing more for it", async () => {
    await insertFlag("a/1");
    await using store = open(target.url);
    const startedAt = performance.now();
    await database.query("SELECT feature_flags.kill('a/1')");
    const { committedAgoMs } = (await store.kills(undefined)).value;
    expect(committedAgoMs).toBeGreaterThan(0);
    expect(committedAgoMs).toBeLessThan(performance.now() - startedAt);

    for (const [at, expected] of [
      ["- interval '90 s'", 90_000],
      ["+ interval '1 h'", 0],
    ] as const) {
      await database.query(`UPDATE feature_flags.changes SET at = clock_timestamp() ${at}`);
      const { value } = await store.kills(undefined);
      expect(Math.floor((value.committedAgoMs ?? -1) / 10_000) * 10_000).toBe(expected);
    }
    // The newest by revision, of the same snapshot: what is pending is nobody's business.
    await using other = await connectDatabase({ url: target.url });
    await other.query("UPDATE feature_flags.changes SET at = clock_timestamp() - interval '1 h'");
    await other.query("BEGIN; SELECT feature_flags.revive('a/1')");
    expect((await store.kills(undefined)).value.committedAgoMs).toBeGreaterThan(3_600_000 - 1);
    await other.query("COMMIT");
    expect((await store.kills(undefined)).value.committedAgoMs).toBeLessThan(600_000);
  });

  test("tells of each that changed how long ago its last commit was, whatever its name is", async () => {
    const entity = `<hex>&amp;"'é\\`;
    for (const id of ["a/1", "a/2"]) await insertFlag(id);
    await using store = open(target.url);
    const { version } = await store.kills(undefined);
    await database.query("SELECT feature_flags.kill('a/1')");
    await database.query("SELECT feature_flags.kill('a/2')");
    await insert("flag_overrides", { flag_id: "a/1", entity_id: entity, state: "KILLED" });
    await database.query("SELECT feature_flags.revive('a/1')");
    const revision = version?.revision ?? 0;
    for (const [i, hours] of [8, 4, 2, 1].entries()) {
      const at = `clock_timestamp() - interval '${hours} h'`;
      await database.query(`UPDATE feature_flags.changes SET at = ${at} WHERE revision = $1`, [
        revision + i + 1,
      ]);
    }
    const { changes } = (await store.kills(version)).value;
    if (changes.kind === "unknown") throw new Error("expected a list");
    const { flagIds, entityIds, committedAgo } = changes;
    const hours = (ages: readonly number[] | undefined) => ages?.map((ms) => Math.floor(ms / 3_600_000));
    const flagHours = hours(committedAgo?.flagsMs) ?? [];
    expect(new Map(flagIds.map((id, i) => [id, flagHours[i]]))).toEqual(
      new Map([
        ["a/1", 1],
        ["a/2", 4],
      ]),
    );
    expect(entityIds).toEqual([entity]);
    expect(hours(committedAgo?.entitiesMs)).toEqual([2]);
  });

  test("never shows a version that is newer than the rows beside it", async () => {
    await insertFlag("a/1", { flag_type: "INT64", state: "ENABLED" });
    await using store = open(target.url);
    const start = (await store.flagStates(["a/1"])).version?.revision ?? 0;
    const writing = new AbortController();
    const writer = (async () => {
      for (let n = 1; n <= 200; n++) {
        const count = value({ case: "int64Value", value: BigInt(n) });
        await database.query("UPDATE feature_flags.flags SET value = $1", [bytes(count)]);
      }
      writing.abort();
    })();
    let reads = 0;
    while (!writing.signal.aborted) {
      const { value: states, version } = await store.flagStates(["a/1"]);
      const found = states.get("a/1")?.value?.value;
      expect(found?.case === "int64Value" ? Number(found.value) : 0).toBe((version?.revision ?? 0) - start);
      reads += 1;
    }
    await writer;
    expect(reads).toBeGreaterThan(10);
  });

  test("tells of rows that make no sense without spoiling the others", async () => {
    await database.query("ALTER TABLE feature_flags.flags DISABLE TRIGGER USER, DROP CONSTRAINT valid_state");
    await insertFlag("a/1", { state: "ENABLED", value: Buffer.from("ff00ff", "hex") });
    await insertFlag("a/2", { state: "ENABLED", value: Buffer.from("7a00", "hex") });
    await insertFlag("a/3", { state: "ENABLED", value: Buffer.alloc(0) });
    await insertFlag("a/4", { state: "PAUSED", value: bytes(yes) });
    await insertFlag("a/5", { state: "ENABLED", value: bytes(yes), flag_type: "COLOUR" });
    await insertFlag("a/6", { state: "ENABLED", value: bytes(yes) });
    await using store = open(target.url);
    const { value: states } = await store.flagStates([1, 2, 3, 4, 5, 6].map((n) => `a/${n}`));
    expect(states.get("a/1")).toMatchObject({
      mode: "enabled",
      value: undefined,
      invalid: expect.stringMatching(/3 bytes that are no FlagValue/),
    });
    expect(states.get("a/2")).toMatchObject({ value: undefined, invalid: "2 bytes that hold no value" });
    expect(states.get("a/3")).toEqual({
      flagId: "a/3",
      mode: "enabled",
      value: undefined,
      archived: false,
      type: "BOOL",
    });
    expect(states.get("a/4")).toMatchObject({ mode: "default", invalid: 'unknown state "PAUSED"' });
    expect(states.get("a/5")).toMatchObject({ type: undefined, value: yes });
    expect(states.get("a/6")).toEqual({
      flagId: "a/6",
      mode: "enabled",
      value: yes,
      archived: false,
      type: "BOOL",
    });
  });

  test("carries values of every length side by side, up to many megabytes", async () => {
    const lengths = [0, 1, 1_000, 2_000, 8 * 1024 * 1024];
    const values = lengths.map((n) => value({ case: "stringValue", value: "x".repeat(n) }));
    for (const [i, each] of values.entries())
      await insertFlag(`a/${i + 1}`, { flag_type: "STRING", state: "ENABLED", value: bytes(each) });
    const ids = values.map((_, i) => `a/${i + 1}`);
    await using store = open(target.url);
    const { value: states } = await store.flagStates(ids);
    expect(ids.map((id) => states.get(id)?.value)).toEqual(values);
  });

  test("a server that knows no XML tells no ages, and all else", async () => {
    await insertFlag("a/1", { state: "KILLED" });
    // As it answers where it is built without libxml: with an error of its own part for XML.
    await database.query(`
      CREATE OR REPLACE FUNCTION pg_catalog.query_to_xml(query text, nulls boolean, tableforest boolean, targetns text)
      RETURNS xml LANGUAGE sql AS $$ SELECT xmlparse(CONTENT '<' || query) $$`);
    await using store = open(target.url);
    const { version } = await store.kills(undefined);
    await database.query("SELECT feature_flags.revive('a/1')");
    const { value } = await store.kills(version);
    expect(value).toMatchObject({ flagIds: new Set(), committedAgoMs: undefined });
    expect(value.changes).toEqual({ kind: "listed", flagIds: ["a/1"], entityIds: [] });
  });

  test("needs no right but to read", async () => {
    await insertFlag("a/1", { state: "KILLED" });
    const role = `reader_${new URL(target.url).pathname.slice(1)}`;
    await database.query(`
      CREATE ROLE ${role} LOGIN PASSWORD 'secret';
      GRANT USAGE ON SCHEMA feature_flags TO ${role};
      GRANT SELECT ON feature_flags.flags, feature_flags.flag_overrides TO ${role};
      ALTER ROLE ${role} SET default_transaction_read_only = on`);
    try {
      await using store = open(
        Object.assign(new URL(target.url), { username: role, password: "secret" }).href,
      );
      expect((await store.flagStates(["a/1"])).value.get("a/1")?.mode).toBe("killed");
      const { version } = await store.kills(undefined);
      expect((await store.kills(version)).value).toMatchObject({
        flagIds: new Set(["a/1"]),
        changes: { kind: "listed" },
        committedAgoMs: undefined,
      });
      await database.query(`GRANT SELECT ON feature_flags.changes TO ${role}`);
      expect((await store.kills(version)).value.committedAgoMs).toBeGreaterThan(0);
      await store.ping();
    } finally {
      await database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  test("prepares its statements, unless told not to", async () => {
    const prepared = "SELECT name FROM pg_prepared_statements";
    for (const preparedStatements of ["auto", "off"] as const) {
      await using store = open(target.url, { poolSize: 1, preparedStatements });
      await store.kills(undefined);
      await store.flagStates([]);
      // Seen from within: a flag's id that only this session's own statements can give.
      await database.query("DROP TABLE IF EXISTS public.seen; CREATE TABLE public.seen (name text)");
      await database.query(`
        CREATE OR REPLACE FUNCTION feature_flags.changes_since(since bigint, OUT known boolean, OUT flag_ids text[], OUT entity_ids text[])
        LANGUAGE sql STABLE AS $$ SELECT true, ARRAY(${prepared}), '{}'::text[] $$`);
      const { version } = await store.kills(undefined);
      const { changes } = (await store.kills(version)).value;
      const names = changes.kind === "listed" ? changes.flagIds.toSorted() : [];
      expect(names).toEqual(
        preparedStatements === "auto" ? ["pbflagd_flag_states_versioned", "pbflagd_kills_versioned"] : [],
      );
    }
  });

  test("holds no more sessions than its pool has room for, under its own name", async () => {
    await insertFlag("a/1");
    await using store = open(target.url, { poolSize: 2 });
    await Promise.all(Array.from({ length: 50 }, () => store.flagStates(["a/1"])));
    expect(await countSessions()).toBe(2);
  });

  test("has two sessions for its first two questions when it was told to prepare", async () => {
    await insertFlag("a/1");
    await using store = open(target.url);
    store.prepare();
    const [{ value: flags }, { value: kills }] = await Promise.all([
      store.flagStates(["a/1"]),
      store.kills(undefined),
    ]);
    expect([flags.size, kills.flagIds.size]).toEqual([1, 0]);
    // On a busy machine the first may have served both before the second is open.
    await eventually(async () => (await countSessions()) === 2);
  });

  async function countSessions(): Promise<number | undefined> {
    const { rows } = await database.query<{ n: number }>(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'pbflagd' AND datname = current_database() AND pid <> pg_backend_pid()",
    );
    return rows[0]?.n;
  }
});

describe("a database that pbflags made", () => {
  beforeEach(async () => {
    await prepare(false);
    await database.query(PLAIN_TABLES);
  });

  test("is read without versions, and with them as soon as it is migrated", async () => {
    await insertFlag("a/1", { state: "KILLED" });
    await insert("flag_overrides", { flag_id: "a/1", entity_id: "ann", state: "KILLED" });
    await using store = open(target.url);
    expect(await store.flagStates(["a/1"])).toMatchObject({ version: undefined });
    const kills = await store.kills(undefined);
    expect(kills).toEqual({
      value: {
        flagIds: new Set(["a/1"]),
        overrides: [{ flagId: "a/1", entityId: "ann" }],
        changes: { kind: "unknown" },
        committedAgoMs: undefined,
      },
      version: undefined,
      ageMs: 0,
    });
    expect((await store.kills({ epoch: "e", revision: 3 })).value.changes).toEqual({ kind: "unknown" });

    await migrate(database);
    expect((await store.kills(undefined)).version).toBeDefined();
    expect((await store.flagStates(["a/1"])).version).toBeDefined();
  });
});

test("a database without our schema is refused in words that help, and taken up once it is migrated", async () => {
  await prepare(false);
  await using store = open(target.url);
  const refused = store.kills(undefined);
  await expect(refused).rejects.toThrow(StoreError);
  await expect(refused).rejects.toThrow(
    "Cannot read flags: schema feature_flags does not exist, run `pbflagd migrate`",
  );
  await store.ping();
  await migrate(database);
  expect((await store.kills(undefined)).version).toBeDefined();
});

test("a schema that is taken away and put back is noticed", async () => {
  await prepare(true);
  await using store = open(target.url);
  const before = await store.kills(undefined);
  await database.query("DROP SCHEMA feature_flags CASCADE");
  await expect(store.flagStates(["a/1"])).rejects.toThrow(/run `pbflagd migrate`/);
  await database.query(PLAIN_TABLES);
  expect((await store.flagStates(["a/1"])).version).toBeUndefined();
  await database.query("DROP SCHEMA feature_flags CASCADE");
  await migrate(database);
  const after = await store.kills(before.version);
  expect(after.version?.epoch).not.toBe(before.version?.epoch);
  expect(after.value.changes).toEqual({ kind: "unknown" });
});
