import { expect, test } from "vitest";
import { ConfigError } from "./config-error.ts";
import { parseConfigFile } from "./config-file.ts";
import type { Purpose } from "./contradictions.ts";
import { parseConfig } from "./parse-config.ts";

interface Given {
  readonly args?: Record<string, string>;
  readonly env?: Record<string, string>;
  readonly yaml?: string;
  readonly purpose?: Purpose;
  readonly terminal?: boolean;
}

function load({ args = {}, env = {}, yaml, purpose = "tool", terminal = false }: Given) {
  const file = yaml === undefined ? undefined : parseConfigFile("root.yaml", yaml);
  return parseConfig({ args, env, file, terminal }, purpose);
}

function problemsOf(given: Given): readonly string[] {
  try {
    load(given);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

const database = "postgres://me:hunter2@db/flags";

test("the command line goes over the environment, that over the file, that over the default", () => {
  const { config, settings } = load({
    yaml: "listen: :1\ndescriptors: file.pb\ncache: {kill_ttl: 1s, flag_ttl: 7s}",
    env: { PBFLAGS_LISTEN: ":2", PBFLAGS_CACHE_KILL_TTL: "2s" },
    args: { "--cache-kill-ttl": "3s" },
  });
  expect(config.descriptors).toBe("file.pb");
  expect(config.listen).toEqual({ kind: "tcp", host: "", port: 2 });
  expect(config.cache).toMatchObject({ killTtlMs: 3_000, flagTtlMs: 7_000, overrideTtlMs: 300_000 });
  const sources = new Map(settings.map(({ key, source }) => [key, source]));
  expect(sources.get("descriptors")).toBe("descriptors (root.yaml:2)");
  expect(sources.get("listen")).toBe("PBFLAGS_LISTEN");
  expect(sources.get("cache.kill_ttl")).toBe("--cache-kill-ttl");
  expect(sources.get("cache.flag_ttl")).toBe("cache.flag_ttl (root.yaml:3)");
  expect(sources.get("cache.override_ttl")).toBe("default");
});

test("without anything set, the configuration is the table's defaults", () => {
  expect(load({}).config).toEqual({
    descriptors: undefined,
    database: undefined,
    databaseListen: undefined,
    databasePool: 4,
    preparedStatements: "auto",
    server: undefined,
    listen: { kind: "tcp", host: "localhost", port: 9201 },
    admin: undefined,
    stateDir: undefined,
    dataDir: ".pbflagd",
    envName: undefined,
    envColor: undefined,
    logLevel: "info",
    logFormat: "json",
    shutdownTimeoutMs: 10_000,
    drainTimeoutMs: 10_000,
    workers: 1,
    requireStore: false,
    upstreams: undefined,
    cache: {
      killTtlMs: 30_000,
      flagTtlMs: 300_000,
      overrideTtlMs: 300_000,
      overrideMaxEntries: 10_000,
      negativeTtlMs: 5_000,
      jitterPercent: 20,
      fetchTimeoutMs: 500,
    },
    limits: {
      bodyBytesMax: 1_048_576,
      headerBytesMax: 16_384,
      bulkMaxFlags: 10_000,
      connectionsMax: 10_000,
      streamsMax: 250,
      headerTimeoutMs: 5_000,
      requestTimeoutMs: 10_000,
      idleTimeoutMs: 300_000,
    },
    health: { intervalMs: 30_000, timeoutMs: 5_000 },
  });
});

test("dev polls kills every second, and a terminal gets logs for people", () => {
  const { config } = load({ purpose: "dev", terminal: true });
  expect(config.cache.killTtlMs).toBe(1_000);
  expect(config.logFormat).toBe("pretty");
  expect(load({ terminal: true, env: { PBFLAGS_LOG_FORMAT: "json" } }).config.logFormat).toBe("json");
});

test("every bad setting is named at once, where the operator wrote it", () => {
  expect(
    problemsOf({
      yaml: "cache:\n  kill_ttl: soon\n  jitter_percent: 101\nlimits:\n  body_bytes_max: .nan\nworkers: many\n",
      env: { PBFLAGS_CACHE_OVERRIDE_MAX_ENTRIES: "-1", PBFLAGS_LISTEN: "9201" },
      args: { "--log-level": "loud" },
    }).toSorted(),
  ).toEqual([
    '--log-level: expected "debug" or "info" or "warn" or "error", got "loud"',
    'PBFLAGS_CACHE_OVERRIDE_MAX_ENTRIES: expected a whole number from 1 to 10000000, got "-1"',
    'PBFLAGS_LISTEN: expected an address such as "localhost:9201", ":9201" or "unix:///path", got "9201"',
    'cache.jitter_percent (root.yaml:3): expected a percentage, a whole number from 0 to 100, got "101"',
    'cache.kill_ttl (root.yaml:2): expected a duration such as "30s", from 10ms to 24h, got "soon"',
    'limits.body_bytes_max (root.yaml:5): expected a size such as "16KiB", from 1KiB to 1GiB, got ".nan"',
    'workers (root.yaml:6): expected a whole number from 1 to 256, or "auto", got "many"',
  ]);
});

test.each<[string, Given, readonly string[]]>([
  [
    "nothing to serve from",
    { env: { PBFLAGS_DATABASE: "", PBFLAGS_DESCRIPTORS: "x.pb" } },
    ["none of database, server, upstreams is set: expected database for root mode, or server for proxy mode"],
  ],
  [
    "database and server",
    { args: { "--database": database, "--descriptors": "x" }, env: { PBFLAGS_UPSTREAM: "http://root:9201" } },
    ["--database and PBFLAGS_UPSTREAM exclude each other: the first is root mode, the second proxy mode"],
  ],
  [
    "root mode without descriptors",
    { env: { PBFLAGS_DATABASE: database } },
    ["descriptors: not set: expected the file with the flags' descriptor set"],
  ],
  [
    "an admin page on a proxy",
    { env: { PBFLAGS_SERVER: "http://root:9201", PBFLAGS_DESCRIPTORS: "x.pb" }, yaml: "admin: :9200" },
    ["admin (root.yaml:1): needs root mode, so database has to be set as well"],
  ],
  [
    "a server and a pool",
    {
      env: { PBFLAGS_SERVER: "http://root:9201", PBFLAGS_DESCRIPTORS: "x.pb" },
      yaml: "upstreams:\n  servers:\n    - url: http://a:1\n",
    },
    ["PBFLAGS_SERVER and upstreams (root.yaml:1) exclude each other: both say which servers to ask"],
  ],
  [
    "two names for one setting",
    { env: { PBFLAGS_SERVER: "http://a:1", PBFLAGS_UPSTREAM: "http://b:1", PBFLAGS_DESCRIPTORS: "x.pb" } },
    ["PBFLAGS_SERVER and PBFLAGS_UPSTREAM name the same setting: set one of them"],
  ],
])("serve refuses %s", (_, given, problems) => {
  expect(problemsOf({ ...given, purpose: "serve" })).toEqual(problems);
});

test("dev refuses a server, and needs neither database nor descriptors", () => {
  expect(problemsOf({ purpose: "dev" })).toEqual([]);
  expect(problemsOf({ purpose: "dev", env: { PBFLAGS_SERVER: "http://root:9201" } })).toEqual([
    "PBFLAGS_SERVER: dev runs in root mode, on its own database; use serve for proxy mode",
  ]);
});

test("a root, a proxy and a tool beside a proxy are accepted", () => {
  expect(problemsOf({ purpose: "serve", args: { "--database": database, "--descriptors": "x.pb" } })).toEqual(
    [],
  );
  expect(
    problemsOf({ purpose: "serve", args: { "--upstream": "http://root:9201", "--descriptors": "x.pb" } }),
  ).toEqual([]);
  expect(
    problemsOf({ args: { "--database": database }, env: { PBFLAGS_SERVER: "http://root:9201" } }),
  ).toEqual([]);
});

test("what a setting is called in the other pbflags is an alias", () => {
  expect(load({ yaml: "upstream: http://root:9201" }).config.server).toBe("http://root:9201");
  expect(load({ env: { PBFLAGS_UPSTREAM: "http://root:9201" } }).config.server).toBe("http://root:9201");
});

test("a setting of the file takes values from variables", () => {
  const env = { DB_PASSWORD: "hunter2", TTL: "7s", NAME: "x" };
  const yaml =
    "database: postgres://me:${DB_PASSWORD}@db/flags\ncache.kill_ttl: ${TTL}\nenv_name: $${NAME} $NAME";
  const { config, settings } = load({ env, yaml });
  expect(config.database).toBe(database);
  expect(config.cache.killTtlMs).toBe(7_000);
  expect(config.envName).toBe("${NAME} $NAME");
  expect(settings.find(({ key }) => key === "database")?.text).toBe("postgres://me:***@db/flags");
});

test.each([
  ["descriptors: ${FLAGS}/x.pb", "the variable FLAGS is not set"],
  ["descriptors: ${EMPTY}", "the variable EMPTY is not set"],
  ["descriptors: ${A}${B}", "the variable A is not set; the variable B is not set"],
  ["descriptors: ${FLAGS", 'expected a variable such as ${NAME}, got "${FLAGS"'],
  ["descriptors: ${a-b}", 'expected a variable such as ${NAME}, got "${a-b}"'],
])("%s: the error names setting and variable", (yaml, problem) => {
  expect(problemsOf({ yaml, env: { EMPTY: "" } })).toEqual([`descriptors (root.yaml:1): ${problem}`]);
});

test("no error shows a password, nor what a variable holds", () => {
  const problems = problemsOf({
    args: { "--database": "mysql://me:hunter2@db" },
    env: { PBFLAGS_SERVER: "ftp://me:hunter2@root", TTL: "hunter2" },
    yaml: "cache.kill_ttl: ${TTL}\ndatabase_listen: me:hunter2@db",
  });
  expect(problems).toHaveLength(4);
  expect(problems.join("\n")).not.toContain("hunter2");
  expect(problems.join("\n")).toContain("${TTL}");
});

test("what is probably not meant gives a warning", () => {
  const env = { PBFLAGS_CACHE_KIL_TTL: "1s", PBFLAGS_NONSENSE: "1", PBFLAGS_CONFIG: "x", OTHER: "1" };
  const yaml = "cache: {flag_ttl: 0, override_ttl: 0s}\nenv_name: production\nworkers: 1";
  expect(load({ env, yaml }).warnings).toEqual([
    'cache.flag_ttl (root.yaml:1): 0 makes every request ask the store (pbflags before v0.14 took 0 as "never expires")',
    'cache.override_ttl (root.yaml:1): 0 makes every request ask the store (pbflags before v0.14 took 0 as "never expires")',
    "env_name (root.yaml:2): has no effect in this version",
    "PBFLAGS_CACHE_KIL_TTL: unknown variable, did you mean PBFLAGS_CACHE_KILL_TTL?",
    "PBFLAGS_NONSENSE: unknown variable",
  ]);
});

test("a secret that looks like a variable is not quoted", () => {
  const [problem] = problemsOf({ yaml: "database: postgres://me:hunter${2@db/flags" });
  expect(problem).toBe('database (root.yaml:1): expected a variable such as ${NAME}, got "***"');
});

test("an empty variable counts as unset", () => {
  expect(load({ env: { PBFLAGS_LISTEN: "" }, yaml: "listen: :7" }).config.listen).toMatchObject({ port: 7 });
  expect(problemsOf({ args: { "--descriptors": "" } })).toEqual(['--descriptors: expected a path, got ""']);
});
