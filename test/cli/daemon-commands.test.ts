import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Io } from "../../src/cli/io.ts";
import type { Config } from "../../src/config/settings.ts";
import { eventually } from "../support/eventually.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { runCli } from "./run-cli.ts";

let folder = "";
let server: Server | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-cli-"));
});

afterEach(async () => {
  server?.closeAllConnections();
  await new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())));
  server = undefined;
  await rm(folder, { recursive: true });
});

type Listener = (...exchange: Parameters<RequestListener>) => void | Promise<void>;

/** Something that answers HTTP as the daemon might, or not, at a Unix socket or a port. */
async function answer(listener: Listener, path?: string): Promise<string> {
  const started = createServer((request, response) => void listener(request, response));
  server = started;
  await new Promise<void>((resolve) =>
    path === undefined ? started.listen(0, "127.0.0.1", resolve) : started.listen(path, resolve),
  );
  const address = started.address();
  return typeof address === "object" && address !== null ? `127.0.0.1:${address.port}` : `unix://${path}`;
}

function reply(status: number, body: unknown): Listener {
  return (_, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

const unready = {
  status: "not ready",
  checks: [
    { name: "definitions", healthy: true, message: "", latency_ms: 0, checked_at: "2026-01-01T00:00:00Z" },
    {
      name: "store",
      healthy: false,
      message: "connection refused",
      latency_ms: 1,
      checked_at: "2026-01-01T00:00:00Z",
    },
  ],
};

test("health says that the daemon is ready", async () => {
  const paths: (string | undefined)[] = [];
  const address = await answer((request, response) => {
    paths.push(request.url);
    return reply(200, { status: "ready", checks: [] })(request, response);
  });
  expect(await runCli(["health"], { env: { PBFLAGS_LISTEN: address } })).toEqual({
    exitCode: 0,
    stdout: "ready\n",
    stderr: "",
  });
  expect(await runCli(["health", "--live", "--address", address])).toEqual({
    exitCode: 0,
    stdout: "alive\n",
    stderr: "",
  });
  expect(paths).toEqual(["/readyz", "/healthz"]);
});

test("health says why the daemon is not ready", async () => {
  const address = await answer(reply(503, unready), join(folder, "s.sock"));
  expect(await runCli(["health", "--address", address])).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: "error: not ready; store: connection refused\n",
  });
  const { exitCode, stdout } = await runCli(["health", "--json", "--address", address]);
  expect({ exitCode, answer: JSON.parse(stdout) }).toEqual({ exitCode: 1, answer: unready });
});

test.each(["", "<html>", "[1]", '{"checks": [null, {"name": 1}]}'])(
  "health makes do with the answer %j",
  async (body) => {
    const address = await answer(reply(503, body));
    expect(await runCli(["health", "--address", address])).toEqual({
      exitCode: 1,
      stdout: "",
      stderr: "error: not ready\n",
    });
  },
);

test("health and evaluate say where they could not reach anybody", async () => {
  const address = await answer(reply(200, {}));
  server?.close();
  const socket = `unix://${join(folder, "none.sock")}`;
  for (const argv of [["health"], ["evaluate", "a/1"]]) {
    for (const place of [address, socket]) {
      const { exitCode, stdout, stderr } = await runCli([...argv, "--address", place]);
      expect({ exitCode, stdout }).toEqual({ exitCode: 3, stdout: "" });
      expect(stderr).toMatch(
        /^error: Cannot reach pbflagd at .*: connect E[A-Z]+.* Is it running there\? --address names another place\.\n$/,
      );
      expect(stderr).toContain(place);
    }
  }
});

test("health gives up on a daemon that does not answer", async () => {
  const clock = new FakeClock();
  const address = await answer(() => {});
  const asked = runCli(["health", "--address", address], { clock });
  await eventually(() => clock.sleeperCount === 1);
  await clock.advance(5_000);
  expect(await asked).toMatchObject({ exitCode: 3, stderr: expect.stringContaining("no answer within 5 s") });
});

