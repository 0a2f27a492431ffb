import { createServer, type RequestListener } from "node:http";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { EXAMPLE_UPSTREAMS, FakePool, reportOf } from "../support/fake-pool.ts";
import { listen } from "../support/listen.ts";
import { type Served, serveMemory } from "../wire/serve-memory.ts";
import { type CliOptions, type CliResult, runCli } from "./run-cli.ts";

const pool = new FakePool();
let proxy: Served;

beforeAll(async () => {
  proxy = await serveMemory({ upstreams: pool });
});

beforeEach(() => {
  pool.upstreams = EXAMPLE_UPSTREAMS;
  pool.resets.length = 0;
  pool.sweeps.length = 0;
  pool.sweep = async () => {};
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
});

function ask(...argv: readonly string[]): Promise<CliResult> {
  return runCli(["upstreams", "--address", `127.0.0.1:${proxy.port}`, ...argv]);
}

test("upstreams shows each of them, and why it is not well", async () => {
  const { exitCode, stdout, stderr } = await ask();
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout).toBe(
    [
      "NAME    TARGET              STATE  KIND     SCORE  BREAKER  IN FLIGHT  LATENCY  STATUS   VERSION  LAST ERROR",
      "root-a  http://root-a:9201  up     pbflagd  3      closed   2          1.4 ms   serving  1042     -",
      "root-b  http://root-b:9201  down   -        -3     open     0          -        -        -        Cannot reach http://root-b:9201: connect ECONNREFUSED 10.0.0.8:9201",
      "",
    ].join("\n"),
  );
});

test("upstreams --json tells everything in the same shape, with null for what is not known", async () => {
  const { exitCode, stdout } = await ask("--json");
  expect({ exitCode, upstreams: JSON.parse(stdout) }).toEqual({
    exitCode: 0,
    upstreams: [
      {
        name: "root-a",
        target: "http://root-a:9201",
        state: "up",
        kind: "pbflagd",
        score: 3,
        breaker: "closed",
        inFlight: 2,
        latencyMs: 1.44,
        status: "serving",
        version: { epoch: "one", revision: 1_042 },
        lastError: null,
        lastErrorAt: null,
        checkedAt: "2026-01-02T03:04:05Z",
        priority: 10,
        weight: 1,
      },
      {
        name: "root-b",
        target: "http://root-b:9201",
        state: "down",
        kind: null,
        score: -3,
        breaker: "open",
        inFlight: 0,
        latencyMs: null,
        status: null,
        version: null,
        lastError: "Cannot reach http://root-b:9201: connect ECONNREFUSED 10.0.0.8:9201",
        lastErrorAt: "2026-01-02T03:04:04.500Z",
        checkedAt: "2026-01-02T03:04:04Z",
        priority: 0,
        weight: 0.5,
      },
    ],
  });
});

test("upstreams calls states what the metrics call them, and shows a score of 0", async () => {
  pool.upstreams = [
    reportOf("a", { state: "refused", kind: "pbflags", score: 0, breaker: "half-open", status: "degraded" }),
    reportOf("b", { state: "draining", status: "connecting", version: { epoch: "one", revision: 0 } }),
  ];
  const { stdout } = await ask();
  const rows = stdout.split("\n").map((line) => line.split(/ {2,}/));
  expect(rows.slice(1, 3)).toEqual([
    ["a", "http://a:9201", "refused", "pbflags", "0", "half-open", "0", "-", "degraded", "-", "-"],
    ["b", "http://b:9201", "draining", "-", "1", "closed", "0", "-", "connecting", "0", "-"],
  ]);
});

test("what an upstream answered cannot give orders to the terminal", async () => {
  pool.upstreams = [reportOf("a", { lastError: { message: "\u001b[2Jgone\n", at: 0 } })];
  expect((await ask()).stdout).toContain(String.raw`\u001b[2Jgone\n`);
});

test("upstreams fits the terminal", async () => {
  const options: CliOptions = { columns: 100 };
  const { stdout } = await runCli(["upstreams", "--address", `127.0.0.1:${proxy.port}`], options);
  expect(stdout.split("\n").filter((line) => line.length > 100)).toEqual([]);
  expect(stdout).toContain("root-b");
});

