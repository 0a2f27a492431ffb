import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { connectDatabase } from "../../src/store/database.ts";
import { describeFlags, type FlagSpec } from "../support/descriptors.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { type CliResult, runCli } from "./run-cli.ts";

const flags: readonly FlagSpec[] = [
  {
    number: 1,
    name: "email_enabled",
    type: "BOOL",
    layer: "user",
    default: true,
    description: "Send e-mail at all.",
  },
  { number: 2, name: "digest_frequency", type: "STRING", layer: "user", default: "daily" },
  { number: 3, name: "retries", type: "INT64", default: 3n },
  { number: 4, name: "ratios", type: "DOUBLE_LIST" },
];

let folder = "";
let descriptors = "";
let database: TestDatabase;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-cli-"));
  descriptors = join(folder, "flags.pb");
});
afterAll(() => rm(folder, { recursive: true }));

beforeEach(async () => {
  database = await createTestDatabase();
  await define(flags);
  await cli("sync", "--descriptors", descriptors);
});
afterEach(() => database[Symbol.asyncDispose]());

async function define(specs: readonly FlagSpec[]): Promise<void> {
  await writeFile(descriptors, describeFlags([{ feature: "notifications", owner: "team", flags: specs }]));
}

/** Versions differ from run to run; the rest of the output does not. */
async function cli(...argv: readonly string[]): Promise<CliResult> {
  const result = await runCli(argv, { env: { PBFLAGS_DATABASE: database.url } });
  return { ...result, stdout: result.stdout.replaceAll(/version \S+:\d+/g, "version V") };
}

function done(...lines: readonly string[]): CliResult {
  return { exitCode: 0, stdout: lines.map((line) => `${line}\n`).join(""), stderr: "" };
}

async function query(text: string): Promise<readonly object[]> {
  await using connection = await connectDatabase({ url: database.url });
  return (await connection.query(text)).rows;
}

test("migrate says what it did, and the second time that there was nothing to do", async () => {
  await using empty = await createTestDatabase({ migrated: false });
  const first = await runCli(["migrate", "--database", empty.url]);
  expect(first).toMatchObject({ exitCode: 0, stderr: "" });
  expect(first.stdout).toMatch(
    /^(Applied \d{4}_\w+(\.sql)? \(\d+ ms\)\n)+The database is up to date: \d+ migrations applied, 0 were there\.\n$/,
  );
  const second = await runCli(["migrate", "--database", empty.url]);
  expect(second.stdout).toMatch(/^The database is up to date: 0 migrations applied, \d+ were there\.\n$/);
});

test("migrate says that it took over what pbflags created", async () => {
  await using theirs = await createTestDatabase({ migrated: false });
  const tables = await readFile(new URL("../../migrations/0001_tables.sql", import.meta.url), "utf8");
  await runCli(["sql", "-", "--database", theirs.url], { stdin: `CREATE SCHEMA feature_flags; ${tables}` });
  const { exitCode, stdout } = await runCli(["migrate", "--database", theirs.url]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^Took over the tables that pbflags created\.\nApplied /);
});

test("every command says that an empty database has to be migrated", async () => {
  await using empty = await createTestDatabase({ migrated: false });
  for (const argv of [
    ["list"],
    ["get", "a/1"],
    ["kill", "a/1"],
    ["override", "list"],
    ["sync", "--descriptors", descriptors],
  ]) {
    const { exitCode, stdout, stderr } = await runCli([...argv, "--database", empty.url]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/^error: .*run "pbflagd migrate" first.*\n$/);
  }
});

