import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { connect, type Socket } from "node:net";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startDaemon, type TestDaemon, type TestEvaluation } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import {
  EVALUATE_PATH,
  http1Sender,
  http2Sender,
  NOT_LET_IN,
  type Reply,
  startLoad,
} from "../support/load.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { isAlive, listProcesses } from "../support/process-tree.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";
import { few, NONE, openScene, type Scene, serveArgs, shop, through, wrongReplies } from "./scene.ts";

let database: TestDatabase;
let scene: Scene;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  folder = await mkdtemp(join(tmpdir(), "pbflagd-workers-"));
});

/** Several daemons in a row start, of several processes each. */
vi.setConfig({ testTimeout: 120_000 });

afterAll(async () => {
  await rm(folder, { recursive: true });
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

/** Where the machine may be busy with other things. */
const PATIENTLY = { timeoutMs: 40_000 };

/** Resolves once it is ready, and every worker takes connections. */
async function start(args: readonly string[] = [], workers = 2): Promise<TestDaemon> {
  const daemon = await startDaemon({
    args: [...serveArgs(database.url, scene), "--workers", String(workers), ...args],
  });
  await daemon.whenReady();
  await whenServing(daemon, workers);
  return daemon;
}

function whenServing(daemon: TestDaemon, count: number): Promise<void> {
  return eventually(() => daemon.log.filter(({ event }) => event === "worker_serving").length >= count, {
    ...PATIENTLY,
    what: `${count} workers serve`,
  });
}

/** The process of each worker that serves last, by its number. */
function pidsOf({ log }: TestDaemon): ReadonlyMap<number, number> {
  const serving = log.filter(({ event }) => event === "worker_serving");
  return new Map(serving.map(({ worker, pid }) => [Number(worker), Number(pid)]));
}

function pidOf(daemon: TestDaemon, worker: number): number {
  return pidsOf(daemon).get(worker) ?? Number.NaN;
}

/** Ends a worker without giving it time for anything, and resolves once another one has taken its place. */
async function replace(daemon: TestDaemon, worker: number): Promise<void> {
  const before = daemon.log.filter(({ event }) => event === "worker_serving").length;
  process.kill(pidOf(daemon, worker), "SIGKILL");
  await whenServing(daemon, before + 1);
}

async function evaluations(daemon: TestDaemon): Promise<number> {
  const bySource = await daemon.metric("pbflags_evaluations_total");
  return Object.values(bySource).reduce((sum, count) => sum + count, 0);
}

/** Evaluates over a connection of its own. */
async function ask(daemon: TestDaemon, flagId: string, entityId = ""): Promise<TestEvaluation> {
  const client = openClient(daemon);
  try {
    return await client.ask(flagId, entityId);
  } finally {
    client.close();
  }
}

/** The status, and what is said, over a connection of its own. */
function get(
  at: Pick<TestDaemon, "port"> | { readonly socketPath: string },
  path: string,
): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const where = "port" in at ? { host: "127.0.0.1", port: at.port } : at;
    const sent = request({ ...where, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, text }));
    });
    sent.once("error", reject);
    sent.end();
  });
}

interface Client {
  /** Rejects if no answer comes. */
  ask(flagId: string, entityId?: string): Promise<TestEvaluation>;
  close(): void;
}

/** One connection, over which one question is asked at a time. */
function openClient({ port }: Pick<TestDaemon, "port">): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    ask: (flagId, entityId = "") =>
      new Promise((resolve, reject) => {
        const sent = request(
          {
            ...{ agent, host: "127.0.0.1", port, method: "POST", path: EVALUATE_PATH },
            headers: { "content-type": "application/json" },
          },
          (response) => {
            let text = "";
            response.setEncoding("utf8");
            response.on("data", (chunk: string) => {
              text += chunk;
            });
            response.once("error", reject);
            response.once("end", () => resolve(JSON.parse(text) as TestEvaluation));
          },
        );
        sent.once("error", reject);
        sent.end(JSON.stringify({ flagId, entityId }));
      }),
    close: () => agent.destroy(),
  };
}

/** Sessions of a daemon that was asked for what it has to look up. */
async function sessionsOf(daemon: TestDaemon): Promise<number> {
  await Promise.all(Array.from({ length: 20 }, (_, i) => ask(daemon, "shop/1", `somebody-${i}`)));
  const [row] = await scene.sql(
    "SELECT count(*)::int AS count FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
  );
  return Number(row?.["count"]);
}

