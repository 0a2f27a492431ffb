import { afterAll, beforeAll, expect, test } from "vitest";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { runCli } from "../cli/run-cli.ts";
import {
  answersTo,
  furnish,
  mixed,
  NONE,
  openScene,
  type Scene,
  SOON,
  serveArgs,
  through,
  wrongReplies,
} from "../daemon/scene.ts";
import { openConfigFile } from "../support/config-file.ts";
import { failToStart, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import { http1Sender, startLoad } from "../support/load.ts";
import { PlainEvaluator } from "../support/plain-evaluator.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { poolFile, type ServerSettings, startAt } from "../support/proxies.ts";
import { size } from "../support/size.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";
import { watchForwards } from "../support/watch-forwards.ts";

let database: TestDatabase;
let scene: Scene;
let main: TestDaemon;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene({
    url: database.url,
    async operate(store) {
      await furnish(store);
      await store.setValue("shop/3", "1");
      await store.setOverride("shop/1", "dora", "override 1");
    },
  });
  main = await startDaemon({ args: serveArgs(database.url, scene) });
  await main.whenReady();
});

afterAll(async () => {
  for (const each of [main, scene, database]) await each[Symbol.asyncDispose]();
});

/** A proxy, and the file it was started with. */
async function startProxy(servers: readonly ServerSettings[], pool: Readonly<Record<string, unknown>> = {}) {
  const file = await openConfigFile(poolFile(scene, servers, { pool }));
  const proxy = await startDaemon({ args: ["--config", file.path] });
  return {
    proxy,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await file[Symbol.asyncDispose]();
    },
  };
}

/** Calls to an upstream that ended, by what they were for. */
async function callsTo(proxy: TestDaemon, upstream: string): Promise<Readonly<Record<string, number>>> {
  const counts = await proxy.metric("pbflags_upstream_request_duration_seconds_count");
  return Object.fromEntries(
    ["flag_state", "overrides", "killed_flags"].map((operation) => [
      operation,
      counts[`upstream="${upstream}",operation="${operation}"`] ?? 0,
    ]),
  );
}

const QUESTIONS = ["killed_flags", "flag_state", "overrides"];

test("a stand-by that lags behind takes nothing back, and is as new as the main one as soon as it can", async () => {
  await using way = await openTcpProxy(Number(new URL(database.url).port));
  const hardlyLooks = ["kill", "flag", "override"].flatMap((what) => [`--cache-${what}-ttl`, "1h"]);
  const args = [...serveArgs(through(way, database.url), scene), ...hardlyLooks];
  await using standBy = await startDaemon({ args });
  await standBy.whenReady();
  await standBy.evaluate("shop/1", "dora");
  const servers = [
    { name: "main", url: main.url, priority: 2 },
    { name: "stand-by", url: standBy.url, priority: 1 },
  ];
  await using opened = await startProxy(servers, { strategy: "priority" });
  const { proxy } = opened;
  await proxy.whenReady();
  await proxy.evaluate("shop/1", "dora");
  expect((await callsTo(proxy, "stand-by"))["flag_state"]).toBe(0);

  way.cut();
  await scene.operate(async (store) => {
    await store.setValue("shop/3", "2");
    await store.setOverride("shop/1", "dora", "override 2");
    await store.kill("shop/5");
    await store.revive("shop/4");
  });
  const changed = {
    "shop/1": '{"stringValue":"override 2"}',
    "shop/3": '{"int64Value":"2"}',
    "shop/4": '{"doubleValue":0.9}',
    "shop/5": '{"stringListValue":{"values":["s","m"]}}',
  };
  const valuesOf = (daemon: TestDaemon) => async () => {
    const answers = await answersTo(daemon, "dora")();
    return Object.fromEntries(
      Object.keys(changed).map((flagId) => [flagId, answers[flagId]?.replace(/ [A-Z]+$/, "")]),
    );
  };
  await expect.poll(valuesOf(proxy), SOON).toEqual(changed);
  const watches = [watchForwards(proxy, "shop/3"), watchForwards(proxy, "shop/1", "dora")];
  const wentBack = async () =>
    (await Promise.all(watches.map((watch) => watch.stop()))).flatMap((seen) => seen.wentBack);
  try {
    const { port } = main;
    main.kill("SIGKILL");
    await main.exited;
    // Each kind of question has been put to the stand-by, again and again.
    await eventually(
      async () => {
        await proxy.evaluate("shop/1", `stranger-${performance.now()}`);
        const calls = await callsTo(proxy, "stand-by");
        return QUESTIONS.every((operation) => (calls[operation] ?? 0) >= size(3, 20));
      },
      { timeoutMs: 60_000, what: "the stand-by was asked" },
    );
    const { main: lost, "stand-by": used } = await listUpstreams(proxy);
    expect([lost?.state, used?.state]).toEqual(["down", "up"]);
    // It does lag: without this, there would be nothing to see.
    expect(used?.version?.revision).toBeLessThan(lost?.version?.revision ?? 0);
    expect((await standBy.evaluate("shop/3")).value).toEqual({ int64Value: "1" });
    expect(await valuesOf(proxy)()).toEqual(changed);
    expect((await proxy.evaluate("shop/5")).source).toBe("EVALUATION_SOURCE_KILLED");

    // Its own next look is an hour away; that others know more is enough.
    way.restore();
    await expect.poll(valuesOf(standBy), SOON).toMatchObject({ "shop/3": changed["shop/3"] });
    await expect
      .poll(async () => (await standBy.evaluate("shop/5")).source, SOON)
      .toBe("EVALUATION_SOURCE_KILLED");

    main = await startAt(port, serveArgs(database.url, scene));
    await scene.operate(async (store) => {
      await store.setValue("shop/3", "3");
      await store.setOverride("shop/1", "dora", "override 3");
    });
    await expect.poll(() => watches.map(({ highest }) => highest), SOON).toEqual([3, 3]);
    expect(proxy.log.filter(({ event }) => event === "epoch_changed")).toEqual([]);
  } finally {
    expect(await wentBack()).toEqual([]);
    await scene.operate(async (store) => {
      await store.revive("shop/5");
      await store.setValue("shop/3", "7");
      await store.kill("shop/4");
    });
  }
});