test("sync says what it created, updated, archived and restored", async () => {
  await define([
    { number: 1, name: "email_enabled", type: "BOOL", layer: "user", default: false },
    { number: 9, name: "new", type: "BOOL" },
  ]);
  expect(await cli("sync", "--descriptors", descriptors)).toEqual(
    done(
      "created   notifications/9",
      "updated   notifications/1",
      "archived  notifications/2",
      "archived  notifications/3",
      "archived  notifications/4",
      "Synced: 1 created, 1 updated, 3 archived, 0 restored, 0 unchanged (version V).",
    ),
  );
  await define(flags);
  const { stdout } = await cli("sync", "--descriptors", descriptors);
  expect(stdout).toContain("restored  notifications/2\n");
  expect(await cli("sync", "--descriptors", descriptors)).toEqual(
    done("Synced: 0 created, 0 updated, 0 archived, 0 restored, 4 unchanged (version V)."),
  );
});

test("sync refuses what is no descriptor set, and changes nothing", async () => {
  const path = join(folder, "bad.pb");
  await writeFile(path, "this is no descriptor set");
  for (const bad of [path, join(folder, "none.pb")]) {
    const { exitCode, stdout, stderr } = await cli("sync", "--descriptors", bad);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
    expect(stderr).toContain(bad);
    expect(stderr).not.toContain("    at ");
  }
  expect((await cli("list")).stdout.split("\n")).toHaveLength(6);
});

test("list shows all flags in aligned columns", async () => {
  await cli("set", "notifications/2", "weekly");
  await cli("kill", "notifications/1");
  await cli("override", "set", "notifications/2", "user-42", "never");
  expect(await cli("list")).toEqual(
    done(
      "FLAG             NAME              TYPE         LAYER   STATE    VALUE   DEFAULT  OVERRIDES",
      "notifications/1  email_enabled     bool         user    KILLED   -       true     0",
      "notifications/2  digest_frequency  string       user    ENABLED  weekly  daily    1",
      "notifications/3  retries           int64        global  DEFAULT  -       3        0",
      "notifications/4  ratios            double_list  global  DEFAULT  -       -        0",
    ),
  );
  expect((await cli("list", "--killed")).stdout.split("\n")).toHaveLength(3);
  expect(JSON.parse((await cli("list", "notifications", "--json")).stdout)).toMatchObject([
    {
      flagId: "notifications/1",
      alias: "notifications.email_enabled",
      state: "KILLED",
      value: null,
      defaultValue: true,
    },
    {
      flagId: "notifications/2",
      flagType: "STRING",
      layer: "USER",
      value: "weekly",
      overrideCount: 1,
      archived: false,
    },
    { flagId: "notifications/3", defaultValue: 3, problem: null },
    { flagId: "notifications/4", defaultValue: null },
  ]);
});

test("list fits the terminal", async () => {
  await cli("set", "notifications/2", "x".repeat(500));
  const { stdout } = await runCli(["list", "--database", database.url], { columns: 80 });
  for (const line of stdout.split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  expect(stdout).toContain("xxx…");
});

test("list says why it lists nothing", async () => {
  expect(await cli("list", "--killed")).toEqual({ exitCode: 0, stdout: "", stderr: "No flag is killed.\n" });
  expect(await cli("list", "nothing")).toMatchObject({
    stderr: 'No flags of feature "nothing"; there are: notifications\n',
  });
  expect(await cli("list", "nothing", "--json")).toEqual(done("[]"));
  await using empty = await createTestDatabase();
  expect(await runCli(["list", "--database", empty.url])).toMatchObject({
    exitCode: 0,
    stderr: 'The database knows no flags yet: run "pbflagd sync".\n',
  });
});

test("get shows one flag, by id or alias", async () => {
  await cli("set", "notifications.email_enabled", "false");
  await cli("kill", "notifications/1");
  await cli("override", "set", "notifications/1", "user-42", "true");
  const { exitCode, stdout } = await cli("get", "notifications.email_enabled");
  expect(exitCode).toBe(0);
  expect(stdout.replace(/updated {6}\S+/, "updated      T")).toBe(
    [
      "flag         notifications/1",
      "alias        notifications.email_enabled",
      "description  Send e-mail at all.",
      "type         bool",
      "layer        user",
      "state        KILLED",
      "value        false",
      "revives to   false",
      "default      true",
      "updated      T",
      "override     user-42: true",
      "",
    ].join("\n"),
  );
  expect(JSON.parse((await cli("get", "notifications/1", "--json")).stdout)).toMatchObject({
    flagId: "notifications/1",
    state: "KILLED",
    revivesTo: { state: "ENABLED", value: false },
    overrides: [{ entityId: "user-42", state: "ENABLED", value: true }],
  });
});

test("kill and revive say the new state and the version that has it", async () => {
  const { exitCode, stdout } = await runCli(["kill", "notifications/1", "--database", database.url]);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^notifications\/1 is now KILLED \(version \S+:\d+\)\n$/);
  expect(await cli("revive", "notifications.email_enabled")).toEqual(
    done("notifications.email_enabled is now DEFAULT (version V)"),
  );
  expect(await cli("revive", "notifications/1")).toEqual({
    exitCode: 0,
    stdout: "notifications/1 is now DEFAULT (version V)\n",
    stderr: 'notice: "notifications/1" is not killed; its state is DEFAULT\n',
  });
});