test("answers come from every worker, and one process alone has the store", async () => {
  await using daemon = await start(["--database-pool", "1", "--log-level", "debug"], 3);
  // One for reads, and one that listens.
  expect(await sessionsOf(daemon)).toBeLessThanOrEqual(2);
  const answering = daemon.log.filter(({ event }) => event === "evaluated").map(({ worker }) => worker);
  expect(new Set(answering)).toEqual(new Set([1, 2, 3]));
  const children = (await listProcesses()).filter(({ parent }) => parent === daemon.pid);
  expect(new Set(children.map(({ pid }) => pid))).toEqual(new Set(pidsOf(daemon).values()));
  expect(await daemon.stop()).toBe(0);
  const ended = daemon.log.filter(({ event }) => event === "worker_ended").map(({ code }) => code);
  expect(ended).toEqual([0, 0, 0]);
  expect(daemon.log.filter(({ level }) => level === "error")).toEqual([]);
});

test("connections go to whoever has the fewest", async () => {
  await using daemon = await start(["--log-level", "debug"]);
  const clients = Array.from({ length: 10 }, () => openClient(daemon));
  for (const [i, client] of clients.entries()) await client.ask("shop/1", `customer-${i}`);
  const lines = () =>
    daemon.log.filter(
      ({ event, entity_id }) => event === "evaluated" && /^customer-/.test(String(entity_id)),
    );
  await eventually(() => lines().length === clients.length);
  // Whoever looked whether it is ready has kept a connection, too.
  expect(Math.abs(lines().filter(({ worker }) => worker === 1).length - 5)).toBeLessThan(2);
  for (const client of clients) client.close();
});

test("a worker that is lost is started again, and no answer misses a kill that was in force", async () => {
  await using daemon = await start();
  await scene.operate((store) => store.kill("shop/1"));
  try {
    const isKilled = async () => (await ask(daemon, "shop/1")).source === "EVALUATION_SOURCE_KILLED";
    // In a row: of two workers each has been asked.
    await eventually(async () => (await isKilled()) && (await isKilled()) && (await isKilled()), PATIENTLY);
    const stop = new AbortController();
    // Some keep their connections. For each question of the others there is a new one: whoever has just been started has
    // the fewest, and gets the next.
    const clients = [false, false, false, true, true].map((isNew) => keepAsking(daemon, isNew, stop.signal));
    const probing = keepProbing(daemon, stop.signal);
    for (const worker of [1, 2, 1]) await replace(daemon, worker);
    await setTimeout(200);
    stop.abort();
    const replies = (await Promise.all(clients)).flat();

    const sources = replies.filter((reply) => reply !== undefined).map(({ source }) => source);
    expect(new Set(sources)).toEqual(new Set(["EVALUATION_SOURCE_KILLED"]));
    expect(sources.length).toBeGreaterThan(50);
    // Nobody is let in before there is something to answer with.
    expect(new Set(await probing)).toEqual(new Set([200]));
    const lost = daemon.log.filter(({ event }) => event === "worker_lost");
    expect(lost.map(({ worker, signal }) => [worker, signal])).toEqual([
      [1, "SIGKILL"],
      [2, "SIGKILL"],
      [1, "SIGKILL"],
    ]);
    console.log(`${replies.length - sources.length} of ${replies.length} questions went with their worker`);
  } finally {
    await scene.operate((store) => store.revive("shop/1"));
  }
});

test("a kill that is committed while a worker is missing holds for its successor as well", async () => {
  await using daemon = await start();
  try {
    const replaced = replace(daemon, 1);
    await scene.operate((store) => store.kill("shop/1"));
    await replaced;
    const isKilled = async () => (await ask(daemon, "shop/1")).source === "EVALUATION_SOURCE_KILLED";
    await eventually(async () => (await isKilled()) && (await isKilled()) && (await isKilled()), PATIENTLY);
    const stop = new AbortController();
    const clients = [false, true, true].map((isNew) => keepAsking(daemon, isNew, stop.signal));
    await replace(daemon, 2);
    stop.abort();
    const replies = (await Promise.all(clients)).flat().filter((reply) => reply !== undefined);
    expect(new Set(replies.map(({ source }) => source))).toEqual(new Set(["EVALUATION_SOURCE_KILLED"]));
  } finally {
    await scene.operate((store) => store.revive("shop/1"));
  }
});

/** Asks again and again, and once more where no answer comes: that is undefined. */
async function keepAsking(daemon: TestDaemon, isAlwaysNew: boolean, stop: AbortSignal) {
  const replies: (TestEvaluation | undefined)[] = [];
  let client = openClient(daemon);
  while (!stop.aborted) {
    const reply = await client.ask("shop/1").catch(() => undefined);
    replies.push(reply);
    await setTimeout(5);
    if (reply !== undefined && !isAlwaysNew) continue;
    client.close();
    client = openClient(daemon);
  }
  client.close();
  return replies;
}

