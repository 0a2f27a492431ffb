import { readFile } from "node:fs/promises";
import type { Clock } from "../../system/clock.ts";
import { type Binaries, findBinaries } from "./binaries.ts";
import { type ClusterPaths, type DataFolder, findCluster, openDataFolder, pathsOf } from "./data-folder.ts";
import { EmbeddedPostgresError, reasonOf } from "./embedded-error.ts";
import { initializeCluster, readDataMajor, USER } from "./initialize.ts";
import { type EmbeddedEvent, keepRunning } from "./keep-running.ts";
import { DATABASE } from "./keeper.ts";
import { inspectPostmaster } from "./postmaster.ts";
import { removeAbandoned } from "./system-folder.ts";
import { type Server, takeOver } from "./take-over.ts";

export { EmbeddedPostgresError } from "./embedded-error.ts";
export type { EmbeddedEvent } from "./keep-running.ts";

export interface EmbeddedPostgresOptions {
  /** Created if it is missing. */
  readonly dataDir: string;
  readonly clock: Clock;
  readonly onEvent?: (event: EmbeddedEvent) => void;
  /** The PATH to look for `postgres` on; empty: Debian's folder and the npm package only. */
  readonly searchPath?: string;
  /** `auto` (the default): the machine's own programs before those of the npm package. */
  readonly binaries?: "auto" | "npm";
  /** The number of this process; tells a second one who is in its way. */
  readonly ownerPid?: number;
  /** Do not wait for the disk. For tests: a crash of the machine loses data. */
  readonly noSync?: boolean;
  /** Postgres settings beyond our own. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface EmbeddedPostgres extends AsyncDisposable {
  /** `postgres://…` with the password, on loopback. */
  readonly url: string;
  /** Of Postgres: 18. */
  readonly major: number;
  /** The server was running already, left by a process that was killed. */
  readonly adopted: boolean;
  /** Where the data really lies. Not under `dataDir` if Postgres's account cannot get there. */
  readonly folder: string;
}

/**
 * Runs a real Postgres on a folder until it is disposed: started again if it dies, adopted if it survived us.
 *
 * @throws EmbeddedPostgresError
 */
export async function openEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { onEvent = () => {} } = options;
  const server = await prepareServer(options, onEvent);
  const ending = new AbortController();
  const taken = await takeOver(server, { signal: ending.signal });
  onEvent({ kind: taken.adopted ? "adopted" : "started", port: taken.port });
  const watching = keepRunning(server, taken, { onEvent, signal: ending.signal });
  return {
    url: formatUrl(server.password, taken.port),
    major: server.binaries.major,
    adopted: taken.adopted,
    folder: server.paths.root,
    async [Symbol.asyncDispose]() {
      if (ending.signal.aborted) return;
      ending.abort();
      await watching;
      onEvent({ kind: "stopped" });
    },
  };
}

/** The URL of the server that runs on a data directory; undefined if none does. */
export async function readEmbeddedUrl(dataDir: string): Promise<string | undefined> {
  try {
    const paths = await findCluster(dataDir);
    if (paths === undefined) return undefined;
    const found = await inspectPostmaster(paths);
    return found.kind === "ready" ? formatUrl(await readPassword(paths), found.port) : undefined;
  } catch (error) {
    throw new EmbeddedPostgresError(`Cannot look into data directory ${dataDir}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

async function prepareServer(
  options: EmbeddedPostgresOptions,
  onEvent: (event: EmbeddedEvent) => void,
): Promise<Server> {
  const { clock, ownerPid, noSync = false } = options;
  const folder = await openDataFolder(options.dataDir, clock.wallNow());
  const paths = pathsOf(folder);
  await removeAbandoned(folder.home, clock.wallNow());
  const binaries = await chooseBinaries(options, folder, paths);
  if ((await readDataMajor(paths)) === undefined) {
    await initializeCluster(paths, { binaries, account: folder.account, noSync });
    onEvent({ kind: "initialized", folder: paths.root });
  }
  return {
    dataDir: folder.dataDir,
    paths,
    binaries,
    account: folder.account,
    password: await readPassword(paths),
    settings: { ...(noSync ? NO_SYNC : {}), ...options.settings },
    ownerPid,
    clock,
  };
}

/** What is committed still survives the end of any process: only the machine's own would lose it. */
const NO_SYNC = { fsync: "off", full_page_writes: "off" } as const;

async function chooseBinaries(
  options: EmbeddedPostgresOptions,
  folder: DataFolder,
  paths: ClusterPaths,
): Promise<Binaries> {
  const { binaries = "auto", searchPath = "" } = options;
  return findBinaries({
    binaries,
    searchPath,
    account: folder.account,
    dataMajor: await readDataMajor(paths),
    dataDir: folder.dataDir,
  });
}

async function readPassword(paths: ClusterPaths): Promise<string> {
  return (await readFile(paths.password, "utf8")).trim();
}

function formatUrl(password: string, port: number): string {
  return `postgres://${USER}:${password}@127.0.0.1:${port}/${DATABASE}`;
}
