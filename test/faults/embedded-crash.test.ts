import { randomInt } from "node:crypto";
import { chmod, mkdtemp, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { connectDatabase } from "../../src/store/database.ts";
import { readEmbeddedUrl } from "../../src/store/embedded/embedded-postgres.ts";
import { bundleScript, linkPackages } from "../support/bundle.ts";
import { embeddedServersOn } from "../support/embedded-servers.ts";
import { eventually } from "../support/eventually.ts";
import { OwnerProcess } from "../support/owner-process.ts";
import { isAlive, killTree } from "../support/process-tree.ts";
import { size } from "../support/size.ts";

// Fault 14: kill -9 the process that has an embedded database in its care, again and again, while it writes.

const ROUNDS = size(10, 200);
/** In every so many rounds the server is killed as well. */
const SERVER_KILLED_EVERY = 5;

let folder: string;
let script: string;

beforeAll(async () => {
  folder = await mkdtemp(join(inject("runFolder"), "crash-"));
  // Whoever Postgres runs as must get through.
  await chmod(folder, 0o711);
  await linkPackages(folder);
  script = await bundleScript(
    new URL("../support/embedded-owner.ts", import.meta.url),
    join(folder, "owner"),
  );
});

afterAll(() => rm(folder, { recursive: true, force: true }));

test(`no acknowledged write is lost in ${ROUNDS} rounds, and there is one server at most`, async () => {
  const dataDir = newDataDir();
  const acknowledged = new Set<number>();
  let nextRow = 1;
  let survivor: number | undefined;
  for (let round = 1; round <= ROUNDS; round++) {
    await using owner = new OwnerProcess(script, { dataDir, binaries: "npm", writeFrom: nextRow });
    const { adopted } = await owner.opened();
    expect(adopted, `round ${round}`).toBe(survivor !== undefined);
    const pid = await theOnlyServer();
    expect(pid).toBe(survivor ?? pid);
    // Not always at the same place of a write.
    const enough = randomInt(1, 60);
    await eventually(() => owner.words.length > enough);
    await owner.end("SIGKILL");
    if (round % SERVER_KILLED_EVERY === 0) await killTree(pid);
    survivor = (await isAlive(pid)) ? pid : undefined;
    for (const word of owner.words) if (word.kind === "written") acknowledged.add(word.row);
    nextRow = Math.max(...acknowledged) + 1_000;
  }

  await using last = new OwnerProcess(script, { dataDir, binaries: "npm" });
  const { url } = await last.opened();
  const found = await readRows(url);
  expect([...acknowledged].filter((row) => !found.has(row))).toEqual([]);
  expect(acknowledged.size).toBeGreaterThan(ROUNDS);
  const pid = await theOnlyServer();
  await last.end("SIGTERM");
  await eventually(async () => !(await isAlive(pid)));
  expect(await readEmbeddedUrl(dataDir)).toBeUndefined();
  expect(await readdir(dataDir)).toEqual(["postgres"]);
}, 600_000);

test("killed at any moment of the first start, it leaves nothing that stops the next", async () => {
  for (let round = 1; round <= size(4, 40); round++) {
    const dataDir = newDataDir();
    await using owner = new OwnerProcess(script, { dataDir, binaries: "npm", noSync: true });
    const killAfter = randomInt(0, 1_200);
    const startedAt = performance.now();
    await eventually(() => performance.now() - startedAt > killAfter);
    await owner.end("SIGKILL");
    await using next = new OwnerProcess(script, { dataDir, binaries: "npm", noSync: true });
    const { url } = await next.opened();
    expect(await query(url, "SELECT 1 AS one"), `killed after ${killAfter} ms`).toEqual([{ one: 1 }]);
    await theOnlyServer();
    await next.end("SIGTERM");
    await eventually(async () => (await servers()).length === 0);
    await rm(dataDir, { recursive: true, force: true, maxRetries: 10 });
  }
}, 600_000);

test("Ctrl-C in the terminal does not reach the server: its owner ends it in order, or it is adopted", async () => {
  const dataDir = newDataDir();
  await using first = new OwnerProcess(script, { dataDir, binaries: "npm", noSync: true });
  await first.opened();
  const pid = await theOnlyServer();
  // This owner dies of it, as one would that is in the middle of something.
  await first.end("SIGINT", "group");
  expect(await isAlive(pid)).toBe(true);
  await using second = new OwnerProcess(script, { dataDir, binaries: "npm", noSync: true });
  expect((await second.opened()).adopted).toBe(true);
  await second.end("SIGTERM");
  await eventually(async () => !(await isAlive(pid)));
});

function newDataDir(): string {
  return join(folder, `data-${randomInt(2 ** 40)}`);
}

async function query(url: string, text: string): Promise<readonly object[]> {
  await using database = await connectDatabase({ url });
  return (await database.query(text)).rows;
}

async function readRows(url: string): Promise<ReadonlySet<number>> {
  await using database = await connectDatabase({ url });
  const { rows } = await database.query<{ row: number }>("SELECT row FROM written");
  return new Set(rows.map(({ row }) => row));
}

/** Main processes of servers on any data directory of this test. */
async function servers(): Promise<readonly number[]> {
  const found: number[] = [];
  for (const name of (await readdir(folder)).filter((entry) => entry.startsWith("data-"))) {
    found.push(...(await embeddedServersOn(join(folder, name))));
  }
  return found;
}

async function theOnlyServer(): Promise<number> {
  const found = await servers();
  expect(found.length).toBe(1);
  return found[0] ?? 0;
}