test("set reads the value by the flag's type", async () => {
  expect(await cli("set", "notifications/2", "weekly")).toEqual(
    done("notifications/2 is now ENABLED (version V)"),
  );
  expect(await cli("set", "notifications/3", "--", "-9223372036854775808")).toMatchObject({ exitCode: 0 });
  expect(await cli("set", "notifications/4", "[0.5, 1]")).toMatchObject({ exitCode: 0 });
  expect(JSON.parse((await cli("list", "--json")).stdout)).toMatchObject([
    { value: null },
    { value: "weekly" },
    { value: "-9223372036854775808" },
    { value: [0.5, 1] },
  ]);
  expect(await cli("set", "notifications/2", "--default")).toEqual(
    done("notifications/2 is now DEFAULT (version V)"),
  );
});

test("a value set on a killed flag waits for its revival, and the database says so", async () => {
  await cli("kill", "notifications/2");
  const { stdout, stderr } = await cli("set", "notifications/2", "weekly");
  expect(stdout).toBe("notifications/2 is now KILLED (version V)\n");
  expect(stderr).toMatch(/^notice: "notifications\/2" is killed and stays so.*\n$/);
  expect((await cli("revive", "notifications/2")).stdout).toBe(
    "notifications/2 is now ENABLED (version V)\n",
  );
});

test("overrides are set, listed and removed", async () => {
  expect(await cli("override", "set", "notifications/1", "user-42", "false")).toEqual(
    done("notifications/1 for user-42 is now ENABLED (version V)"),
  );
  await cli("override", "set", "notifications/2", "user-7", "never");
  expect(await cli("override", "list")).toEqual(
    done(
      "FLAG             NAME                            ENTITY   STATE    VALUE",
      "notifications/1  notifications.email_enabled     user-42  ENABLED  false",
      "notifications/2  notifications.digest_frequency  user-7   ENABLED  never",
    ),
  );
  expect((await cli("override", "list", "--entity", "user-7")).stdout).not.toContain("user-42");
  expect(
    JSON.parse((await cli("override", "list", "--flag", "notifications.email_enabled", "--json")).stdout),
  ).toMatchObject([{ flagId: "notifications/1", entityId: "user-42", value: false, state: "ENABLED" }]);
  expect(await cli("override", "remove", "notifications/1", "user-42")).toEqual(
    done("notifications/1 for user-42: override removed (version V)"),
  );
  expect(await cli("override", "remove", "notifications/1", "user-42")).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: 'notice: "notifications/1" has no override for "user-42"\n',
  });
  expect(await cli("override", "list", "--entity", "nobody")).toEqual({
    exitCode: 0,
    stdout: "",
    stderr: "There are no such overrides.\n",
  });
});