/** What /readyz says, over a new connection each time, where it says something. */
async function keepProbing(daemon: TestDaemon, stop: AbortSignal): Promise<readonly number[]> {
  const statuses: number[] = [];
  while (!stop.aborted) {
    const { status } = await get(daemon, "/readyz").catch(() => ({ status: 0 }));
    if (status !== 0) statuses.push(status);
    await setTimeout(5);
  }
  return statuses;
}

test("what has been counted adds up over the workers, and over one that is lost and its successor", async () => {
  await using daemon = await start();
  const before = await evaluations(daemon);
  for (let i = 0; i < 10; i++) await ask(daemon, "shop/1");
  expect(await evaluations(daemon)).toBe(before + 10);
  await replace(daemon, 1);
  expect(await evaluations(daemon)).toBe(before + 10);
  for (let i = 0; i < 10; i++) await ask(daemon, "shop/1");
  expect(await evaluations(daemon)).toBe(before + 20);
  const rpcs = await daemon.metric("pbflags_rpc_requests_total");
  // What workers ask of their primary is no call of anybody's.
  expect(Object.keys(rpcs).filter((labels) => labels.includes("pbflagd.v1"))).toEqual([]);
  const backends = Object.keys(await daemon.metric("pbflags_fetch_failures_total"));
  expect(backends.filter((labels) => !labels.includes('backend="db"'))).toEqual([]);
});

test("a worker that hangs holds up neither a scrape nor those who come", async () => {
  await using daemon = await start();
  const before = await evaluations(daemon);
  for (let i = 0; i < 6; i++) await ask(daemon, "shop/1");
  expect(await evaluations(daemon)).toBe(before + 6);
  const hung = pidOf(daemon, 1);
  process.kill(hung, "SIGSTOP");
  try {
    // One connection is in its hands; whoever comes after that is the other's.
    const asked = [ask(daemon, "shop/1"), ask(daemon, "shop/1")];
    await Promise.any(asked);
    const later = await Promise.all(Array.from({ length: 5 }, () => ask(daemon, "shop/1")));
    expect(later.map(({ value }) => value)).toEqual(Array(5).fill({ stringValue: "weekly" }));
    const { text } = await get(daemon, "/metrics");
    expect(
      Number(/^pbflags_evaluations_total\{source="global",status="ok"\} (\d+)$/m.exec(text)?.[1]),
    ).toBeGreaterThanOrEqual(6 + 5);
  } finally {
    process.kill(hung, "SIGCONT");
  }
});

test("SIGTERM at load: what runs is finished at every worker, and then nobody is let in", async () => {
  await using daemon = await start();
  const question = (n: number) => ({ flagId: "shop/1", entityId: n % 10 === 0 ? `drained-${n}` : "ann" });
  const loads = [http1Sender(daemon.port), http1Sender(daemon.port), http2Sender(daemon.port)].map((sender) =>
    startLoad({ requestsPerSecond: 20, ask: question, sender }),
  );
  await eventually(
    () => loads.every(({ replies, pendingCount }) => replies.length > 50 && pendingCount < 25),
    {
      ...PATIENTLY,
      what: "the daemon keeps up",
    },
  );
  const stoppedAt = performance.now();
  expect(await daemon.stop()).toBe(0);
  await setTimeout(50);
  const replies = (await Promise.all(loads.map((load) => load.stop()))).flat();
  const answered = replies.filter(({ failure }) => failure === undefined);
  expect(wrongReplies(answered)).toEqual(NONE);
  const refused = replies.filter(({ failure }) => failure !== undefined);
  const isRefusal = ({ failure }: Reply) => failure === "ECONNREFUSED" || failure === NOT_LET_IN;
  expect(few(refused.filter((reply) => !isRefusal(reply) || reply.sentAt < stoppedAt))).toEqual(NONE);
  for (const pid of pidsOf(daemon).values()) expect(await isAlive(pid)).toBe(false);
  expect(daemon.log.filter(({ level }) => level === "error")).toEqual([]);
});