test("evaluate asks the daemon for all flags at once, and prints value and source", async () => {
  const asked: unknown[] = [];
  const evaluations = [
    { flagId: "notifications/1", value: { boolValue: false }, source: "EVALUATION_SOURCE_KILLED" },
    { flagId: "checkout/2", value: { stringValue: "weekly" }, source: "EVALUATION_SOURCE_OVERRIDE" },
    {
      flagId: "checkout/3",
      value: { int64Value: "9223372036854775807" },
      source: "EVALUATION_SOURCE_GLOBAL",
    },
    {
      flagId: "checkout/4",
      value: { stringListValue: { values: ["a", "b"] } },
      source: "EVALUATION_SOURCE_STALE",
    },
    { flagId: "checkout/5", value: { boolListValue: {} }, source: "EVALUATION_SOURCE_GLOBAL" },
    { flagId: "nobody/1", source: "EVALUATION_SOURCE_DEFAULT" },
  ];
  const address = await answer(async (request, response) => {
    asked.push([
      request.method,
      request.url,
      request.headers["content-type"],
      JSON.parse(await text(request)),
    ]);
    return reply(200, { evaluations })(request, response);
  });
  const { exitCode, stdout, stderr } = await runCli([
    "evaluate",
    "notifications/1",
    "x.y",
    "--entity",
    "me",
    "--address",
    address,
  ]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toBe(
    [
      "FLAG             VALUE                SOURCE",
      "notifications/1  false                killed",
      "checkout/2       weekly               override",
      "checkout/3       9223372036854775807  global",
      'checkout/4       ["a","b"]            stale',
      "checkout/5       []                   global",
      "nobody/1         -                    default",
      "",
    ].join("\n"),
  );
  const path = "/pbflags.v1.FlagEvaluatorService/BulkEvaluate";
  expect(asked).toEqual([
    ["POST", path, "application/json", { flagIds: ["notifications/1", "x.y"], entityId: "me" }],
  ]);
  expect(JSON.parse((await runCli(["evaluate", "--all", "--json", "--address", address])).stdout)).toEqual(
    evaluations,
  );
  expect(asked[1]).toEqual(["POST", path, "application/json", { flagIds: [], entityId: "" }]);
});

test("evaluate asks for a version, and says that the daemon has not reached it", async () => {
  const asked: unknown[] = [];
  const message = "Cannot answer at version e:8 or later: this daemon is at e:7";
  const address = await answer((request, response) => {
    asked.push(request.headers["pbflags-min-version"]);
    return reply(400, { code: "failed_precondition", message })(request, response);
  });
  const argv = ["evaluate", "a/1", "--address", address];
  expect(await runCli([...argv, "--min-version", "e:8"])).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: `error: Cannot evaluate: failed_precondition: ${message}\n`,
  });
  await runCli(argv);
  for (const text of ["", "8", "e:", "two words:8", "e:8\n"]) {
    expect(await runCli([...argv, "--min-version", text])).toEqual({
      exitCode: 2,
      stdout: "",
      stderr: `error: --min-version: expected epoch:revision as writes print it, got ${JSON.stringify(text)}\n`,
    });
  }
  expect(asked).toEqual(["e:8", undefined]);
});

test.each<[number, unknown, number, string]>([
  [
    400,
    { code: "invalid_argument", message: "too many flags" },
    2,
    "Cannot evaluate: invalid_argument: too many flags",
  ],
  [503, { code: "unavailable", message: "draining" }, 3, "Cannot evaluate: unavailable: draining"],
  [500, { code: "internal" }, 1, "Cannot evaluate: internal: "],
  [404, "not here", 1, "Cannot evaluate: no evaluator answers at PLACE, got HTTP 404"],
  [200, "<html>", 1, "Cannot evaluate: no evaluator answers at PLACE, got HTTP 200"],
])("evaluate reports HTTP %d with %j", async (status, body, exitCode, message) => {
  const address = await answer(reply(status, body));
  const result = await runCli(["evaluate", "a/1", "--address", address]);
  expect(result).toEqual({ exitCode, stdout: "", stderr: `error: ${message.replace("PLACE", address)}\n` });
});