/** Comes into a pool where others have said already what the pool is. */
interface Stranger extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
}

async function openOtherDatabase(): Promise<Stranger> {
  const other = await createTestDatabase();
  const otherScene = await openScene({
    url: other.url,
    async operate(store) {
      await store.setValue("shop/1", "foreign");
      await store.setValue("shop/3", "666");
      for (let i = 0; i < 50; i++) await store.setOverride("shop/2", `visitor-${i}`, "false");
      await store.kill("shop/5");
    },
  });
  const root = await startDaemon({ args: serveArgs(other.url, otherScene) });
  await root.whenReady();
  return {
    port: root.port,
    url: root.url,
    async [Symbol.asyncDispose]() {
      for (const each of [root, otherScene, other]) await each[Symbol.asyncDispose]();
    },
  };
}

async function openPlainStranger(): Promise<Stranger> {
  const evaluator = await PlainEvaluator.open("http");
  evaluator.rows.set("shop/1", {
    state: State.ENABLED,
    value: { value: { case: "stringValue", value: "foreign" } },
  });
  evaluator.rows.set("shop/5", { state: State.KILLED });
  for (let i = 0; i < 50; i++) {
    const value = { value: { case: "boolValue" as const, value: false } };
    evaluator.override(`visitor-${i}`, "shop/2", { state: State.ENABLED, value });
  }
  return evaluator;
}

test.each([
  [
    "reads another database",
    openOtherDatabase,
    /^it reads another database than the pool: epoch .+, expected .+$/,
  ],
  [
    "is a plain evaluator",
    openPlainStranger,
    /^it is a plain pbflags evaluator and the others are pbflagd: a pool must be of one kind$/,
  ],
] as const)(
  "an upstream that %s is refused, shown as such, and nothing of it is served",
  async (_, open, reason) => {
    await using stranger = await open();
    await using way = await openTcpProxy(stranger.port);
    way.cut();
    const servers = [
      { name: "home", url: main.url },
      { name: "stranger", url: `http://127.0.0.1:${way.port}` },
    ];
    await using opened = await startProxy(servers);
    const { proxy } = opened;
    await proxy.whenReady();
    await eventually(async () => (await listUpstreams(proxy))["home"]?.version != null);
    for (const flagId of ["shop/1", "shop/2", "shop/3", "shop/4", "shop/5", "shop/6"]) {
      for (const entityId of ["ann", "bob", "carl"]) await proxy.evaluate(flagId, entityId);
    }

    const visitors = (n: number) =>
      n % 3 === 0 ? { flagId: "shop/2", entityId: `visitor-${n % 50}` } : mixed(n);
    const load = startLoad({
      requestsPerSecond: size(150, 500),
      ask: visitors,
      sender: http1Sender(proxy.port),
    });
    try {
      way.restore();
      await eventually(async () => (await listUpstreams(proxy))["stranger"]?.state === "refused");
      const before = load.replies.length;
      await eventually(() => load.replies.length > before + size(200, 3_000), { timeoutMs: 30_000 });
    } finally {
      await load.stop();
    }
    expect(wrongReplies(load.replies)).toEqual(NONE);

    const { home, stranger: refused } = await listUpstreams(proxy);
    expect([home?.state, refused?.state]).toEqual(["up", "refused"]);
    expect(refused?.lastError).toMatch(reason);
    expect((await runCli(["upstreams", "--address", `127.0.0.1:${proxy.port}`])).stdout).toMatch(
      /^stranger .* refused /m,
    );
    await eventually(async () => (await proxy.readiness()).checks["upstream:stranger"]?.healthy === false);
    const { status, checks } = await proxy.readiness();
    expect(status).toBe(200);
    expect(checks["upstream:stranger"]?.message).toContain(refused?.lastError);
    expect(checks["upstream:home"]?.healthy).toBe(true);
    expect(proxy.log.filter(({ event }) => event === "upstream_refused")).toEqual([
      expect.objectContaining({
        upstream: "stranger",
        level: "error",
        reason: expect.stringContaining("it "),
      }),
    ]);
    expect(Object.values(await callsTo(proxy, "stranger")).every((count) => count < 10)).toBe(true);
    expect((await proxy.call("GetKilledFlags", {})).answer).toEqual({ flagIds: ["shop/4"] });
  },
);

test("kinds that do not mix are an error of the configuration, which names both", async () => {
  const servers = [
    { name: "ours", url: main.url, kind: "pbflagd" },
    { name: "theirs", url: "http://127.0.0.1:1", kind: "pbflags" },
  ];
  await using file = await openConfigFile(poolFile(scene, servers));
  const { code, log } = await failToStart({ args: ["--config", file.path] });
  expect(code).toBe(2);
  const told = log.map(({ line }) => String(line)).join("\n");
  expect(told).toContain(file.path);
  expect(told).toContain(
    "a pool is all of one kind: upstreams.servers[1] is pbflags, upstreams.servers[0] is pbflagd",
  );
  expect(log.some(({ event }) => event === "serving")).toBe(false);
});