test("writes print an object with the version that has them, if asked", async () => {
  const flag = "notifications/2";
  const json = async (...argv: readonly string[]): Promise<unknown> => {
    const { exitCode, stdout } = await runCli([...argv, "--json"], {
      env: { PBFLAGS_DATABASE: database.url },
    });
    expect(exitCode).toBe(0);
    return JSON.parse(stdout);
  };
  const now = async () => (await query("SELECT feature_flags.version()"))[0];
  expect(await json("set", flag, "weekly")).toEqual({ flag, state: "ENABLED", ...(await now()) });
  expect(await json("kill", flag)).toEqual({ flag, state: "KILLED", ...(await now()) });
  expect(await json("revive", flag)).toEqual({ flag, state: "ENABLED", ...(await now()) });
  const entity = "user-42";
  expect(await json("override", "set", flag, entity, "never")).toEqual({
    flag,
    entity,
    state: "ENABLED",
    ...(await now()),
  });
  expect(await json("override", "remove", flag, entity)).toEqual({
    flag,
    entity,
    removed: true,
    ...(await now()),
  });
  const none = await cli("override", "remove", flag, entity, "--json");
  expect({ exitCode: none.exitCode, answer: JSON.parse(none.stdout) }).toEqual({
    exitCode: 1,
    answer: { flag, entity, removed: false, ...(await now()) },
  });
});

test.each<[string, readonly string[], number, RegExp]>([
  [
    "an unknown flag",
    ["kill", "notifications/99"],
    1,
    /^error: Cannot kill "notifications\/99": no such flag\. There are: notifications\/1.*\n$/,
  ],
  ["an unknown flag", ["revive", "x"], 1, /^error: Cannot revive "x": no such flag/],
  ["an unknown flag", ["set", "x", "y"], 1, /^error: Cannot set "x": no such flag/],
  ["an unknown flag", ["get", "x"], 1, /^error: Cannot show "x": no such flag/],
  ["an unknown flag", ["override", "set", "x", "me", "y"], 1, /^error: Cannot override "x": no such flag/],
  ["an unknown flag", ["override", "remove", "x", "me"], 1, /^error: .*"x": no such flag/],
  [
    "an unknown flag",
    ["override", "list", "--flag", "x"],
    1,
    /^error: Cannot list overrides of "x": no such flag/,
  ],
  [
    "a value of another type",
    ["set", "notifications/1", "weekly"],
    2,
    /^error: .*notifications\/1.*BOOL.*expected true or false, got "weekly".*\n$/,
  ],
  ["a value of another type", ["set", "notifications/3", "0.5"], 2, /^error: .*expected a whole number/],
  ["a value of another type", ["set", "notifications/4", "0.5"], 2, /^error: .*expected a list/],
  [
    "a value of another type",
    ["override", "set", "notifications/1", "me", "2"],
    2,
    /^error: .*expected true or false/,
  ],
  [
    "an override of a flag that does not vary",
    ["override", "set", "notifications/3", "me", "1"],
    2,
    /^error: .*does not vary/,
  ],
  [
    "an entity that cannot be",
    ["override", "set", "notifications/1", "", "true"],
    2,
    /^error: .*expected an entity id/,
  ],
  ["an SQL error", ["sql", "SELECT * FROM nowhere"], 1, /^error: relation "nowhere" does not exist\n$/],
  ["an SQL error", ["sql", "SELEC 1"], 1, /^error: syntax error at or near "SELEC"\n$/],
])("%s: %j ends in one clear line", async (_, argv, exitCode, message) => {
  const result = await cli(...argv);
  expect({ exitCode: result.exitCode, stdout: result.stdout }).toEqual({ exitCode, stdout: "" });
  expect(result.stderr).toMatch(message);
  expect(result.stderr.trimEnd()).not.toContain("\n");
});

