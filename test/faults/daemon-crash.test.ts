import { randomInt } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, inject, test } from "vitest";
import { createAdminStore } from "../../src/store/admin-store.ts";
import { connectDatabase } from "../../src/store/database.ts";
import { readEmbeddedUrl } from "../../src/store/embedded/embedded-postgres.ts";
import { type Dev, startDev } from "../development/start-dev.ts";
import { embeddedServersOn } from "../support/embedded-servers.ts";
import { evaluateAt } from "../support/evaluate-at.ts";
import { eventually } from "../support/eventually.ts";
import { killTree } from "../support/process-tree.ts";
import { size } from "../support/size.ts";

// Fault 14: kill -9 the daemon, again and again, while an operator writes. Of the embedded database alone, at any moment
// of its start too, embedded-crash.test.ts.

const ROUNDS = size(6, 200);
/** In every so many rounds the database server is killed as well. */
const SERVER_KILLED_EVERY = 5;
const FLAG = "notifications/1";
const KILLED_FLAG = "notifications/2";

/** What the database has acknowledged. */
interface Written {
  readonly overrides: Map<string, boolean>;
  /** Undefined: the answer to the last change did not come. */
  killed: boolean | undefined;
}

test(`${ROUNDS} daemons killed while an operator writes lose nothing that was acknowledged`, async () => {
  const dataDir = await mkdtemp(join(inject("runFolder"), "daemon-crash-"));
  // Whoever Postgres runs as must get through.
  await chmod(dataDir, 0o711);
  const written: Written = { overrides: new Map(), killed: false };
  let survivor: number | undefined;
  try {
    for (let round = 1; round <= ROUNDS; round++) {
      const what = `round ${round}`;
      await using dev = startDev({ args: ["--listen", "127.0.0.1:0", "--data-dir", dataDir] });
      const port = await dev.whenServing();
      const started = dev.log.filter(({ event }) => /^database_(adopted|started)$/.test(event));
      expect(started, what).toEqual([
        expect.objectContaining({ event: survivor === undefined ? "database_started" : "database_adopted" }),
      ]);
      const server = await theOnlyServer(dataDir);
      expect(server, what).toBe(survivor ?? server);
      await expectAnswers(port, written, what);

      await using writing = await startWriting(dataDir, written);
      const enough = randomInt(1, 40);
      await eventually(() => writing.count >= enough, { what: `${what}: ${enough} writes` });
      dev.kill("SIGKILL");
      await dev.ended;
      if (round % SERVER_KILLED_EVERY === 0) await killTree(server);
      survivor = round % SERVER_KILLED_EVERY === 0 ? undefined : server;
    }

    await using dev = startDev({ args: ["--listen", "127.0.0.1:0", "--data-dir", dataDir] });
    await expectAnswers(await dev.whenServing(), written, "at the end");
    await using database = await connectDatabase({ url: await urlOf(dataDir) });
    const found = await createAdminStore(database, { actor: "tester" }).overrides({ flag: FLAG });
    const stored = new Map(found.map(({ entityId, value }) => [entityId, JSON.stringify(value)]));
    const lost = [...written.overrides].filter(([entityId]) => !stored.has(entityId));
    expect(lost).toEqual([]);
    expect(written.overrides.size).toBeGreaterThan(ROUNDS);
    await end(dev);
    expect(await embeddedServersOn(dataDir)).toEqual([]);
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 });
  }
}, 900_000);

async function theOnlyServer(dataDir: string): Promise<number> {
  const [server, ...others] = await embeddedServersOn(dataDir);
  expect(others).toEqual([]);
  if (server === undefined) throw new Error("Cannot find the database server");
  return server;
}

async function urlOf(dataDir: string): Promise<string> {
  const url = await readEmbeddedUrl(dataDir);
  if (url === undefined) throw new Error("Cannot find the embedded database");
  return url;
}

async function end(dev: Dev): Promise<void> {
  dev.kill("SIGTERM");
  expect(await dev.ended).toBe(0);
}

/** It may be about to read what was written last before it started. */
async function expectAnswers(port: number, { overrides, killed }: Written, what: string): Promise<void> {
  const url = `http://127.0.0.1:${port}`;
  // The last ones are those that a crash would take.
  for (const [entityId, value] of [...overrides].slice(-5)) {
    await eventually(
      async () => (await evaluateAt(url, { flagId: FLAG, entityId })).answer.value?.["boolValue"] === value,
      { what: `${what}: ${entityId} has ${value}` },
    );
  }
  if (killed === undefined) return;
  await eventually(
    async () =>
      ((await evaluateAt(url, { flagId: KILLED_FLAG })).answer.source === "EVALUATION_SOURCE_KILLED") ===
      killed,
    { what: `${what}: killed is ${killed}` },
  );
}

/** Writes without a pause until the database is gone or it is disposed of. */
async function startWriting(
  dataDir: string,
  written: Written,
): Promise<AsyncDisposable & { readonly count: number }> {
  const database = await connectDatabase({ url: await urlOf(dataDir) });
  const store = createAdminStore(database, { actor: "tester" });
  const stop = new AbortController();
  let count = 0;

  async function write(): Promise<void> {
    while (!stop.signal.aborted) {
      const entityId = `user-${written.overrides.size}`;
      const value = written.overrides.size % 3 === 0;
      await store.setOverride(FLAG, entityId, String(value));
      written.overrides.set(entityId, value);
      if (count % 7 === 3) await toggleKill();
      count += 1;
    }
  }

  async function toggleKill(): Promise<void> {
    const kills = written.killed !== true;
    written.killed = undefined;
    if (kills) await store.kill(KILLED_FLAG);
    else await store.revive(KILLED_FLAG);
    written.killed = kills;
  }

  const writing = write().catch(() => {});
  return {
    get count() {
      return count;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await writing;
      await database[Symbol.asyncDispose]();
    },
  };
}
