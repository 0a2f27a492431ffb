import { randomBytes } from "node:crypto";
import { readFile, rm, stat } from "node:fs/promises";
import { connect } from "node:net";
import { userInfo } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { inject } from "vitest";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { type Binaries, findBinaries } from "../../src/store/embedded/binaries.ts";
import { type ClusterPaths, clusterPaths } from "../../src/store/embedded/data-folder.ts";
import { findFreePort } from "../../src/store/embedded/free-port.ts";
import {
  inspectPostmaster,
  type Launched,
  launchPostmaster,
  stopPostmaster,
} from "../../src/store/embedded/postmaster.ts";
import type { Account } from "../../src/store/embedded/programs.ts";
import { systemClock } from "../../src/system/clock.ts";
import { eventually } from "./eventually.ts";
import { killTree, signalTree } from "./process-tree.ts";
import { copyDatabase, type SharedServer } from "./shared-server.ts";

export interface TestDatabase extends AsyncDisposable {
  readonly url: string;
}

/** A database of the test's own, on the server that all tests share. Disposing drops it, whoever is connected. */
export async function createTestDatabase(
  options: { /** With our schema in it; true unless set. */ readonly migrated?: boolean } = {},
): Promise<TestDatabase> {
  const { migrated = true } = options;
  const server = await askForServer();
  const name = `test_${randomBytes(6).toString("hex")}`;
  await administer(server, async (database) => {
    // Copying a database fails while somebody else is connected to it, be it to copy it as well.
    await database.query("SELECT pg_advisory_lock(1)");
    await database.query(
      `CREATE DATABASE ${name} TEMPLATE ${migrated ? databaseOf(server.url) : "template0"}`,
    );
  });
  return {
    url: withDatabase(server.url, name),
    [Symbol.asyncDispose]: () =>
      administer(server, async (database) => {
        await database.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
      }),
  };
}

async function administer(server: SharedServer, run: (database: Database) => Promise<void>): Promise<void> {
  await using database = await connectDatabase({ url: withDatabase(server.url, "postgres") });
  await run(database);
}

function withDatabase(url: string, name: string): string {
  return Object.assign(new URL(url), { pathname: `/${name}` }).href;
}

function databaseOf(url: string): string {
  return new URL(url).pathname.slice(1);
}

let asked: Promise<SharedServer> | undefined;

function askForServer(): Promise<SharedServer> {
  asked ??= (async () => {
    const answer: unknown = JSON.parse(await text(connect(inject("databasesPort"), "127.0.0.1")));
    if (isSharedServer(answer)) return answer;
    throw new Error(`Cannot start Postgres for the tests: ${JSON.stringify(answer)}`);
  })();
  return asked;
}

function isSharedServer(answer: unknown): answer is SharedServer {
  return typeof answer === "object" && answer !== null && "url" in answer && "template" in answer;
}

/** A whole Postgres that a test may break, with a migrated database. */
export interface TestPostgres extends AsyncDisposable {
  /** Stays the same however often it is stopped and started. */
  readonly url: string;
  readonly port: number;
  /** Of the server's main process. Throws while it does not run. */
  readonly pid: number;
  /** Ends it in good order: connections are told. */
  stop(): Promise<void>;
  /** Starts it on the same data and port. */
  start(): Promise<void>;
  /** Halts it, with all its processes: connections stay open, and nothing is answered. */
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  /** Ends it as a crash would. */
  kill(): Promise<void>;
}

export async function openTestPostgres(): Promise<TestPostgres> {
  const { template } = await askForServer();
  const dataDir = join(inject("runFolder"), `own-${randomBytes(6).toString("hex")}`);
  await copyDatabase(template, dataDir);
  const paths = clusterPaths(join(dataDir, "postgres"));
  const { uid, gid } = await stat(paths.cluster);
  const account = userInfo().uid === 0 ? { uid, gid } : undefined;
  const binaries = await findBinaries({
    binaries: "npm",
    searchPath: "",
    dataMajor: undefined,
    account,
    dataDir,
  });
  const port = await findFreePort(undefined);
  const password = await readFile(paths.password, "utf8");
  const url = `postgres://pbflagd:${password}@127.0.0.1:${port}/pbflagd`;
  const server = new OwnServer({ dataDir, url, port, paths, binaries, account });
  await server.start();
  return server;
}

interface OwnServerOptions {
  readonly dataDir: string;
  readonly url: string;
  readonly port: number;
  readonly paths: ClusterPaths;
  readonly binaries: Binaries;
  readonly account: Account | undefined;
}

const NO_SYNC = { fsync: "off", full_page_writes: "off" } as const;

class OwnServer implements TestPostgres {
  readonly url: string;
  readonly port: number;
  readonly #options: OwnServerOptions;
  #running: Launched | undefined;

  constructor(options: OwnServerOptions) {
    this.url = options.url;
    this.port = options.port;
    this.#options = options;
  }

  get pid(): number {
    const pid = this.#running?.pid;
    if (pid === undefined) throw new Error("Cannot tell the server's pid: it does not run");
    return pid;
  }

  async start(): Promise<void> {
    const { paths, binaries, account, port } = this.#options;
    const launched = await launchPostmaster(paths, { binaries, account, port, settings: NO_SYNC });
    this.#running = launched;
    await eventually(
      async () => {
        if (launched.hasEnded) throw new Error(`Cannot start Postgres: ${await launched.readLastWords()}`);
        const found = await inspectPostmaster(paths);
        return found.kind === "ready" && found.pid === launched.pid;
      },
      { what: `Postgres on port ${port} is ready`, timeoutMs: 30_000 },
    );
  }

  async stop(): Promise<void> {
    await this.thaw();
    await stopPostmaster(this.#options.paths, this.pid, { ...this.#options, clock: systemClock });
    this.#running = undefined;
  }

  async freeze(): Promise<void> {
    await signalTree(this.pid, "SIGSTOP");
  }

  async thaw(): Promise<void> {
    await signalTree(this.pid, "SIGCONT");
  }

  async kill(): Promise<void> {
    await killTree(this.pid);
    this.#running = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#running !== undefined && !this.#running.hasEnded) await this.kill();
    await rm(this.#options.dataDir, { recursive: true, force: true });
  }
}