test("the audit log names who did it: the login name, or --actor", async () => {
  await cli("kill", "notifications/1");
  await cli("revive", "notifications/1", "--actor", "on-call");
  const actors = await query(
    "SELECT actor FROM feature_flags.flag_audit_log WHERE flag_id = 'notifications/1' ORDER BY id DESC LIMIT 2",
  );
  expect(actors).toEqual([{ actor: "on-call" }, { actor: "tester" }]);
});

test("sql prints a table, whatever the columns hold", async () => {
  expect(
    await cli(
      "sql",
      "SELECT 1 AS number, NULL AS nothing, 'a\nb' AS text, '\\xdead'::bytea AS bytes, true AS yes, ARRAY[1, 2] AS list",
    ),
  ).toEqual(
    done(
      "number  nothing  text  bytes   yes  list",
      "1       NULL     a\\nb  \\xdead  t    {1,2}",
      "(1 row)",
    ),
  );
  expect(await cli("sql", "SELECT 1 AS n WHERE false")).toEqual(done("n", "(0 rows)"));
  expect(await cli("sql", "UPDATE feature_flags.flags SET state = 'KILLED'")).toEqual(done("Done: 4 rows."));
  expect(await cli("sql", "SET search_path = feature_flags; SELECT count(*) FROM flags")).toEqual(
    done("count", "4", "(1 row)"),
  );
  expect((await cli("sql", "SELECT feature_flags.kill('notifications/1')")).stdout).toBe(
    "kill\nKILLED\n(1 row)\n",
  );
});

test("sql prints JSON for machines", async () => {
  const { stdout } = await cli(
    "sql",
    "--json",
    "SET TIME ZONE 'UTC'; SELECT 9223372036854775807 AS big, 7 AS small, NULL AS nothing, '\\x00ff'::bytea AS bytes, true AS yes, '{\"a\": [1]}'::jsonb AS doc, '2026-01-02T03:04:05.123456Z'::timestamptz AS at",
  );
  expect(JSON.parse(stdout)).toEqual([
    {
      big: "9223372036854775807",
      small: 7,
      nothing: null,
      bytes: "\\x00ff",
      yes: true,
      doc: { a: [1] },
      at: "2026-01-02 03:04:05.123456+00",
    },
  ]);
});

test("sql reads the statement from the standard input, and passes on what the server remarks", async () => {
  const stdin = "DO $$ BEGIN RAISE NOTICE 'héllo \u001B[31m'; END $$; SELECT 'ü' AS x";
  expect(await runCli(["sql", "-", "--database", database.url], { stdin })).toEqual({
    exitCode: 0,
    stdout: "x\nü\n(1 row)\n",
    stderr: "notice: héllo \\u001b[31m\n",
  });
});

test("a database that cannot be reached is exit code 3, without the password", async () => {
  const url = "postgres://me:hunter2@127.0.0.1:1/flags";
  for (const argv of [
    ["list"],
    ["kill", "a/1"],
    ["migrate"],
    ["sql", "SELECT 1"],
    ["sync", "--descriptors", descriptors],
  ]) {
    const { exitCode, stdout, stderr } = await runCli([...argv, "--database", url]);
    expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: "" });
    expect(stderr).toMatch(/^error: Cannot reach database at 127\.0\.0\.1:1\/flags: .*ECONNREFUSED.*\n$/);
    expect(stderr).not.toContain("hunter2");
  }
});

test("a connection that is lost meanwhile is exit code 3", async () => {
  const { exitCode, stderr } = await cli("sql", "SELECT pg_terminate_backend(pg_backend_pid())");
  expect(exitCode).toBe(3);
  expect(stderr).toMatch(/^error: .*terminat.*\n$/);
});

test("without a database, the commands say how to get one", async () => {
  const { exitCode, stdout, stderr } = await runCli(["list", "--data-dir", join(folder, "nothing")]);
  expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: "" });
  expect(stderr).toBe(
    `error: There is no database: set --database or PBFLAGS_DATABASE, or start "pbflagd dev" (none runs in ${join(folder, "nothing")})\n`,
  );
});
