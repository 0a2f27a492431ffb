import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  answersTo,
  mixed,
  NONE,
  openScene,
  PATIENCE,
  type Scene,
  serveArgs,
  wrongReplies,
} from "../daemon/scene.ts";
import { type ConfigFile, type Edit, openConfigFile } from "../support/config-file.ts";
import { type LogLine, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import { http1Sender, startLoad } from "../support/load.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { PATIENT_POOL } from "../support/proxies.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

let database: TestDatabase;
let scene: Scene;
/** Two evaluators of one database. */
let rootA: TestDaemon;
let rootB: TestDaemon;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  const args = serveArgs(database.url, scene);
  [rootA, rootB] = await Promise.all([startDaemon({ args }), startDaemon({ args })]);
  await Promise.all([rootA.whenReady(), rootB.whenReady()]);
});

afterAll(async () => {
  await rootA[Symbol.asyncDispose]();
  await rootB[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

type Server = Readonly<Record<string, unknown>> & { readonly name: string };
type Pool = Readonly<Record<string, unknown>> & { readonly servers: readonly Server[] };

const a = (settings: object = {}): Server => ({ name: "a", url: rootA.url, ...settings });
const b = (settings: object = {}): Server => ({ name: "b", url: rootB.url, ...settings });
/** Nobody listens there: ports below 1024 are not given out. */
const nobody = (name: string): Server => ({ name, url: "http://127.0.0.1:1" });

/** What every file here has beside its upstreams. */
function common(settings: object = {}) {
  return {
    descriptors: scene.descriptors,
    cache: { fetch_timeout: PATIENCE, kill_ttl: "1s", flag_ttl: "2s", override_ttl: "2s" },
    health: { interval: "100ms" },
    ...settings,
  };
}

function withPool(pool: Pool, settings: object = {}) {
  return common({ upstreams: { ...PATIENT_POOL, ...pool }, ...settings });
}

function withServers(...servers: readonly Server[]) {
  return withPool({ servers });
}

async function startProxy(
  { path }: ConfigFile,
  env: Readonly<Record<string, string>> = {},
): Promise<TestDaemon> {
  const proxy = await startDaemon({ args: ["--config", path], env });
  await proxy.whenReady();
  // The watch looks at the file when it begins: from then on only changes count.
  await eventually(async () => (await reloads(proxy)).unchanged === 1);
  await eventually(() => proxy.log.some(({ event }) => event === "feed_connected"));
  return proxy;
}

async function reloads(proxy: TestDaemon) {
  const counts = await proxy.metric("pbflags_config_reloads_total");
  const of = (result: string) => counts[`result="${result}"`];
  return { unchanged: of("unchanged"), applied: of("applied"), rejected: of("rejected") };
}

/** Log lines of one event, once there are so many. */
async function lines(proxy: TestDaemon, event: string, count = 1): Promise<readonly LogLine[]> {
  const all = () => proxy.log.filter((line) => line.event === event);
  await eventually(() => all().length >= count, { what: `${count} of ${event}` });
  return all();
}

/** What the so many-th change of the pool came to. */
async function change(proxy: TestDaemon, count: number) {
  const line = (await lines(proxy, "upstreams_reloaded", count))[count - 1];
  return {
    added: line?.["added"],
    updated: line?.["updated"],
    removed: line?.["removed"],
    unchanged: line?.["unchanged"],
  };
}

function whenConfigurationIs(proxy: TestDaemon, healthy: boolean): Promise<void> {
  return eventually(async () => (await proxy.readiness()).checks["configuration"]?.healthy === healthy, {
    what: `the check of the configuration says ${healthy}`,
  });
}

/** What an entity is answered, whatever the sources. */
async function valuesOf(proxy: TestDaemon, entityId: string): Promise<readonly string[]> {
  return Object.values(await answersTo(proxy, entityId)()).map((answer) => answer.replace(/ \w+$/, ""));
}

const EDITS: readonly Edit[] = ["replaced", "written in place", "swapped"];

test.concurrent.each(EDITS)(
  "a file that is %s changes the pool while requests run, and none of them fails",
  async (how) => {
    await using file = await openConfigFile(withServers(a()), how);
    await using proxy = await startProxy(file);
    const load = startLoad({ requestsPerSecond: 100, ask: mixed, sender: http1Sender(proxy.port) });

    await file.edit(withServers(a({ weight: 2 }), b()));
    expect(await change(proxy, 1)).toEqual({
      added: ["b"],
      updated: [{ name: "a", keys: ["weight"] }],
      removed: [],
      unchanged: [],
    });
    await file.edit(withServers(b()));
    expect(await change(proxy, 2)).toEqual({ added: [], updated: [], removed: ["a"], unchanged: ["b"] });
    await eventually(async () => (await reloads(proxy)).applied === 2);
    await eventually(() => load.replies.length > 100);

    const replies = await load.stop();
    expect(wrongReplies(replies)).toEqual(NONE);
    expect(await listUpstreams(proxy)).toEqual({
      b: expect.objectContaining({ state: "up", kind: "pbflagd" }),
    });
    expect(await reloads(proxy)).toEqual({ unchanged: 1, applied: 2, rejected: 0 });
    expect(errorsOf(proxy)).toEqual([]);
  },
);

test.concurrent("SIGHUP reads the file at once, and says nothing where nothing has changed", async () => {
  await using file = await openConfigFile(withServers(a()));
  await using proxy = await startProxy(file);
  const before = proxy.log.length;
  proxy.kill("SIGHUP");
  await eventually(async () => (await reloads(proxy)).unchanged === 2);
  expect(proxy.log.slice(before)).toEqual([]);
  await file.edit(withServers(b()));
  proxy.kill("SIGHUP");
  expect(await change(proxy, 1)).toMatchObject({ added: ["b"], removed: ["a"] });
});

test.concurrent("a reload tells which settings changed, and not what they say", async () => {
  const secrets = ["first-token-of-a", "second-token-of-a", "password-of-b"];
  const [first, second, third] = secrets;
  const env = { A_TOKEN: second ?? "" };
  await using file = await openConfigFile(withServers(a({ auth: { method: "bearer", token: first } })));
  await using proxy = await startProxy(file, env);
  const url = rootB.url.replace("//", `//operator:${third}@`);
  await file.edit(withServers(a({ auth: { method: "bearer", token: "${A_TOKEN}" } }), b({ url })));
  expect(await change(proxy, 1)).toEqual({
    added: ["b"],
    updated: [{ name: "a", keys: ["auth"] }],
    removed: [],
    unchanged: [],
  });
  await file.edit(withServers(a({ auth: { method: "bearer", token: `${second} and a blank` } }), b({ url })));
  await lines(proxy, "configuration_rejected");
  await whenConfigurationIs(proxy, false);
  const told = [
    JSON.stringify(proxy.log),
    JSON.stringify(await proxy.readiness()),
    await proxy.metrics(),
    JSON.stringify(await listUpstreams(proxy)),
  ].join();
  expect(secrets.filter((secret) => told.includes(secret))).toEqual([]);
});

describe.concurrent("a file that cannot be used", () => {
  const mistakes = () => ({
    ...common({ cache: { kill_ttl: "soon" }, limits: { bulk_max_flags: "many" } }),
    upstreams: {
      strategy: "best",
      servers: [{ url: "ftp://root" }, { ...a(), auth: { method: "bearer", token: "${NOT_SET_ANYWHERE}" } }],
    },
  });

  test("changes nothing, is told with all that is wrong, and is forgotten once it is mended", async () => {
    await using file = await openConfigFile(withServers(a()));
    await using proxy = await startProxy(file);
    await whenConfigurationIs(proxy, true);
    const before = await valuesOf(proxy, "ann");

    await file.edit(mistakes());
    const [line] = await lines(proxy, "configuration_rejected");
    const named = [
      "cache.kill_ttl",
      "limits.bulk_max_flags",
      "upstreams.strategy",
      "upstreams.servers[0].url",
      "upstreams.servers[1].auth.token",
      "NOT_SET_ANYWHERE",
    ];
    const missing = (text: unknown) => named.filter((name) => !String(text).includes(name));
    expect(line).toMatchObject({ level: "error", msg: "nothing has changed" });
    expect(missing(line?.["reason"])).toEqual([]);
    await whenConfigurationIs(proxy, false);
    const { status, checks } = await proxy.readiness();
    expect(status).toBe(200);
    expect(missing(checks["configuration"]?.message)).toEqual([]);
    expect(await reloads(proxy)).toEqual({ unchanged: 1, applied: 0, rejected: 1 });
    expect(Object.keys(await listUpstreams(proxy))).toEqual(["a"]);
    expect(await valuesOf(proxy, "ann")).toEqual(before);

    await file.edit(withServers(a(), b()));
    expect(await change(proxy, 1)).toMatchObject({ added: ["b"], unchanged: ["a"] });
    await whenConfigurationIs(proxy, true);
    expect(await reloads(proxy)).toEqual({ unchanged: 1, applied: 1, rejected: 1 });
  });

  test("changes nothing whatever is wrong with it, and is taken up as soon as nothing is", async () => {
    await using file = await openConfigFile(withServers(a()));
    await using proxy = await startProxy(file);
    const tls = { ca_file: "/nonexistent/ca.pem" };
    const spoiled: readonly [spoil: () => Promise<void>, reason: RegExp][] = [
      [() => file.remove(), /no such file/],
      [() => file.edit("upstreams: {servers: ["), /pbflagd\.yaml/],
      [() => file.edit(""), /\bupstreams\b/],
      [
        () => file.edit(withServers(b(), { name: "c", url: "https://localhost:1", tls })),
        /\bc: .*tls\.ca_file .*no such file at \/nonexistent\/ca\.pem/,
      ],
    ];
    for (const [n, [spoil, reason]] of spoiled.entries()) {
      await spoil();
      const rejected = await lines(proxy, "configuration_rejected", n + 1);
      expect(rejected.at(-1)?.["reason"]).toMatch(reason);
      expect(Object.keys(await listUpstreams(proxy))).toEqual(["a"]);
    }
    await file.edit(withServers(a()));
    await whenConfigurationIs(proxy, true);
    expect(proxy.log.filter(({ event }) => event === "upstreams_reloaded")).toEqual([]);
    expect((await proxy.evaluate("shop/1", "ann")).value).toEqual({ stringValue: "never" });
  });
});

test.concurrent("what needs a restart is said by name, and the rest is taken up", async () => {
  await using file = await openConfigFile(withServers(a()));
  await using proxy = await startProxy(file);
  await file.edit({
    ...withServers(b()),
    cache: { fetch_timeout: "1s", kill_ttl: "1s", flag_ttl: "2s", override_ttl: "2s" },
    listen: "127.0.0.1:0",
    limits: { bulk_max_flags: 5 },
  });
  const [line] = await lines(proxy, "configuration_needs_restart");
  expect(line).toMatchObject({ level: "warn", settings: ["cache.fetch_timeout", "limits.bulk_max_flags"] });
  expect(await change(proxy, 1)).toMatchObject({ added: ["b"], removed: ["a"] });
  await whenConfigurationIs(proxy, true);
  expect(await proxy.bulkEvaluate([])).toHaveLength(6);

  // So does a proxy that is to become a root.
  await file.edit(common({ database: database.url }));
  const [, second] = await lines(proxy, "configuration_needs_restart", 2);
  expect(second?.["settings"]).toEqual(expect.arrayContaining(["database", "upstreams"]));
  expect(JSON.stringify(proxy.log)).not.toContain(new URL(database.url).password);
  expect((await proxy.evaluate("shop/1", "ann")).value).toEqual({ stringValue: "never" });
  expect(Object.keys(await listUpstreams(proxy))).toEqual(["b"]);
});

test.concurrent("log_level is in force at once", async () => {
  await using file = await openConfigFile(withServers(a()));
  await using proxy = await startProxy(file);
  const decisions = () => proxy.log.filter(({ event }) => event === "evaluated").length;
  await proxy.evaluate("shop/1");
  await file.edit(withPool({ servers: [a()] }, { log_level: "debug" }));
  await eventually(async () => (await reloads(proxy)).applied === 1);
  await proxy.evaluate("shop/1");
  await eventually(() => decisions() === 1);
  await file.edit(withPool({ servers: [a()] }, { log_level: "error" }));
  await eventually(async () => (await reloads(proxy)).applied === 2);
  await proxy.evaluate("shop/1");
  await file.edit(withPool({ servers: [b()] }, { log_level: "error" }));
  await eventually(async () => (await reloads(proxy)).applied === 3);
  expect(await proxy.stop()).toBe(0);
  expect(decisions()).toBe(1);
  expect(proxy.log.filter(({ event }) => event === "upstreams_reloaded")).toEqual([]);
});

test.concurrent("`server` becomes a pool and a pool `server`; who stays under its name is not touched", async () => {
  await using file = await openConfigFile(common({ server: rootA.url }));
  await using proxy = await startProxy(file);
  const name = new URL(rootA.url).host;
  await file.edit(common({ upstreams: { servers: [{ url: rootA.url }, b()] } }));
  expect(await change(proxy, 1)).toEqual({ added: ["b"], updated: [], removed: [], unchanged: [name] });
  await file.edit(common({ server: rootB.url }));
  expect(await change(proxy, 2)).toEqual({
    added: [new URL(rootB.url).host],
    updated: [],
    removed: [name, "b"],
    unchanged: [],
  });
  await eventually(async () => (await reloads(proxy)).applied === 2);
  expect(Object.keys(await listUpstreams(proxy))).toEqual([new URL(rootB.url).host]);
  expect((await proxy.evaluate("shop/1", "bob")).value).toEqual({ stringValue: "weekly" });
});

describe.concurrent("reload_strategy", () => {
  /** Longer than a reload takes to set in. */
  const DELAY_MS = 1_000;
  const patient = { fetch_timeout: "8s", kill_ttl: "1m", flag_ttl: "1m", override_ttl: "1m" };

  function slowPool(reloadStrategy: string, server: Server) {
    const health_check = { interval: "5s", timeout: "5s" };
    return withPool({ reload_strategy: reloadStrategy, health_check, servers: [server] }, { cache: patient });
  }

  test("graceful: who leaves finishes what it has begun", async () => {
    await using way = await openTcpProxy(rootA.port);
    const url = `http://127.0.0.1:${way.port}`;
    await using file = await openConfigFile(slowPool("graceful", a({ url })));
    await using proxy = await startProxy(file);
    way.slow(DELAY_MS);
    const asked = proxy.evaluate("shop/1", "ann");
    await file.edit(slowPool("graceful", b()));
    await lines(proxy, "upstream_draining");
    expect(await listUpstreams(proxy)).toMatchObject({ a: { state: "draining" }, b: { state: "up" } });
    expect(await asked).toMatchObject({
      source: "EVALUATION_SOURCE_OVERRIDE",
      value: { stringValue: "never" },
    });
    expect(await change(proxy, 1)).toMatchObject({ added: ["b"], removed: ["a"] });
    await eventually(() => way.connectionCount === 0);
    expect(await proxy.metric("pbflags_upstream_retries_total")).toEqual({ 'upstream="b"': 0 });
  });

  test("graceful: who takes too long is cut off after drain_timeout, and others are asked", async () => {
    await using way = await openTcpProxy(rootA.port);
    const url = `http://127.0.0.1:${way.port}`;
    const impatient = { drain_timeout: "200ms" };
    await using file = await openConfigFile({ ...slowPool("graceful", a({ url })), ...impatient });
    await using proxy = await startProxy(file);
    way.drop();
    const asked = proxy.evaluate("shop/1", "ann");
    await file.edit({ ...slowPool("graceful", b()), ...impatient });
    expect(await asked).toMatchObject({
      source: "EVALUATION_SOURCE_OVERRIDE",
      value: { stringValue: "never" },
    });
    expect(await change(proxy, 1)).toMatchObject({ added: ["b"], removed: ["a"] });
    // Cut off by the proxy itself: no failure, and no retry that would need leave.
    expect(await proxy.metric("pbflags_upstream_retries_total")).toEqual({ 'upstream="b"': 0 });
  });

  test("recreate: who leaves is closed at once, and what it had begun is asked elsewhere", async () => {
    await using way = await openTcpProxy(rootA.port);
    const url = `http://127.0.0.1:${way.port}`;
    await using file = await openConfigFile(slowPool("recreate", a({ url })));
    await using proxy = await startProxy(file);
    way.drop();
    const asked = proxy.evaluate("shop/1", "ann");
    await file.edit(slowPool("recreate", b()));
    expect(await asked).toMatchObject({
      source: "EVALUATION_SOURCE_OVERRIDE",
      value: { stringValue: "never" },
    });
    expect(proxy.log.filter(({ event }) => event === "upstream_draining")).toEqual([]);
    // Cut off by the proxy itself: no failure, and no retry that would need leave.
    expect(await proxy.metric("pbflags_upstream_retries_total")).toEqual({ 'upstream="b"': 0 });
  });

  test("rolling: unless each is healthy nothing changes, and nothing of it is left", async () => {
    await using way = await openTcpProxy(rootB.port);
    const viaProxy = { url: `http://127.0.0.1:${way.port}` };
    const rolling = (...servers: readonly Server[]) =>
      withPool({
        reload_strategy: "rolling",
        servers,
      });
    await using file = await openConfigFile(rolling(a()));
    await using proxy = await startProxy(file);
    const load = startLoad({ requestsPerSecond: 100, ask: mixed, sender: http1Sender(proxy.port) });

    await file.edit(rolling(a(), b(viaProxy), nobody("c")));
    const [first] = await lines(proxy, "configuration_rejected");
    expect(first?.["reason"]).toMatch(/Cannot reload upstreams: c must be healthy, got .*ECONNREFUSED/);
    await whenConfigurationIs(proxy, false);
    expect(Object.keys(await listUpstreams(proxy))).toEqual(["a"]);
    expect(Object.keys(await proxy.metric("pbflags_upstream_score"))).toEqual(['upstream="a"']);
    await eventually(() => way.connectionCount === 0);

    await file.edit(rolling(nobody("a")));
    const [, second] = await lines(proxy, "configuration_rejected", 2);
    expect(second?.["reason"]).toContain("a must be healthy");
    expect(await listUpstreams(proxy)).toMatchObject({ a: { state: "up", target: rootA.url } });

    await file.edit(rolling(a(), b(viaProxy)));
    expect(await change(proxy, 1)).toMatchObject({ added: ["b"], unchanged: ["a"] });
    await whenConfigurationIs(proxy, true);
    expect(await listUpstreams(proxy)).toMatchObject({ a: { state: "up" }, b: { state: "up" } });
    expect(wrongReplies(await load.stop())).toEqual(NONE);
  });
});

function errorsOf(proxy: TestDaemon): readonly LogLine[] {
  return proxy.log.filter(({ level }) => level === "error");
}