test("evaluate says that there are no flags", async () => {
  const address = await answer(reply(200, {}));
  expect(await runCli(["evaluate", "--all", "--address", address])).toEqual({
    exitCode: 0,
    stdout: "",
    stderr: "No flags are defined.\n",
  });
});

test("who listens on all interfaces is asked on the loopback one", async () => {
  const address = await answer(reply(200, {}));
  const port = address.split(":")[1];
  for (const listen of [`:${port}`, `0.0.0.0:${port}`]) {
    expect(await runCli(["health", "--listen", listen])).toMatchObject({ exitCode: 0 });
  }
});

test("serve hands the configuration and its warnings to the daemon, and ends with its exit code", async () => {
  const given: [Config, readonly string[]][] = [];
  const serve: Io["serve"] = async (config, warnings) => {
    given.push([config, warnings]);
    return 7;
  };
  const argv = [
    "serve",
    "--descriptors",
    "x.pb",
    "--upstream",
    "http://root:9201",
    "--cache-flag-ttl",
    "0",
    "--require-store",
  ];
  expect(await runCli(argv, { serve })).toEqual({ exitCode: 7, stdout: "", stderr: "" });
  expect(given).toMatchObject(
    [[{ server: "http://root:9201", cache: { flagTtlMs: 0 }, requireStore: true }, [/never expires/]]].map(
      ([config]) => [config, [expect.stringContaining("--cache-flag-ttl: 0 makes")]],
    ),
  );
});

test("serve hands over where the configuration came from, to be read again", async () => {
  const path = join(folder, "again.yaml");
  await writeFile(path, "server: http://root:9201\nlisten: :1\nlog_level: warn\n");
  const levels: string[] = [];
  const serve: Io["serve"] = async (config, _, source) => {
    levels.push(config.logLevel);
    expect(source.path).toBe(path);
    await writeFile(path, "upstreams: {servers: [{url: http://root:9201}]}\nlisten: :1\nlog_level: debug\n");
    const again = await source.load();
    levels.push(again.config.logLevel);
    expect(again.config).toMatchObject({ listen: { port: 7 }, upstreams: config.upstreams });
    await writeFile(path, "listen: :1\n");
    await expect(source.load()).rejects.toThrow("none of database, server, upstreams is set");
    return 0;
  };
  expect(await runCli(["serve", "--config", path, "--listen", ":7"], { serve })).toMatchObject({
    stderr: "",
  });
  expect(levels).toEqual(["warn", "debug"]);
});

test("dev needs nothing, and polls kills every second", async () => {
  const given: Config[] = [];
  const dev = async (config: Config) => {
    given.push(config);
    return 0;
  };
  expect(await runCli(["dev", "--require-store", "false"], { dev, columns: 80 })).toEqual({
    exitCode: 0,
    stdout: "",
    stderr: "",
  });
  expect(given).toMatchObject([{ cache: { killTtlMs: 1_000 }, logFormat: "pretty", requireStore: false }]);
});

test("serve with nothing to serve from names what is missing", async () => {
  expect(await runCli(["serve"])).toEqual({
    exitCode: 2,
    stdout: "",
    stderr:
      "error: Cannot use configuration:\n  none of database, server, upstreams is set: expected database for root mode, or server for proxy mode\n  descriptors: not set: expected the file with the flags' descriptor set\n",
  });
});

