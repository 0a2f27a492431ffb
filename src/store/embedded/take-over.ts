import { chown, readFile, writeFile } from "node:fs/promises";
import type { Clock } from "../../system/clock.ts";
import type { Binaries } from "./binaries.ts";
import type { ClusterPaths } from "./data-folder.ts";
import { EmbeddedPostgresError, reasonOf } from "./embedded-error.ts";
import { findFreePort } from "./free-port.ts";
import { isPassing, type Keeper, openKeeper } from "./keeper.ts";
import {
  disarmLockFile,
  inspectPostmaster,
  type Launched,
  launchPostmaster,
  type Postmaster,
  stopPostmaster,
} from "./postmaster.ts";
import type { Account } from "./programs.ts";

/** A cluster and all that is needed to run a server on it. */
export interface Server {
  readonly dataDir: string;
  readonly paths: ClusterPaths;
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  readonly password: string;
  /** Settings beyond those that every embedded server has. */
  readonly settings: Readonly<Record<string, string>>;
  /** Of this process, for others to read. */
  readonly ownerPid: number | undefined;
  readonly clock: Clock;
}

/** A server that is in our care. */
export interface TakenOver {
  readonly keeper: Keeper;
  readonly pid: number;
  readonly port: number;
  /** It was running already. */
  readonly adopted: boolean;
}

/** Recovering after a crash takes Postgres a while. */
const GIVE_UP_AFTER_MS = 60_000;
/** A server takes a moment to notice that the process which had it in its care is gone. */
const TAKEN_FOR_MS = 2_000;
const CONNECT_TIMEOUT_MS = 5_000;
const POLL_MS = 20;

export interface TakeOverOptions {
  /** The only port that will do; otherwise the last one if it is free, else any. */
  readonly port?: number;
  readonly signal: AbortSignal;
}

/**
 * Adopts the server that runs on the cluster, or starts one, and takes it into our care. Of several who
 * try at once one succeeds, and the others reject. If it rejects, nothing that it started is left running.
 */
export async function takeOver(server: Server, options: TakeOverOptions): Promise<TakenOver> {
  const attempt = new Attempt(server, options);
  try {
    return await attempt.run();
  } catch (error) {
    if (!(error instanceof TakenError)) await attempt.undo();
    throw error;
  }
}

/** Somebody else has the server in his care; it is not ours to stop, even if we started it. */
class TakenError extends EmbeddedPostgresError {}

class Attempt {
  readonly #server: Server;
  readonly #options: TakeOverOptions;
  readonly #startedAt: number;
  #launched: Launched | undefined;
  #takenSince: number | undefined;
  #portTaken = false;
  #waitingFor = "it to start";

  constructor(server: Server, options: TakeOverOptions) {
    this.#server = server;
    this.#options = options;
    this.#startedAt = server.clock.now();
  }

  async run(): Promise<TakenOver> {
    const { clock, dataDir } = this.#server;
    for (;;) {
      this.#options.signal.throwIfAborted();
      const taken = await this.#step(await inspectPostmaster(this.#server.paths));
      if (taken !== undefined) return taken;
      if (clock.now() - this.#startedAt > GIVE_UP_AFTER_MS) {
        throw new EmbeddedPostgresError(
          `Cannot start embedded Postgres in ${dataDir}: waited ${GIVE_UP_AFTER_MS / 1000} s for ${this.#waitingFor}`,
        );
      }
      await clock.sleep(POLL_MS, this.#options.signal);
    }
  }

  /** Ends what we started. */
  async undo(): Promise<void> {
    const { paths } = this.#server;
    if (this.#launched?.pid !== undefined) await stopPostmaster(paths, this.#launched.pid, this.#server);
  }

  async #step(found: Postmaster): Promise<TakenOver | undefined> {
    if (found.kind === "ready") return this.#keep(found.pid, found.port);
    if (found.kind === "starting" || found.kind === "stopping") {
      this.#waitingFor = `process ${found.pid}, which is ${found.kind}`;
      return undefined;
    }
    if (this.#launched !== undefined) {
      if (!this.#launched.hasEnded) return undefined;
      await this.#learnFromEnd(this.#launched);
    }
    if (found.kind === "stale") await disarmLockFile(this.#server.paths, found.lockFile);
    await this.#launch();
    return undefined;
  }

  async #launch(): Promise<void> {
    const { paths } = this.#server;
    const port =
      this.#options.port ?? (await findFreePort(this.#portTaken ? undefined : await readPort(paths)));
    this.#launched = await launchPostmaster(paths, { ...this.#server, port });
  }

  /** Rejects unless another try may do better. */
  async #learnFromEnd(launched: Launched): Promise<void> {
    const words = await launched.readLastWords();
    this.#waitingFor = `its predecessor to end (${words})`;
    // Somebody was faster, or processes of a killed server have not all ended yet.
    if (/lock file .* (already exists|is empty)|pre-existing shared memory/.test(words)) return;
    this.#portTaken = /TCP\/IP sockets/.test(words);
    if (this.#portTaken && this.#options.port === undefined) return;
    const what = this.#portTaken ? `port ${this.#options.port} is taken` : words;
    throw new EmbeddedPostgresError(`Cannot start embedded Postgres in ${this.#server.dataDir}: ${what}`);
  }

  async #keep(pid: number, port: number): Promise<TakenOver | undefined> {
    const { clock, dataDir } = this.#server;
    const result = await this.#openKeeper(port);
    if (result === undefined) return undefined;
    if ("lost" in result) {
      await writePort(this.#server, port);
      return { keeper: result, pid, port, adopted: pid !== this.#launched?.pid };
    }
    this.#takenSince ??= clock.now();
    if (clock.now() - this.#takenSince < TAKEN_FOR_MS) return undefined;
    throw new TakenError(`Cannot use data directory ${dataDir}: it is in use by ${result.takenBy}`);
  }

  async #openKeeper(port: number) {
    const { dataDir, password, ownerPid } = this.#server;
    try {
      return await openKeeper({ port, password, ownerPid, connectTimeoutMs: CONNECT_TIMEOUT_MS });
    } catch (error) {
      if (!isPassing(error)) {
        const message = `Cannot use the embedded database in ${dataDir}: ${reasonOf(error)}`;
        throw new EmbeddedPostgresError(message, { cause: error });
      }
      this.#waitingFor = `it to answer on port ${port} (${reasonOf(error)})`;
      return undefined;
    }
  }
}

async function readPort(paths: ClusterPaths): Promise<number | undefined> {
  const port = Number(await readFile(paths.port, "utf8").catch(() => undefined));
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined;
}

/** Remembers the port, so that a URL somebody copied still works tomorrow. */
async function writePort(server: Server, port: number): Promise<void> {
  if ((await readPort(server.paths)) === port) return;
  await writeFile(server.paths.port, `${port}\n`);
  if (server.account !== undefined) await chown(server.paths.port, server.account.uid, server.account.gid);
}
