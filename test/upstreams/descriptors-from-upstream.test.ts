import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EvaluatorStatus, HealthResponseSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { answersTo, openScene, type Scene, SOON, serveArgs, shop } from "../daemon/scene.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import type { FeatureSpec } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { listen } from "../support/listen.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";

let database: TestDatabase;
let scene: Scene;
let root: TestDaemon;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  root = await startDaemon({ args: serveArgs(database.url, scene) });
  await root.whenReady();
  folder = await mkdtemp(join(tmpdir(), "pbflagd-descriptors-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
  await root[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

/** An address is all that a proxy needs; the rest only makes the test quick. */
function startProxy({ port }: { readonly port: number }, ...args: readonly string[]): Promise<TestDaemon> {
  const quick = { "health-interval": "100ms", "cache-kill-ttl": "1s", "cache-flag-ttl": "2s" };
  const settings = Object.entries(quick).flatMap(([name, value]) => [`--${name}`, value]);
  return startDaemon({ args: ["--server", `http://127.0.0.1:${port}`, ...settings, ...args] });
}

/** The shop as it is, and one flag more. */
function shopWith(name: string): readonly FeatureSpec[] {
  return shop.map((feature) => ({
    ...feature,
    flags: [...feature.flags, { number: 7, name, type: "STRING", default: `the default of ${name}` }],
  }));
}

async function flagIds(daemon: TestDaemon): Promise<readonly string[]> {
  return (await daemon.bulkEvaluate([])).map(({ flagId }) => flagId);
}

const SIX = ["shop/1", "shop/2", "shop/3", "shop/4", "shop/5", "shop/6"];

test.concurrent("a proxy that is given an address and nothing else answers as its root does", async () => {
  await using proxy = await startProxy(root);
  await proxy.whenReady();
  for (const entity of ["", "ann", "bob", "stranger"]) {
    const values = async (daemon: TestDaemon) =>
      Object.entries(await answersTo(daemon, entity)()).map(([name, answer]) => [name, answer.split(" ")[0]]);
    expect(await values(proxy)).toEqual(await values(root));
  }
  expect(await flagIds(proxy)).toEqual(SIX);
  await eventually(async () => (await proxy.readiness()).checks["descriptors"]?.healthy === true);
});

test.concurrent("a change of the root's descriptors reaches the second proxy behind it within seconds", async ({
  expect,
}) => {
  await using changing = await openScene(database);
  await using own = await startDaemon({ args: serveArgs(database.url, changing) });
  await using middle = await startProxy(own);
  await using edge = await startProxy(middle);
  await edge.whenReady();
  const ask = async () => [(await edge.evaluate("shop.wish")).value?.["stringValue"], await flagIds(edge)];
  expect(await ask()).toEqual([undefined, SIX]);
  await changing.describe(shopWith("wish"));
  await expect.poll(ask, SOON).toEqual(["the default of wish", [...SIX, "shop/7"]]);
  for (const tier of [middle, edge]) {
    expect(tier.log.filter(({ event }) => event === "descriptors_replaced").at(-1)).toMatchObject({
      added: ["shop/7"],
      removed: [],
    });
  }
  await changing.describe(shop);
  await expect.poll(() => flagIds(edge), SOON).toEqual(SIX);
});

test.concurrent("with state_dir, a proxy starts on the last set that it followed while its root is away", async ({
  expect,
}) => {
  const stateDir = join(folder, "kept");
  await using changing = await openScene(database);
  await using own = await startDaemon({ args: serveArgs(database.url, changing) });
  await using way = await openTcpProxy(own.port);
  {
    await using proxy = await startProxy(way, "--state-dir", stateDir);
    await proxy.whenReady();
    await changing.describe(shopWith("wish"));
    await expect.poll(() => flagIds(proxy), SOON).toContain("shop/7");
    expect(await proxy.stop()).toBe(0);
  }
  expect(await readdir(stateDir)).toContain("descriptors.pb");

  way.cut();
  await using proxy = await startProxy(way, "--state-dir", stateDir);
  const name = `upstream:127.0.0.1:${way.port}`;
  await eventually(async () => (await proxy.readiness()).checks[name]?.healthy === false);
  // The snapshot that lies beside the set tells kills and values.
  expect((await proxy.readiness()).status).toBe(200);
  expect(await answersTo(proxy, "ann")()).toMatchObject({
    // Nobody had asked for ann.
    "shop/1": '{"stringValue":"weekly"} CACHED',
    "shop/3": '{"int64Value":"7"} CACHED',
    "shop/4": '{"doubleValue":0.5} KILLED',
    "shop/6": " DEFAULT",
    "shop.limit": '{"int64Value":"7"} CACHED',
  });
  expect((await proxy.evaluate("shop.wish")).value).toEqual({ stringValue: "the default of wish" });
  expect(await flagIds(proxy)).toHaveLength(7);

  way.restore();
  await expect
    .poll(async () => (await proxy.evaluate("shop/1", "ann")).value, SOON)
    .toEqual({ stringValue: "never" });
});

test.concurrent.each([
  ["torn", (path: string) => truncate(path, 100)],
  ["empty", (path: string) => truncate(path, 0)],
  ["something else", (path: string) => writeFile(path, "a shopping list")],
])("a kept set that is %s is reported and done without", async (how, spoil) => {
  const stateDir = join(folder, how.replace(" ", "-"));
  const kept = join(stateDir, "descriptors.pb");
  await using way = await openTcpProxy(root.port);
  {
    await using first = await startProxy(way, "--state-dir", stateDir);
    await first.whenReady();
    expect(await first.stop()).toBe(0);
  }
  const good = await readFile(kept);
  await spoil(kept);
  way.cut();
  await using proxy = await startProxy(way, "--state-dir", stateDir);
  expect(proxy.log.filter(({ event }) => event === "kept_descriptors_unusable")).toEqual([
    expect.objectContaining({ level: "warn", reason: expect.stringContaining(kept) }),
  ]);
  expect(await flagIds(proxy)).toEqual([]);
  expect((await proxy.readiness()).status).toBe(503);
  way.restore();
  await proxy.whenReady();
  expect(await flagIds(proxy)).toEqual(SIX);
  await eventually(async () => (await readFile(kept).catch(() => undefined))?.equals(good) === true);
});

test.concurrent("without descriptors and without its root a proxy knows no flag, says so, and becomes ready when the root comes", async ({
  expect,
}) => {
  await using way = await openTcpProxy(root.port);
  way.cut();
  await using proxy = await startProxy(way);
  const said = async () => (await proxy.readiness()).checks["descriptors"];
  await expect
    .poll(said, SOON)
    .toMatchObject({ healthy: false, message: expect.stringContaining(`127.0.0.1:${way.port}`) });
  expect((await proxy.readiness()).status).toBe(503);
  const { answer } = await proxy.call("Evaluate", { flagId: "shop/1", entityId: "ann" });
  expect(answer).toEqual({ flagId: "shop/1", source: "EVALUATION_SOURCE_DEFAULT" });
  expect(await flagIds(proxy)).toEqual([]);

  way.restore();
  await proxy.whenReady();
  expect(await proxy.evaluate("shop/1", "ann")).toMatchObject({ value: { stringValue: "never" } });
  expect(await flagIds(proxy)).toEqual(SIX);
});

test.concurrent("before a plain pbflags evaluator, a proxy without descriptors says that they must be set", async ({
  expect,
}) => {
  const health = toBinary(
    HealthResponseSchema,
    create(HealthResponseSchema, { status: EvaluatorStatus.SERVING }),
  );
  const plain = createServer((request, response) => {
    request.resume();
    if (request.url === "/pbflags.v1.FlagEvaluatorService/Health")
      response.writeHead(200, { "content-type": "application/proto" }).end(health);
    else response.writeHead(404).end();
  });
  const port = await listen(plain);
  try {
    await using proxy = await startProxy({ port });
    const told = /plain pbflags evaluator, so descriptors must be set/;
    await eventually(() => proxy.log.some(({ event }) => event === "descriptors_not_fetched"));
    expect(proxy.log.filter(({ event }) => event === "descriptors_not_fetched")).toEqual([
      expect.objectContaining({ level: "warn", reason: expect.stringMatching(told) }),
    ]);
    const said = async () => (await proxy.readiness()).checks["descriptors"];
    await expect.poll(said, SOON).toMatchObject({ healthy: false, message: expect.stringMatching(told) });
    expect((await proxy.readiness()).status).toBe(503);
  } finally {
    plain.closeAllConnections();
    plain.close();
    await once(plain, "close");
  }
});