test("upstreams --check has them checked before it tells how they do; without it nobody is asked", async () => {
  await ask();
  expect(pool.sweeps).toHaveLength(0);
  pool.sweep = async () => {
    pool.upstreams = [reportOf("root-b", { kind: "pbflagd", status: "serving" })];
  };
  const { exitCode, stdout } = await ask("--check");
  expect(pool.sweeps).toHaveLength(1);
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^root-b .* serving /m);
});

test("upstreams --reset closes the breaker of one", async () => {
  expect(await ask("--reset", "root-b")).toEqual({
    exitCode: 0,
    stdout: "root-b: breaker closed, last error forgotten\n",
    stderr: "",
  });
  expect(pool.resets).toEqual(["root-b"]);
  const { stdout } = await ask("--reset", "root-a", "--json");
  expect(JSON.parse(stdout)).toMatchObject({ name: "root-a", breaker: "closed", lastError: null });
});

test("upstreams --reset of a name that does not exist says which there are", async () => {
  expect(await ask("--reset", "root-c")).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: 'error: Cannot reset "root-c": no such upstream. There are: root-a, root-b\n',
  });
  expect(pool.resets).toEqual([]);
});

test("a daemon in root mode says that it has no upstreams", async () => {
  await using root = await serveMemory();
  const address = `127.0.0.1:${root.port}`;
  for (const option of [[], ["--check"]]) {
    expect(await runCli(["upstreams", "--address", address, ...option])).toEqual({
      exitCode: 0,
      stdout: "",
      stderr: "This daemon reads a database: it has no upstreams.\n",
    });
  }
  expect(await runCli(["upstreams", "--address", address, "--json"])).toEqual({
    exitCode: 0,
    stdout: "[]\n",
    stderr: "",
  });
  expect(await runCli(["upstreams", "--address", address, "--reset", "root-a"])).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: 'error: Cannot reset "root-a": no such upstream. This daemon has none: it reads a database\n',
  });
});

describe("where no such daemon answers", () => {
  test.each<[number, string, number, string]>([
    [404, "Cannot find this path\n", 1, "no pbflagd that could have them answers at PLACE, got HTTP 404"],
    [404, '{"code":"unimplemented"}', 1, "no pbflagd that could have them answers at PLACE, got HTTP 404"],
    [200, "<html>", 1, "no pbflagd that could have them answers at PLACE, got HTTP 200"],
    [200, "[1]", 1, "no pbflagd that could have them answers at PLACE, got HTTP 200"],
    [503, '{"code":"unavailable","message":"draining"}', 3, "unavailable: draining"],
    [500, '{"code":"internal"}', 1, "internal: "],
  ])("upstreams reports HTTP %d with %j", async (status, body, exitCode, message) => {
    await using other = await serve((_, response) => response.writeHead(status).end(body));
    expect(await runCli(["upstreams", "--address", other.address])).toEqual({
      exitCode,
      stdout: "",
      stderr: `error: Cannot ask for upstreams: ${message.replace("PLACE", other.address)}\n`,
    });
  });

  test("upstreams makes do with what it does not understand", async () => {
    const upstreams = [null, {}, { name: 1 }, { name: "a", state: 7, latencyMs: "NaN", version: "x" }];
    await using other = await serve((_, response) => response.end(JSON.stringify({ upstreams })));
    const { exitCode, stdout } = await runCli(["upstreams", "--json", "--address", other.address]);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject([
      { name: "a", target: "", state: "unknown", latencyMs: null, version: null },
    ]);
  });

  test("upstreams ends with exit code 3 if nobody answers", async () => {
    const closed = await serve(() => {});
    await closed[Symbol.asyncDispose]();
    const { exitCode, stderr } = await runCli(["upstreams", "--address", closed.address]);
    expect(exitCode).toBe(3);
    expect(stderr).toMatch(/^error: Cannot reach pbflagd at .*ECONNREFUSED/);
  });
});

async function serve(listener: RequestListener): Promise<AsyncDisposable & { readonly address: string }> {
  const server = createServer(listener);
  const port = await listen(server);
  return {
    address: `127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