test("when the primary is killed its workers end, and its port and socket can be had again", async () => {
  await using daemon = await startDaemon({
    args: [...serveArgs(database.url, scene), "--workers", "2", "--state-dir", join(folder, "state")],
  });
  await whenServing(daemon, 2);
  const pids = [...pidsOf(daemon).values()];
  daemon.kill("SIGKILL");
  await eventually(async () => !(await Promise.all(pids.map(isAlive))).some(Boolean), {
    ...PATIENTLY,
    what: "the workers have ended",
  });
  await daemon.exited;
  const told = daemon.log.filter(({ event }) => event === "primary_lost");
  expect(new Set(told.map(({ worker }) => worker))).toEqual(new Set([1, 2]));
  await using next = await startDaemon({
    args: [
      ...serveArgs(database.url, scene),
      ...["--workers", "2", "--state-dir", join(folder, "state"), "--listen", `127.0.0.1:${daemon.port}`],
    ],
  });
  await next.whenReady();
  expect(await readdir(join(folder, "state", "workers"))).toHaveLength(1);
});

test("a reload reaches every worker: descriptors, and the level of the log", async () => {
  const config = join(folder, "reload.yaml");
  const settle = (level: string) => writeFile(config, `log_level: ${level}\n`);
  await settle("info");
  const flagIds = async () => {
    const answers = await Promise.all(Array.from({ length: 4 }, () => ask(daemon, "shop/7")));
    return answers.map(({ value }) => JSON.stringify(value));
  };
  await using daemon = await start(["--config", config]);
  expect(await flagIds()).toEqual(Array(4).fill(undefined));
  const [feature] = shop;
  if (feature === undefined) throw new Error("Cannot happen");
  try {
    await scene.describe([
      { ...feature, flags: [...feature.flags, { number: 7, name: "fresh", type: "INT64", default: 9n }] },
    ]);
    await settle("debug");
    daemon.kill("SIGHUP");
    await expect
      .poll(flagIds, { timeout: 15_000, interval: 50 })
      .toEqual(Array(4).fill('{"int64Value":"9"}'));
    await eventually(
      () =>
        new Set(daemon.log.filter(({ event }) => event === "evaluated").map(({ worker }) => worker)).size ===
        2,
    );
  } finally {
    await scene.describe(shop);
  }
  // As a terminal's Ctrl-C or a service manager sends them to every process: what is done, the primary says.
  for (const pid of pidsOf(daemon).values())
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.kill(pid, signal);
  expect((await ask(daemon, "shop/1")).value).toEqual({ stringValue: "weekly" });
  expect(daemon.log.filter(({ event }) => event === "worker_lost")).toEqual([]);
});

test("where every request asks the store, it does so through the primary", async () => {
  await using daemon = await start([
    "--cache-flag-ttl",
    "0",
    "--cache-override-ttl",
    "0",
    "--cache-kill-ttl",
    "1h",
  ]);
  // Nobody is told: what is seen has been asked for.
  await scene.sql("ALTER TABLE feature_flags.flags DISABLE TRIGGER USER");
  try {
    for (const limit of ["11", "12", "13"]) {
      await scene.operate((store) => store.setValue("shop/3", limit));
      const answers = await Promise.all(Array.from({ length: 4 }, () => ask(daemon, "shop/3")));
      expect(answers.map(({ value }) => value)).toEqual(Array(4).fill({ int64Value: limit }));
    }
  } finally {
    await scene.sql("ALTER TABLE feature_flags.flags ENABLE TRIGGER USER");
    await scene.operate((store) => store.setValue("shop/3", "7"));
  }
});

test("while the database is away workers are not ready and answer; then they speak of it as one process would", async () => {
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  proxy.cut();
  await using daemon = await startDaemon({
    args: [...serveArgs(through(proxy, database.url), scene), "--workers", "2"],
  });
  await whenServing(daemon, 2);
  expect((await daemon.readiness()).word).toBe("starting");
  expect(await ask(daemon, "shop/1")).toMatchObject({ value: { stringValue: "daily" } });
  const health = async () => (await daemon.call("Health", {})).answer;
  expect(await health()).not.toMatchObject({ status: "EVALUATOR_STATUS_SERVING" });
  proxy.restore();
  await daemon.whenReady();
  expect(await ask(daemon, "shop/1")).toMatchObject({ value: { stringValue: "weekly" } });
  await expect.poll(health, { timeout: 10_000 }).toMatchObject({ status: "EVALUATOR_STATUS_SERVING" });

  proxy.cut();
  await expect.poll(health, { timeout: 20_000 }).toMatchObject({ status: "EVALUATOR_STATUS_DEGRADED" });
  expect(await daemon.metric("pbflags_health_status")).toMatchObject({ 'status="degraded"': 1 });
  expect(await ask(daemon, "shop/1")).toMatchObject({ value: { stringValue: "weekly" } });
  const { checks } = await daemon.readiness();
  expect(Object.keys(checks)).toEqual(["database", "state", "feed", "descriptors", "primary"]);
});

