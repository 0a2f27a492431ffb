import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type CliResult, runCli } from "../cli/run-cli.ts";
import { openScene, PATIENCE, type Scene, serveArgs } from "../daemon/scene.ts";
import { type ConfigFile, openConfigFile } from "../support/config-file.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { PATIENT_POOL } from "../support/proxies.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

let database: TestDatabase;
let scene: Scene;
let root: TestDaemon;
/** The way of the upstream "away" to the root. */
let way: TcpProxy;
let file: ConfigFile;
let proxy: TestDaemon;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  root = await startDaemon({ args: serveArgs(database.url, scene) });
  await root.whenReady();
  way = await openTcpProxy(root.port);
  file = await openConfigFile(configOf({ name: "here", url: root.url }, away()));
  proxy = await startDaemon({ args: ["--config", file.path] });
  await proxy.whenReady();
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await file[Symbol.asyncDispose]();
  await way[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

afterEach(() => way.restore());

type Server = Readonly<Record<string, unknown>> & { readonly name: string };

/** Its breaker opens with the first call that fails, and stays so. */
function away(): Server {
  const breaker = { failures_max: 1, calls_min: 1, open: "1h" };
  return { name: "away", url: `http://127.0.0.1:${way.port}`, breaker };
}

function configOf(...servers: readonly Server[]) {
  return {
    descriptors: scene.descriptors,
    cache: { kill_ttl: "200ms", fetch_timeout: PATIENCE },
    health: { interval: "100ms" },
    upstreams: { ...PATIENT_POOL, servers },
  };
}

function upstreams(...argv: readonly string[]): Promise<CliResult> {
  return runCli(["upstreams", "--address", `127.0.0.1:${proxy.port}`, ...argv]);
}

function whenAwayIs(state: string): Promise<void> {
  return eventually(async () => (await listUpstreams(proxy))["away"]?.state === state);
}

/** The table, by the name of the row and of the column. */
function parseTable(stdout: string) {
  const [head = "", ...rows] = stdout.trimEnd().split("\n");
  const names = head.split(/ {2,}/);
  return Object.fromEntries(
    rows.map((row) => {
      const cells = row.split(/ {2,}/);
      return [cells[0], Object.fromEntries(names.map((name, n) => [name, cells[n]]))];
    }),
  );
}

test("one that is up and one that is down are shown with what is known of them", async () => {
  await whenAwayIs("up");
  way.cut();
  await whenAwayIs("down");
  const { exitCode, stdout, stderr } = await upstreams();
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expect(parseTable(stdout)).toEqual({
    here: {
      NAME: "here",
      TARGET: root.url,
      STATE: "up",
      KIND: "pbflagd",
      SCORE: "3",
      BREAKER: "closed",
      "IN FLIGHT": expect.stringMatching(/^\d$/),
      LATENCY: expect.stringMatching(/^\d+\.\d ms$/),
      STATUS: "serving",
      VERSION: expect.stringMatching(/^\d+$/),
      "LAST ERROR": "-",
    },
    away: expect.objectContaining({
      TARGET: `http://127.0.0.1:${way.port}`,
      STATE: "down",
      SCORE: expect.stringMatching(/^-[123]$/),
      "LAST ERROR": expect.stringContaining(`http://127.0.0.1:${way.port}`),
    }),
  });
  const { here, away: other } = await listUpstreams(proxy);
  expect(here?.version?.epoch).toBeTruthy();
  expect(other).toMatchObject({ state: "down", lastError: expect.stringContaining(String(way.port)) });
});

test("/readyz has a check for each upstream, and says of the one that is down why", async () => {
  const checks = async () => (await proxy.readiness()).checks;
  await eventually(async () => (await checks())["upstream:away"]?.healthy === true);
  way.cut();
  await eventually(async () => (await checks())["upstream:away"]?.healthy === false);
  const { status, checks: last } = await proxy.readiness();
  expect(status).toBe(200);
  expect(Object.keys(last).toSorted()).toEqual([
    "configuration",
    "descriptors",
    "feed",
    "state",
    "upstream:away",
    "upstream:here",
  ]);
  expect(last["upstream:here"]).toMatchObject({
    healthy: true,
    message: expect.stringMatching(/^up, pbflagd, serving, score 3, breaker closed/),
  });
  expect(last["upstream:away"]?.message).toContain(`http://127.0.0.1:${way.port}`);
});

test("--reset closes a breaker, and a name that does not exist is an error that says which do", async () => {
  const breaker = async () => (await listUpstreams(proxy))["away"]?.breaker;
  await eventually(async () => (await listUpstreams(proxy))["away"]?.score === 3);
  way.cut();
  // Only calls open it, and half of them go there as long as the checks have not taken it out of the rotation.
  for (let n = 0; n < 8; n += 1) await proxy.evaluate("shop/1", `stranger-${n}`);
  await eventually(async () => (await breaker()) === "open");
  // Checks that succeed would close it as well, and calls that fail open it again: there are neither.
  await whenAwayIs("down");
  const { exitCode, stdout } = await upstreams("--reset", "away");
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: "away: breaker closed, last error forgotten\n",
  });
  expect(await breaker()).toBe("closed");
  await eventually(() => proxy.log.some(({ event }) => event === "upstream_breaker_closed"));
  expect(await upstreams("--reset", "nobody")).toEqual({
    exitCode: 1,
    stdout: "",
    stderr: 'error: Cannot reset "nobody": no such upstream. There are: here, away\n',
  });
});

