import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  familiar,
  few,
  furnish,
  mixed,
  NONE,
  openScene,
  rightValue,
  type Scene,
  SOON,
  serveArgs,
  shop,
  valueOf,
  wrongReplies,
} from "../daemon/scene.ts";
import { type ConfigFile, openConfigFile } from "../support/config-file.ts";
import { startDaemon, type TestDaemon, type TestEvaluation } from "../support/daemon.ts";
import { manyFeatures } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { describeLatencies, http1Sender, type Question, startLoad } from "../support/load.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { poolFile, proxyArgs, startAt, stateClient } from "../support/proxies.ts";
import { rawSender } from "../support/raw-sender.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { size } from "../support/size.ts";
import { watchForwards } from "../support/watch-forwards.ts";

const QUESTIONS = 1_000;
const RESTARTS = size(2, 15);
const KILLS = size(2, 15);

let database: TestDatabase;
let scene: Scene;
let root: TestDaemon;
let middle: TestDaemon;
let edge: TestDaemon;
let edgeFile: ConfigFile;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene({
    url: database.url,
    features: [...shop, ...manyFeatures(60, 12)],
    async operate(store) {
      await furnish(store);
      for (let i = 0; i < 5; i++) {
        // Of each dozen flags, the first has a layer.
        await store.setValue(`feature-${i}/2`, `stored ${i}`);
        await store.setValue(`feature-${i}/6`, '["blue"]');
        for (let n = 0; n < 8; n++) await store.setOverride(`feature-${i}/1`, `person-${i * 8 + n}`, "false");
      }
      await store.kill("feature-2/2");
      await store.kill("feature-3/1");
    },
  });
  root = await startDaemon({ args: serveArgs(database.url, scene) });
  await root.whenReady();
  middle = await startDaemon({ args: proxyArgs(root.url, scene) });
  await middle.whenReady();
  // With the default of 30 s, values could be as old as that after the second restart within a minute.
  const servers = [{ url: middle.url, breaker: { open: "1s" } }];
  edgeFile = await openConfigFile(poolFile(scene, servers));
  edge = await startDaemon({ args: ["--config", edgeFile.path] });
  await edge.whenReady();
});

