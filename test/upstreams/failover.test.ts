import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { few, furnish, mixed, NONE, openScene, rightValue, type Scene, serveArgs } from "../daemon/scene.ts";
import { type ConfigFile, openConfigFile } from "../support/config-file.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { listUpstreams } from "../support/list-upstreams.ts";
import {
  describeLatencies,
  http1Sender,
  type Load,
  type Question,
  type Reply,
  startLoad,
} from "../support/load.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { poolFile } from "../support/proxies.ts";
import { size } from "../support/size.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";

/** A machine that is busy with other things makes no healthy upstream miss it. */
const CHECK_MS = 800;
/** Long enough for the slow one on such a machine; the frozen one holds its callers up for so long. */
const FETCH_TIMEOUT_MS = 2_000;
/** Of the slow one, each way: a call takes twice as long, and still comes in time. */
const DELAY_MS = 40;
const REQUESTS_PER_SECOND = size(100, 400);
const QUIET_MS = size(2, 10) * 1_000;
/** Entities with an override of their own that nobody has asked about. */
const PEOPLE = size(1_000, 20_000);

let database: TestDatabase;
let scene: Scene;
let roots: readonly TestDaemon[];
let way: TcpProxy;
let file: ConfigFile;
let proxy: TestDaemon;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene({ url: database.url, operate: furnish });
  await scene.sql(
    `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state, value)
     SELECT 'shop/2', 'person-' || n, 'ENABLED', '\\x0800' FROM generate_series(0, $1::int - 1) AS n`,
    [PEOPLE],
  );
  const args = serveArgs(database.url, scene);
  roots = await Promise.all(["killed", "frozen", "slow"].map(() => startDaemon({ args })));
  await Promise.all(roots.map((root) => root.whenReady()));
  way = await openTcpProxy(roots[2]?.port ?? 0);
  const servers = [
    { name: "killed", url: roots[0]?.url ?? "" },
    { name: "frozen", url: roots[1]?.url ?? "" },
    { name: "slow", url: `http://127.0.0.1:${way.port}` },
  ];
  const health_check = { interval: `${CHECK_MS}ms`, timeout: `${CHECK_MS}ms` };
  const cache = { fetch_timeout: `${FETCH_TIMEOUT_MS}ms` };
  file = await openConfigFile(poolFile(scene, servers, { pool: { health_check }, cache }));
  proxy = await startDaemon({ args: ["--config", file.path] });
  await proxy.whenReady();
});

afterAll(async () => {
  roots[1]?.kill("SIGCONT");
  for (const each of [proxy, file, way, ...roots, scene, database]) await each[Symbol.asyncDispose]();
});

let people = 0;

/** As usual, but every third question is about somebody who has an override and has not been heard of. */
function ask(n: number): Question {
  if (n % 3 !== 0 || people >= PEOPLE) return mixed(n);
  return { flagId: "shop/2", entityId: `person-${people++}` };
}

function isPerson({ entityId }: Question): boolean {
  return entityId.startsWith("person-");
}

/** What a person has set; what holds for all is right only where nobody could be asked. */
function isRight({ question, status, value }: Reply, canAsk: boolean): boolean {
  if (status !== 200) return false;
  if (!isPerson(question)) return value === rightValue(question);
  return value === '{"boolValue":false}' || (!canAsk && value === rightValue(question));
}

function wrong(replies: readonly Reply[], canAsk: boolean) {
  return few(replies.filter((reply) => !isRight(reply, canAsk)));
}

async function stateOf(name: string): Promise<string | undefined> {
  return (await listUpstreams(proxy))[name]?.state;
}

/** Resolves with how long it took. */
async function whenStateIs(name: string, state: string): Promise<number> {
  const from = performance.now();
  await eventually(async () => (await stateOf(name)) === state, { what: `${name} is ${state}` });
  return performance.now() - from;
}

/** All replies to what is sent in the next so many milliseconds. */
async function repliesOf(load: Load, ms: number): Promise<readonly Reply[]> {
  const from = performance.now();
  await setTimeout(ms + FETCH_TIMEOUT_MS);
  return load.replies.filter(({ sentAt }) => sentAt >= from && sentAt < from + ms);
}

test("one killed, one frozen and one slow: all requests are answered rightly", async () => {
  const load = startLoad({ requestsPerSecond: REQUESTS_PER_SECOND, ask, sender: http1Sender(proxy.port) });
  try {
    await eventually(() => load.replies.length > 100);
    expect(wrong(load.replies, true)).toEqual(NONE);

    way.slow(DELAY_MS);
    roots[0]?.kill("SIGKILL");
    roots[1]?.kill("SIGSTOP");
    const failedAt = performance.now();
    const outMs = await whenStateIs("frozen", "down");
    await whenStateIs("killed", "down");
    const settledAt = performance.now();

    const settled = await repliesOf(load, QUIET_MS);
    expect(await listUpstreams(proxy)).toMatchObject({
      killed: { state: "down", lastError: expect.stringContaining("ECONNREFUSED") },
      frozen: { state: "down", lastError: expect.stringContaining("no answer within") },
      slow: { state: "up", breaker: "closed" },
    });
    // Calls did leave: there are entities here that only an upstream could know.
    expect(settled.filter(({ question }) => isPerson(question)).length).toBeGreaterThan(
      (QUIET_MS / 1_000) * REQUESTS_PER_SECOND * 0.2,
    );
    expect(wrong(settled, true)).toEqual(NONE);

    roots[1]?.kill("SIGCONT");
    const backMs = await whenStateIs("frozen", "up");
    const after = await repliesOf(load, 500);
    expect(wrong(after, true)).toEqual(NONE);

    const replies = await load.stop();
    expect(wrong(replies, false)).toEqual(NONE);
    const during = replies.filter(({ sentAt }) => sentAt >= failedAt);
    const upset = during.filter(({ sentAt, question }) => sentAt < settledAt && isPerson(question));
    const unknown = upset.filter((reply) => !isRight(reply, true)).length;
    console.log(
      `the frozen one was out after ${outMs.toFixed(0)} ms and back after ${backMs.toFixed(0)} ms; ` +
        `until it was out, ${unknown} of ${upset.length} new people got what holds for all`,
    );
    console.log(`meanwhile: ${describeLatencies(during)}`);
  } finally {
    roots[1]?.kill("SIGCONT");
    await load.stop();
  }
}, 120_000);