test("config check names all problems, or says that there are none", async () => {
  const path = join(folder, "root.yaml");
  await writeFile(
    path,
    "descriptors: x.pb\nserver: http://root:9201\ncache:\n  kill_ttl: soon\n  flag_tl: 1s\n",
  );
  const bad = await runCli(["config", "check", "--config", path, "--workers", "0"]);
  expect(bad).toEqual({
    exitCode: 2,
    stdout: "",
    stderr: [
      "error: Cannot use configuration:",
      `  cache.flag_tl (${path}:5): unknown setting, did you mean cache.flag_ttl?`,
      `  cache.kill_ttl (${path}:4): expected a duration such as "30s", from 10ms to 24h, got "soon"`,
      '  --workers: expected a whole number from 1 to 256, or "auto", got "0"',
      "",
    ].join("\n"),
  });
  await writeFile(path, "descriptors: x.pb\nserver: http://root:9201\nenv_name: x\n");
  expect(await runCli(["config", "check"], { env: { PBFLAGS_CONFIG: path, PBFLAGS_LISEN: "x" } })).toEqual({
    exitCode: 0,
    stdout: "The configuration can be used.\n",
    stderr: `warning: env_name (${path}:3): has no effect in this version\nwarning: PBFLAGS_LISEN: unknown variable, did you mean PBFLAGS_LISTEN?\n`,
  });
});

test("config print shows what is in force and where it was set, without passwords", async () => {
  const env = { PBFLAGS_DATABASE: "postgres://me:hunter2@db/flags" };
  const { exitCode, stdout } = await runCli(["config", "print", "--cache-kill-ttl", "7s"], { env });
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^SETTING +VALUE +SOURCE\n/);
  expect(stdout).toMatch(/^database +postgres:\/\/me:\*\*\*@db\/flags +PBFLAGS_DATABASE$/m);
  expect(stdout).toMatch(/^cache\.kill_ttl +7s +--cache-kill-ttl$/m);
  expect(stdout).toMatch(/^server +- +default$/m);
  const json = await runCli(["config", "print", "--json"], { env });
  expect(JSON.parse(json.stdout)).toContainEqual({
    key: "database",
    text: "postgres://me:***@db/flags",
    source: "PBFLAGS_DATABASE",
  });
  expect(stdout + json.stdout).not.toContain("hunter2");
});

test("config check and config print know the pool of upstreams, and show no secret of it", async () => {
  const path = join(folder, "pool.yaml");
  const yaml = [
    "upstreams:",
    "  servers:",
    "    - url: https://a:9201",
    '      auth: {method: bearer, token: "${A_TOKEN}"}',
    "    - url: https://b:9201",
    "      auth: {method: bearer, token: hunter2}",
    "",
  ].join("\n");
  await writeFile(path, yaml);
  const argv = ["--config", path];
  expect(await runCli(["config", "check", ...argv], { env: { A_TOKEN: "hunter2" } })).toMatchObject({
    exitCode: 0,
    stderr: "",
  });
  const { stdout } = await runCli(["config", "print", ...argv], { env: { A_TOKEN: "hunter2" } });
  expect(stdout).toMatch(/^upstreams\.strategy +round-robin +default$/m);
  expect(stdout).toMatch(
    /^upstreams\.servers\[0\]\.auth\.token +\$\{A_TOKEN\} +upstreams\.servers\[0\]\.auth\.token \(.*:4\)$/m,
  );
  expect(stdout).toMatch(/^upstreams\.servers\[1\]\.auth\.token +\*\*\* +/m);
  await writeFile(path, yaml.replace("bearer, token: hunter2", "beare, token: hunter2"));
  const bad = await runCli(["config", "check", ...argv]);
  expect(bad.stderr.split("\n").slice(1)).toEqual([
    `  upstreams.servers[0].auth.token (${path}:4): the variable A_TOKEN is not set`,
    `  upstreams.servers[1].auth.method (${path}:6): expected "none" or "api-key" or "bearer" or "basic" or "mtls" or "custom", got "beare"`,
    "",
  ]);
  expect(stdout + bad.stderr).not.toContain("hunter2");
});