afterAll(async () => {
  for (const tier of [edge, middle, root]) await tier[Symbol.asyncDispose]();
  await edgeFile[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

/** Flags by id and by alias, of all kinds, and what nobody knows; for those who have overrides and those who have none. */
function question(random: () => number): Question {
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  const feature = Math.floor(random() * 5);
  const flag = 1 + Math.floor(random() * 12);
  const flagId = pick([
    `shop/${1 + Math.floor(random() * 6)}`,
    `feature-${feature}/${flag}`,
    `feature-${feature}.flag_${flag}`,
    `feature-${feature}/1`,
    pick(["ghost/1", "shop/77", "shop.nothing", "shop/", "no slash", "😀/1", "x".repeat(600)]),
  ]);
  const person = `person-${Math.floor(random() * 40)}`;
  return {
    flagId,
    entityId: pick(["", "ann", "bob", person, person, `stranger-${flag}`, "no\u0000body", "日本"]),
  };
}

function codeOf(error: unknown): Code {
  return ConnectError.from(error).code;
}

/** Whether it is as fresh or from memory is each tier's own business. */
function shown({ flagId, entityId }: Question, answer: TestEvaluation): string {
  const source = answer.source.replace("EVALUATION_SOURCE_", "");
  const isStored = ["GLOBAL", "OVERRIDE", "STALE", "CACHED"].includes(source);
  return `${flagId} for ${entityId}: ${valueOf(answer)} ${isStored ? "stored" : source}`;
}

async function answersOf({ port }: TestDaemon, questions: readonly Question[]): Promise<readonly string[]> {
  const sender = rawSender(port, 16);
  const answers = questions.map(async (each) => {
    const { status, body } = await sender.send(each);
    expect(status).toBe(200);
    return shown(each, JSON.parse(body) as TestEvaluation);
  });
  return await Promise.all(answers).finally(() => sender.close());
}

test(`${QUESTIONS} answers at the second proxy are those of the root`, async () => {
  const random = seededRandom(3);
  const questions = Array.from({ length: QUESTIONS }, () => question(random));
  const expected = await answersOf(root, questions);
  expect(await answersOf(edge, questions)).toEqual(expected);
  // There was something to be right about.
  for (const kind of ["stored", "DEFAULT", "KILLED"]) {
    expect(expected.filter((each) => each.endsWith(kind)).length).toBeGreaterThan(QUESTIONS / 20);
  }
});

test(`${RESTARTS} times killed and started again under load, the middle one costs the edge no request and takes no answer back`, async () => {
  let written = 0;
  const write = async () => {
    written += 1;
    await scene.operate(async (store) => {
      await store.setValue("shop/3", String(1_000 + written));
      await store.setValue("feature-0/2", `value ${written}`);
      await store.setOverride("shop/1", "dora", `override ${written}`);
    });
  };
  await write();
  await eventually(async () =>
    valueOf(await edge.evaluate("shop/1", "dora")).includes(`override ${written}`),
  );
  await eventually(async () => valueOf(await edge.evaluate("shop/3")).includes(String(1_000 + written)));
  await eventually(async () => valueOf(await edge.evaluate("feature-0/2")).includes(`value ${written}`));
  for (const { flagId, entityId } of familiar) await edge.evaluate(flagId, entityId);

  const watches = [
    watchForwards(edge, "shop/3"),
    watchForwards(edge, "feature-0/2"),
    watchForwards(edge, "shop/1", "dora"),
  ];
  const load = startLoad({ requestsPerSecond: size(100, 250), ask: mixed, sender: http1Sender(edge.port) });
  try {
    for (let i = 0; i < RESTARTS; i++) {
      const { port } = middle;
      const before = load.replies.length;
      middle.kill("SIGKILL");
      await middle.exited;
      await write();
      await write();
      await eventually(() => load.replies.length > before + 50);
      middle = await startAt(port, proxyArgs(root.url, scene));
      await write();
      const last = written;
      await expect
        .poll(() => watches.map(({ highest }) => highest), {
          ...SOON,
          message: "all that was written is known",
        })
        .toEqual([1_000 + last, last, last]);
    }
  } finally {
    await Promise.all([load.stop(), ...watches.map((watch) => watch.stop())]);
  }
  const seen = await Promise.all(watches.map((watch) => watch.stop()));
  expect(seen.flatMap(({ wentBack }) => wentBack)).toEqual([]);
  expect(Math.min(...seen.map(({ answered }) => answered))).toBeGreaterThan(100);
  const { replies } = load;
  expect(few(replies.filter(({ status }) => status !== 200))).toEqual(NONE);
  expect(wrongReplies(replies.filter(({ question: { flagId } }) => flagId !== "shop/3"))).toEqual(NONE);
  console.log(`at the edge: ${describeLatencies(replies)}`);
  await scene.operate((store) => store.setValue("shop/3", "7"));
}, 170_000);

test("a kill and a revive at the root are known behind two proxies", async () => {
  const answer = async () => {
    const { source, ...rest } = await edge.evaluate("shop/5");
    return `${source.replace("EVALUATION_SOURCE_", "")} ${valueOf({ ...rest, source })}`;
  };
  const tookMs: number[] = [];
  const measure = async (expected: unknown) => {
    const startedAt = performance.now();
    await expect.poll(answer, SOON).toEqual(expected);
    tookMs.push(performance.now() - startedAt);
  };
  for (let i = 0; i < KILLS; i++) {
    await scene.operate((store) => store.kill("shop/5"));
    await measure('KILLED {"stringListValue":{"values":["s","m"]}}');
    await scene.operate((store) => store.revive("shop/5"));
    await measure(expect.stringMatching(/^(GLOBAL|STALE) {"stringListValue":{"values":\["l"\]}}$/));
  }
  console.log(`kills and revives at the edge after at most ${Math.max(...tookMs).toFixed(0)} ms`);
});

test("while the root is away, the middle hands on what it knows and owns up to what it does not, and a new edge is ready", async () => {
  // Known to the middle from now on.
  for (const entityId of ["ann", "bob", "carl"]) await edge.evaluate("shop/1", entityId);
  await expect.poll(async () => valueOf(await middle.evaluate("shop/3"))).toBe('{"int64Value":"7"}');
  root.kill("SIGKILL");
  await root.exited;
  await eventually(async () => (await middle.metric("pbflags_breaker_state"))['state="closed"'] === 0);

  expect(await middle.call("GetKilledFlags", {})).toMatchObject({
    status: 200,
    answer: { flagIds: expect.arrayContaining(["shop/4", "feature-2/2", "feature-3/1"]) },
  });
  expect(await middle.call("GetFlagState", { flagId: "shop/3" })).toMatchObject({
    status: 200,
    answer: { flag: { state: "STATE_ENABLED", value: { int64Value: "7" } } },
  });
  expect(await middle.call("GetOverrides", { entityId: "ann" })).toMatchObject({
    status: 200,
    answer: { overrides: [{ flagId: "shop/1", value: { stringValue: "never" } }] },
  });
  // Known to have none.
  expect(await middle.call("GetOverrides", { entityId: "carl" })).toEqual({ status: 200, answer: {} });
  expect(await middle.call("GetFlagState", { flagId: "shop/6" })).toMatchObject({ status: 200 });
  for (const [method, request] of [
    ["GetOverrides", { entityId: "never-heard-of" }],
    ["GetFlagState", { flagId: "never/1" }],
  ] as const) {
    expect(await middle.call(method, request)).toMatchObject({
      status: 503,
      answer: { code: "unavailable" },
    });
  }

  const state = stateClient(middle);
  expect((await state.getStatus({})).version?.epoch).toBeTruthy();
  expect((await state.getKills({})).flagIds).toContain("shop/4");
  const states = await state.getFlagStates({ flagIds: ["shop/3", "never/2"] });
  expect([states.rows.map(({ flagId }) => flagId), states.unknownFlagIds]).toEqual([["shop/3"], ["never/2"]]);
  const overrides = await state.getEntityOverrides({ entityIds: ["ann", "carl", "never-either"] });
  expect(overrides.rows.map(({ entityId }) => entityId)).toEqual(["ann"]);
  expect(overrides.unknownEntityIds).toEqual(["never-either"]);
  const nothing = await state.getEntityOverrides({ entityIds: ["nor-this-one"] }).catch(codeOf);
  expect(nothing).toBe(Code.Unavailable);

  await using another = await startDaemon({ args: proxyArgs(middle.url, scene) });
  await another.whenReady();
  const known = familiar.filter(({ flagId }) => flagId !== "ghost/1");
  const answers = await Promise.all(
    known.map(async ({ flagId, entityId }) => valueOf(await another.evaluate(flagId, entityId))),
  );
  expect(answers).toEqual(known.map(rightValue));
  // What the middle does not know, the edge behind it does not know either, and says so.
  expect(await another.call("GetOverrides", { entityId: "never-heard-of" })).toMatchObject({ status: 503 });

  // Who has never heard from anybody has nothing to hand on.
  await using newcomer = await startDaemon({ args: proxyArgs(root.url, scene) });
  expect((await newcomer.readiness()).status).toBe(503);
  expect(await newcomer.call("GetKilledFlags", {})).toMatchObject({ status: 503 });
  expect(await newcomer.call("GetFlagState", { flagId: "shop/3" })).toMatchObject({ status: 503 });
  expect(await stateClient(newcomer).getKills({}).catch(codeOf)).toBe(Code.Unavailable);

  const { port } = root;
  root = await startAt(port, serveArgs(database.url, scene));
  await newcomer.whenReady();
  await eventually(
    async () => (await another.call("GetOverrides", { entityId: "never-heard-of" })).status === 200,
  );
});
