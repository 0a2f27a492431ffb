import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { describe, expect, inject, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { isAlive, killTree } from "../../../test/support/process-tree.ts";
import { systemClock } from "../../system/clock.ts";
import { connectDatabase } from "../database.ts";
import { clusterPaths } from "./data-folder.ts";
import {
  type EmbeddedEvent,
  EmbeddedPostgresError,
  type EmbeddedPostgresOptions,
  openEmbeddedPostgres,
  readEmbeddedUrl,
} from "./embedded-postgres.ts";

const isRoot = userInfo().uid === 0;
let folders = 0;

/** A data directory that does not exist yet. The run's folder is removed with all servers in it. */
function newDataDir(): string {
  folders += 1;
  return join(inject("runFolder"), `embedded-${process.pid}-${folders}`);
}

function open(dataDir: string, options: Partial<EmbeddedPostgresOptions> = {}) {
  return openEmbeddedPostgres({ dataDir, clock: systemClock, binaries: "npm", noSync: true, ...options });
}

async function query(url: string, text: string): Promise<readonly object[]> {
  await using database = await connectDatabase({ url });
  return (await database.query(text)).rows;
}

async function postmasterPid(folder: string): Promise<number> {
  return Number.parseInt(await readFile(join(clusterPaths(folder).cluster, "postmaster.pid"), "utf8"), 10);
}

test("a database is made on the first start, and found again on the next, at the same address", async () => {
  const dataDir = newDataDir();
  const events: string[] = [];
  const onEvent = ({ kind }: EmbeddedEvent) => events.push(kind);
  let url: string;
  let pid: number;
  {
    await using first = await open(dataDir, { onEvent });
    ({ url } = first);
    pid = await postmasterPid(first.folder);
    expect(first).toMatchObject({ major: 18, adopted: false });
    expect(url).toMatch(/^postgres:\/\/pbflagd:[\w-]{24}@127\.0\.0\.1:\d+\/pbflagd$/);
    expect(await readEmbeddedUrl(dataDir)).toBe(url);
    await query(url, "CREATE TABLE kept AS SELECT 'naïve' AS word");
  }
  // Its entry in the table of processes may outlive its program for a moment.
  await eventually(async () => !(await isAlive(pid)));
  expect(await readEmbeddedUrl(dataDir)).toBeUndefined();
  {
    await using second = await open(dataDir, { onEvent });
    expect(second.url).toBe(url);
    expect(await query(url, "SELECT word FROM kept")).toEqual([{ word: "naïve" }]);
  }
  expect(events).toEqual(["initialized", "started", "stopped", "started", "stopped"]);
});

test("it listens on loopback only, wants its password, and reaches the disk before it answers", async () => {
  await using embedded = await open(newDataDir(), { noSync: false });
  const settings = await query(
    embedded.url,
    `SELECT name, setting FROM pg_settings
     WHERE name IN ('listen_addresses', 'unix_socket_directories', 'fsync', 'synchronous_commit', 'server_encoding') ORDER BY name`,
  );
  expect(settings).toEqual([
    { name: "fsync", setting: "on" },
    { name: "listen_addresses", setting: "127.0.0.1" },
    { name: "server_encoding", setting: "UTF8" },
    { name: "synchronous_commit", setting: "on" },
    { name: "unix_socket_directories", setting: "" },
  ]);
  const wrong = Object.assign(new URL(embedded.url), { password: "guess" }).href;
  await expect(query(wrong, "SELECT 1")).rejects.toThrow(/password authentication failed/);
  expect((await stat(join(embedded.folder, "password"))).mode & 0o777).toBe(0o600);
});

test("a folder without a database has no URL", async () => {
  expect(await readEmbeddedUrl(newDataDir())).toBeUndefined();
});

describe("two at once", () => {
  test("the second on one folder is told who has it, and leaves the first alone", async () => {
    const dataDir = newDataDir();
    await using first = await open(dataDir, { ownerPid: 4711 });
    const second = open(dataDir);
    await expect(second).rejects.toThrow(EmbeddedPostgresError);
    await expect(second).rejects.toThrow(
      `Cannot use data directory ${dataDir}: it is in use by another pbflagd (pid 4711)`,
    );
    expect(await query(first.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });

  test("of many that start at the same moment on a new folder one has it, with one server", async () => {
    const dataDir = newDataDir();
    const results = await Promise.allSettled(Array.from({ length: 4 }, () => open(dataDir)));
    const won = results.filter((result) => result.status === "fulfilled");
    const lost = results.filter((result) => result.status === "rejected");
    expect([won.length, lost.length]).toEqual([1, 3]);
    for (const { reason } of lost) expect(String(reason)).toMatch(/in use by another pbflagd/);
    const pid = await postmasterPid(won[0]?.value.folder ?? "");
    expect(await query(won[0]?.value.url ?? "", "SELECT 1 AS one")).toEqual([{ one: 1 }]);
    await won[0]?.value[Symbol.asyncDispose]();
    // Its entry in the table of processes may outlive its program for a moment.
    await eventually(async () => !(await isAlive(pid)));
    expect(await readdir(dataDir)).toEqual(["postgres"]);
  });

  test("one that starts while another ends waits for it", async () => {
    const dataDir = newDataDir();
    const first = await open(dataDir);
    const ending = first[Symbol.asyncDispose]();
    await using second = await open(dataDir);
    await ending;
    expect(second.adopted).toBe(false);
    expect(await query(second.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  });
});

describe("a server that dies", () => {
  test("is started again, at the same address", async () => {
    const events: string[] = [];
    await using embedded = await open(newDataDir(), { onEvent: ({ kind }) => events.push(kind) });
    await query(embedded.url, "CREATE TABLE kept (n int)");
    for (let round = 1; round <= 2; round++) {
      await killTree(await postmasterPid(embedded.folder));
      await eventually(() => events.filter((kind) => kind === "restarted").length === round);
      expect(await query(embedded.url, "SELECT count(*)::int AS n FROM kept")).toEqual([{ n: 0 }]);
    }
    expect(events.filter((kind) => kind === "lost").length).toBe(2);
  });

  test("is not started again by an owner that is about to end", async () => {
    const embedded = await open(newDataDir());
    await killTree(await postmasterPid(embedded.folder));
    await embedded[Symbol.asyncDispose]();
    expect(await readEmbeddedUrl(join(embedded.folder, ".."))).toBeUndefined();
    await expect(query(embedded.url, "SELECT 1")).rejects.toThrow(/ECONNREFUSED/);
  });

  test("is kept when only our connection to it was ended", async () => {
    const events: string[] = [];
    await using embedded = await open(newDataDir(), { onEvent: ({ kind }) => events.push(kind) });
    const pid = await postmasterPid(embedded.folder);
    await query(
      embedded.url,
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    await eventually(() => events.includes("restarted"));
    expect(await postmasterPid(embedded.folder)).toBe(pid);
  });
});

describe("a lock file that is no longer true", () => {
  async function leaveLockFile(dataDir: string, pid: number): Promise<void> {
    let lockFile: string;
    let cluster: string;
    {
      await using embedded = await open(dataDir);
      ({ cluster } = clusterPaths(embedded.folder));
      lockFile = await readFile(join(cluster, "postmaster.pid"), "utf8");
    }
    const path = join(cluster, "postmaster.pid");
    await writeFile(path, lockFile.replace(/^\d+/, String(pid)), { mode: 0o600 });
    if (isRoot) await chown(path, 65_534, 65_534);
  }

  test("names a process that is gone: the database starts", async () => {
    const dataDir = newDataDir();
    await leaveLockFile(dataDir, 4_000_000);
    expect(await readEmbeddedUrl(dataDir)).toBeUndefined();
    await using embedded = await open(dataDir);
    expect(embedded.adopted).toBe(false);
  });

  test("names another program of the same user: the database starts, and the program is left alone", async () => {
    const account = isRoot ? { uid: 65_534, gid: 65_534 } : {};
    const program = spawn("sleep", ["60"], { ...account, stdio: "ignore" });
    await once(program, "spawn");
    try {
      const dataDir = newDataDir();
      await leaveLockFile(dataDir, program.pid ?? 0);
      expect(await readEmbeddedUrl(dataDir)).toBeUndefined();
      await using embedded = await open(dataDir);
      expect(embedded.adopted).toBe(false);
      expect(await isAlive(program.pid ?? 0)).toBe(true);
    } finally {
      program.kill();
      await once(program, "exit");
    }
  });
});

describe("what cannot be", () => {
  test("a folder that may not be written to is named", async () => {
    const parent = isRoot ? "/sys" : await mkdtemp(join(inject("runFolder"), "closed-"));
    if (!isRoot) await chmod(parent, 0o555);
    const dataDir = join(parent, "data");
    await expect(open(dataDir)).rejects.toThrow(
      new RegExp(
        `^Cannot use data directory ${dataDir}: (no (write )?permission|the file system is read-only)$`,
      ),
    );
  });

  test("a path that leads through a file is named", async () => {
    const file = newDataDir();
    await writeFile(file, "");
    await expect(open(file)).rejects.toThrow(`Cannot use data directory ${file}: it is a file`);
    await expect(open(join(file, "data"))).rejects.toThrow(/a part of its path is a file/);
    await rm(file);
  });

  test("a setting that Postgres refuses is told in its words, and nothing is left running", async () => {
    const dataDir = newDataDir();
    await expect(open(dataDir, { settings: { shared_buffers: "much" } })).rejects.toThrow(
      /^Cannot start embedded Postgres in \S+: invalid value for parameter "shared_buffers": "much"/,
    );
    expect(await readEmbeddedUrl(dataDir)).toBeUndefined();
    await using embedded = await open(dataDir);
    expect(embedded.adopted).toBe(false);
  });

  test("data of another major version is refused, naming both", async () => {
    const dataDir = newDataDir();
    let folder: string;
    {
      await using embedded = await open(dataDir);
      ({ folder } = embedded);
    }
    await writeFile(join(clusterPaths(folder).cluster, "PG_VERSION"), "13\n");
    await expect(open(dataDir)).rejects.toThrow(
      /its data was written by Postgres 13, found only Postgres 18 in .*native.bin/,
    );
  });
});

test("what a start left that was killed before it was done is removed in time, and does not matter until then", async () => {
  const dataDir = newDataDir();
  const left = { old: "postgres.unfinished-0123456789ab", young: "postgres.unfinished-ba9876543210" };
  for (const name of Object.values(left)) {
    await mkdir(join(dataDir, name, "cluster"), { recursive: true });
    await writeFile(join(dataDir, name, "cluster", "PG_VERSION"), "18\n");
  }
  const anHourAgo = new Date(Date.now() - 3_600_000);
  await utimes(join(dataDir, left.old), anHourAgo, anHourAgo);
  await using embedded = await open(dataDir);
  expect(await query(embedded.url, "SELECT 1 AS one")).toEqual([{ one: 1 }]);
  expect((await readdir(dataDir)).toSorted()).toEqual(["postgres", left.young]);
});