test("nobody says ready while a worker that takes connections does not know all", async () => {
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  proxy.cut();
  const stateDir = join(folder, "held-back");
  await using daemon = await startDaemon({
    args: [...serveArgs(through(proxy, database.url), scene), "--workers", "2", "--state-dir", stateDir],
  });
  await whenServing(daemon, 2);
  const [privateSocket = ""] = await readdir(join(stateDir, "workers"));
  const ofPrimary = { socketPath: join(stateDir, "workers", privateSocket) };
  const hung = pidOf(daemon, 2);
  process.kill(hung, "SIGSTOP");
  // One connection is in its hands; whoever comes after that is the other's.
  const asked = [ask(daemon, "shop/1"), ask(daemon, "shop/1")];
  try {
    await Promise.any(asked);
    proxy.restore();
    await eventually(async () => (await get(ofPrimary, "/readyz")).status === 200, PATIENTLY);
    // Its successor serves once it knows what the primary does.
    await replace(daemon, 1);
    expect((await ask(daemon, "shop/3")).value).toEqual({ int64Value: "7" });
    const { status, text } = await get(daemon, "/readyz");
    expect({ status, word: JSON.parse(text).status }).toEqual({ status: 503, word: "starting" });
  } finally {
    process.kill(hung, "SIGCONT");
  }
  await Promise.all(asked);
  await eventually(async () => (await get(daemon, "/readyz")).status === 200, PATIENTLY);
  const answers = await Promise.all(Array.from({ length: 4 }, () => ask(daemon, "shop/3")));
  expect(answers.map(({ value }) => value)).toEqual(Array(4).fill({ int64Value: "7" }));
});

test("no more connections are open than may be, at all workers together", async () => {
  const path = join(folder, "public.sock");
  const args = [...serveArgs(database.url, scene), "--workers", "2", "--limits-connections-max", "3"];
  await using daemon = await startDaemon({ args: [...args, "--listen", `unix://${path}`] });
  await whenServing(daemon, 2);
  const sockets: Socket[] = [];
  const isLetIn = async () => {
    const socket = connect(path);
    sockets.push(socket);
    return await answers(socket);
  };
  for (const expected of [true, true, true, false, false]) expect(await isLetIn()).toBe(expected);
  sockets[0]?.destroy();
  await eventually(isLetIn);
  for (const socket of sockets) socket.destroy();
  expect(await daemon.stop()).toBe(0);
  await expect(stat(path)).rejects.toThrow("ENOENT");
});

/** Whether a request over this connection is answered; it stays open. False: it is closed instead. */
function answers(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    socket.once("data", () => resolve(true));
    socket.once("close", () => resolve(false));
    // Closing follows.
    socket.on("error", () => {});
    socket.write("GET /healthz HTTP/1.1\r\nhost: here\r\n\r\n");
  });
}

test("a proxy's workers show its upstreams, and follow what they tell", async () => {
  await using root = await startDaemon({ args: serveArgs(database.url, scene) });
  await root.whenReady();
  await using daemon = await startDaemon({ args: ["--server", root.url, "--workers", "auto"] });
  await daemon.whenReady();
  const cores = availableParallelism();
  const serving = daemon.log.find(({ event }) => event === "serving");
  expect(serving?.["workers"]).toBe(cores === 1 ? undefined : cores);
  const list = async () => {
    const response = await fetch(`${daemon.url}/pbflagd.v1.UpstreamService/CheckUpstreams`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    return (await response.json()) as { upstreams: readonly { readonly name: string }[] };
  };
  const name = `127.0.0.1:${root.port}`;
  expect((await list()).upstreams.map((upstream) => upstream.name)).toEqual([name]);
  expect(Object.keys(await daemon.metric("pbflags_upstream_score"))).toEqual([`upstream="${name}"`]);
  const unknown = await fetch(`${daemon.url}/pbflagd.v1.UpstreamService/ResetUpstream`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"name":"nobody"}',
  });
  expect(await unknown.json()).toEqual({
    code: "not_found",
    message: `Cannot reset "nobody": no such upstream. There are: ${name}`,
  });
  await scene.operate((store) => store.kill("shop/2"));
  try {
    const sources = async () =>
      (await Promise.all(Array.from({ length: 4 }, () => ask(daemon, "shop/2")))).map(({ source }) => source);
    await expect.poll(sources, { timeout: 10_000 }).toEqual(Array(4).fill("EVALUATION_SOURCE_KILLED"));
  } finally {
    await scene.operate((store) => store.revive("shop/2"));
  }
});