test("--check asks all of them now", async () => {
  await using patientFile = await openConfigFile({
    ...configOf(),
    cache: { kill_ttl: "1h", fetch_timeout: PATIENCE },
    // Sweeps over the dependencies check upstreams, too.
    health: { interval: "1h" },
    upstreams: {
      ...PATIENT_POOL,
      health_check: { interval: "1h", timeout: "5s" },
      servers: [{ name: "here", url: root.url }, away()],
    },
  });
  await using patient = await startDaemon({ args: ["--config", patientFile.path] });
  await patient.whenReady();
  const address = ["--address", `127.0.0.1:${patient.port}`];
  await eventually(async () => (await listUpstreams(patient))["away"]?.status === "serving");
  way.cut();
  const ask = async (...argv: readonly string[]) => {
    const { stdout } = await runCli(["upstreams", "--json", ...address, ...argv]);
    return JSON.parse(stdout) as readonly { name: string; checkedAt: string; lastError: string | null }[];
  };
  const checkedAt = (listed: Awaited<ReturnType<typeof ask>>) => listed.map((each) => each.checkedAt);
  const before = await ask();
  const checked = await ask("--check");
  expect(checked).toMatchObject([
    { name: "here" },
    { name: "away", lastError: expect.stringContaining(String(way.port)) },
  ]);
  for (const [n, at] of checkedAt(checked).entries())
    expect(Date.parse(at)).toBeGreaterThan(Date.parse(before[n]?.checkedAt ?? ""));
  expect(checkedAt(await ask())).toEqual(checkedAt(checked));
});

test("a root has none, and where nobody is there the exit code is 3", async () => {
  const ask = (port: number) => runCli(["upstreams", "--address", `127.0.0.1:${port}`]);
  expect(await ask(root.port)).toEqual({
    exitCode: 0,
    stdout: "",
    stderr: "This daemon reads a database: it has no upstreams.\n",
  });
  const { exitCode, stderr } = await ask(1);
  expect({ exitCode, stderr }).toEqual({
    exitCode: 3,
    stderr: expect.stringMatching(/^error: Cannot reach pbflagd at 127\.0\.0\.1:1: .*ECONNREFUSED/),
  });
});

const SERIES = [
  "pbflags_upstream_state",
  "pbflags_upstream_score",
  "pbflags_upstream_breaker_state",
  "pbflags_upstream_breaker_changes_total",
  "pbflags_upstream_in_flight",
  "pbflags_upstream_request_duration_seconds_count",
  "pbflags_upstream_failures_total",
  "pbflags_upstream_retries_total",
  "pbflags_upstream_rejected_total",
];

test("there are metrics of each upstream, and none of one that has left", async () => {
  const namesIn = (text: string, metric: string) => {
    const samples = text.matchAll(new RegExp(`^${metric}\\{.*upstream="([^"]+)"`, "gm"));
    return [...new Set(Array.from(samples, ([, name = ""]) => name))].toSorted();
  };
  await whenAwayIs("up");
  const seconds = "pbflags_upstream_request_duration_seconds_count";
  await eventually(async () => namesIn(await proxy.metrics(), seconds).length === 2);
  const before = await proxy.metrics();
  expect(SERIES.map((metric) => [metric, namesIn(before, metric)])).toEqual(
    SERIES.map((metric) => [metric, ["away", "here"]]),
  );
  expect((await proxy.metric("pbflags_upstream_state"))['upstream="here",state="up"']).toBe(1);

  await file.edit(configOf({ name: "here", url: root.url }));
  await eventually(() => proxy.log.some(({ event }) => event === "upstreams_reloaded"));
  const after = await proxy.metrics();
  expect(SERIES.map((metric) => [metric, namesIn(after, metric)])).toEqual(
    SERIES.map((metric) => [metric, ["here"]]),
  );
  await eventually(async () => (await proxy.readiness()).checks["upstream:away"] === undefined);
});
