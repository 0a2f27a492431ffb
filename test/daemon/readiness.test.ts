import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startDaemon } from "../support/daemon.ts";
import { manyFeatures } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { size } from "../support/size.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { familiar, openScene, rightValue, type Scene, serveArgs, shop, through, valueOf } from "./scene.ts";

let database: TestDatabase;
let scene: Scene;
let proxy: TcpProxy;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  proxy = await openTcpProxy(Number(new URL(database.url).port));
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

test("the first time that it says ready, every answer is right", async () => {
  for (let round = 0; round < size(2, 10); round++) {
    // Slow enough that there is a time before, however fast the machine.
    proxy.slow(20);
    await using daemon = await startDaemon({ args: serveArgs(through(proxy, database.url), scene) });
    const words: number[] = [];
    await eventually(async () => {
      words.push((await daemon.readiness()).status);
      return words.at(-1) === 200;
    });
    const flagIds = [...new Set(familiar.map(({ flagId }) => flagId))];
    const evaluations = await daemon.bulkEvaluate(flagIds);
    expect(evaluations.map(valueOf)).toEqual(flagIds.map((flagId) => rightValue({ flagId, entityId: "" })));
    expect(await daemon.call("GetKilledFlags", {})).toMatchObject({ answer: { flagIds: ["shop/4"] } });
    expect(words.filter((status) => status === 503).length).toBeGreaterThan(0);
    proxy.restore();
  }
});

test("once ready it stays so, and what is wrong with the store shows in the checks", async () => {
  await using daemon = await startDaemon({
    args: [...serveArgs(through(proxy, database.url), scene), "--health-interval", "200ms"],
  });
  await daemon.whenReady();
  await eventually(async () => (await daemon.readiness()).checks["database"]?.healthy === true);
  proxy.cut();
  await eventually(async () => {
    const { status, word, checks } = await daemon.readiness();
    expect({ status, word }).toEqual({ status: 200, word: "ready" });
    return checks["database"]?.healthy === false;
  });
  expect((await daemon.readiness()).checks["database"]?.message).toContain("127.0.0.1");
  expect(JSON.stringify([await daemon.readiness(), daemon.log])).not.toContain(
    new URL(database.url).password,
  );
  await eventually(async () => {
    const { answer } = await daemon.call("Health", {});
    return JSON.stringify(answer).includes("DEGRADED");
  });
  proxy.restore();
  await eventually(async () => (await daemon.readiness()).checks["database"]?.healthy === true);
});

test("metrics do not grow with what is asked", async () => {
  await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
  await daemon.whenReady();
  const series = async () =>
    [...(await daemon.metrics()).matchAll(/^(pbflags_\w+(?:\{.*\})?) \S+$/gm)]
      .map(([, name = ""]) => name)
      .toSorted();
  const askOnce = async (i: number) => {
    const [flagId, entityId] = [`made-up-${i}/1`, `entity-${i}`];
    await daemon.evaluate("shop/1", entityId);
    await daemon.bulkEvaluate([flagId, "shop/2"], entityId);
    await daemon.call("GetFlagState", { flagId });
    await daemon.call("GetOverrides", { entityId });
    await daemon.call(`NoSuchMethod${i % 10}`, {}).catch(() => {});
    await fetch(`${daemon.url}/no/such/path/${i}`, { method: i % 2 === 0 ? "GET" : "POST" });
    await fetch(`${daemon.url}/readyz?i=${i}`, { headers: { "user-agent": `agent ${i}` } });
  };
  await askOnce(0);
  await daemon.call("Evaluate", { flagId: "" });
  const before = await series();
  for (let i = 1; i <= size(200, 1_000); i++) await askOnce(i);
  expect(await series()).toEqual(before);
  expect((await daemon.metrics()).includes("made-up")).toBe(false);
});

describe("a descriptor set that lacks most flags (fault 9)", () => {
  test("is held: the old flags answer on, and readiness and metrics say why", async () => {
    await using own = await createTestDatabase();
    const many = manyFeatures(24, 12);
    await using scene = await openScene({ url: own.url, features: many, operate: async () => {} });
    await using daemon = await startDaemon({
      args: [...serveArgs(own.url, scene), "--health-interval", "200ms"],
    });
    await daemon.whenReady();
    const flagIds = async () => (await daemon.bulkEvaluate([])).map(({ flagId }) => flagId);
    const reloads = async () => await daemon.metric("pbflags_descriptor_reloads_total");
    const all = await flagIds();
    expect(all).toHaveLength(24);
    const answers = await daemon.bulkEvaluate(all, "ann");

    await scene.describe(manyFeatures(11, 12));
    await eventually(async () => ((await reloads())['result="held"'] ?? 0) > 0);
    await eventually(async () => (await daemon.readiness()).checks["descriptors"]?.healthy === false);
    const { status, checks } = await daemon.readiness();
    expect(status).toBe(200);
    expect(checks["descriptors"]?.message).toContain("got 13 of 24 removed");
    expect(daemon.log.filter(({ event }) => event === "descriptors_held")).not.toEqual([]);
    expect(await flagIds()).toEqual(all);
    expect((await daemon.bulkEvaluate(all, "ann")).map(valueOf)).toEqual(answers.map(valueOf));

    // Asking again does not wear it down, and half of them may go.
    daemon.kill("SIGHUP");
    await eventually(async () => ((await reloads())['result="held"'] ?? 0) > 1);
    expect(await flagIds()).toEqual(all);
    await scene.describe(manyFeatures(12, 12));
    await eventually(async () => (await flagIds()).length === 12);
    await eventually(async () => (await daemon.readiness()).checks["descriptors"]?.healthy === true);
  });

  test("may be one that changes a type, or says nothing at all: it is refused", async () => {
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    await daemon.whenReady();
    const values = async () =>
      (await daemon.bulkEvaluate([], "ann")).map((each) => `${each.flagId} ${valueOf(each)}`);
    const before = await values();
    const rejected = async () =>
      (await daemon.metric("pbflags_descriptor_reloads_total"))['result="rejected"'] ?? 0;
    const retyped = shop.map((feature) => ({
      ...feature,
      flags: feature.flags.map((flag) =>
        flag.number === 3 ? { ...flag, type: "STRING" as const, default: "5" } : flag,
      ),
    }));
    for (const features of [retyped, []]) {
      const rejectedBefore = await rejected();
      await scene.describe(features);
      await eventually(async () => (await rejected()) > rejectedBefore);
      expect(await values()).toEqual(before);
    }
    await scene.describe(shop);
  });
});
