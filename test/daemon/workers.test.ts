import { mkdtemp, rm } from "node:fs/promises";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startDaemon, type TestDaemon, type TestEvaluation } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { EVALUATE_PATH } from "../support/load.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { isAlive, listProcesses } from "../support/process-tree.ts";
import { openScene, type Scene, serveArgs } from "./scene.ts";

let database: TestDatabase;
let scene: Scene;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  folder = await mkdtemp(join(tmpdir(), "pbflagd-workers-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

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
    timeoutMs: 30_000,
    what: `${count} workers serve`,
  });
}

/** The process of each worker that serves last, by its number. */
function pidsOf({ log }: TestDaemon): ReadonlyMap<number, number> {
  const serving = log.filter(({ event }) => event === "worker_serving");
  return new Map(serving.map(({ worker, pid }) => [Number(worker), Number(pid)]));
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
  for (const pid of pidsOf(daemon).values()) expect(await isAlive(pid)).toBe(false);
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
