import { spawn } from "node:child_process";
import { link, open, readFile, rename, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../system/clock.ts";
import { type Binaries, programPath } from "./binaries.ts";
import type { ClusterPaths } from "./data-folder.ts";
import { EmbeddedPostgresError, errorCode } from "./embedded-error.ts";
import { type Account, isPostmaster, runProgram } from "./programs.ts";
import { unfinished } from "./system-folder.ts";

/** What runs on a cluster, by its lock file and a look at the process named there. */
export type Postmaster =
  | { readonly kind: "absent" }
  /** The lock file names a process that is gone, or another program that was given its number. */
  | { readonly kind: "stale"; readonly lockFile: string }
  | { readonly kind: "starting" | "ready" | "stopping"; readonly pid: number; readonly port: number };

export async function inspectPostmaster(paths: ClusterPaths): Promise<Postmaster> {
  const lockFile = await readFile(lockPath(paths), "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  });
  if (lockFile === undefined) return { kind: "absent" };
  // Process number, folder, start time, port, socket folder, address, shared memory, status: a line each.
  const [pidText = "", , , portText = "", , , , status = ""] = lockFile.split("\n");
  const pid = Number(pidText);
  // Written in two steps: the file is empty for a moment at the start.
  if (pidText === "") return { kind: "starting", pid: 0, port: 0 };
  if (!Number.isSafeInteger(pid) || pid <= 0 || !(await isPostmaster(pid, paths.cluster))) {
    return { kind: "stale", lockFile };
  }
  return { kind: kindOfStatus(status.trim()), pid, port: Number(portText) };
}

function kindOfStatus(status: string): "starting" | "ready" | "stopping" {
  if (status === "ready") return "ready";
  return status === "stopping" ? "stopping" : "starting";
}

function lockPath(paths: ClusterPaths): string {
  return join(paths.cluster, "postmaster.pid");
}

/** No process has this number, on any system. */
const NO_PID = 2_147_483_646;

/**
 * Makes a stale lock file harmless, so that Postgres starts in spite of it.
 *
 * Postgres would refuse if the number in it belongs to any process of the same user. Only the number is
 * replaced: the rest lets Postgres see whether processes of the dead server still use its shared memory.
 */
export async function disarmLockFile(paths: ClusterPaths, stale: string): Promise<void> {
  const aside = unfinished(lockPath(paths));
  try {
    await rename(lockPath(paths), aside);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  // Somebody else may have started a server since we looked: then that server's file goes back as it is.
  if ((await readFile(aside, "utf8")) === stale) await writeFile(aside, stale.replace(/^.*/, String(NO_PID)));
  await link(aside, lockPath(paths)).catch((error: unknown) => {
    if (errorCode(error) !== "EEXIST") throw error;
  });
  await unlink(aside);
}

export interface LaunchOptions {
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  readonly port: number;
  /** Settings beyond those that every embedded server has. */
  readonly settings: Readonly<Record<string, string>>;
}

/** A server that we started. It outlives us unless it is stopped. */
export interface Launched {
  readonly pid: number | undefined;
  readonly hasEnded: boolean;
  /** The last thing it had to say before it ended. */
  readLastWords(): Promise<string>;
}

/** Loopback only, and small: it serves one developer's machine. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: "127.0.0.1",
  unix_socket_directories: "",
  max_connections: "50",
  shared_buffers: "16MB",
  max_wal_size: "128MB",
  min_wal_size: "32MB",
  wal_level: "minimal",
  max_wal_senders: "0",
  max_parallel_workers_per_gather: "0",
  log_destination: "stderr",
  logging_collector: "off",
  log_timezone: "UTC",
};

/** What an older log may grow to before the next start puts it aside. */
const LOG_BYTES_MAX = 8 * 1024 * 1024;

export async function launchPostmaster(paths: ClusterPaths, options: LaunchOptions): Promise<Launched> {
  await putLogAside(paths.log);
  const log = await open(paths.log, "a", 0o600);
  try {
    const { size: logStart } = await log.stat();
    const child = spawn(programPath(options.binaries, "postgres"), argumentsOf(paths, options), {
      ...options.account,
      cwd: paths.root,
      stdio: ["ignore", log.fd, log.fd],
      // A process group of its own: the terminal's Ctrl-C is for us, who then stop it in order.
      detached: true,
      windowsHide: true,
    });
    let startError: string | undefined;
    child.once("error", (error) => {
      startError = error.message;
    });
    child.unref();
    return {
      pid: child.pid,
      get hasEnded() {
        return startError !== undefined || child.exitCode !== null || child.signalCode !== null;
      },
      readLastWords: async () =>
        startError ?? lastWords((await readFile(paths.log)).subarray(logStart).toString()),
    };
  } finally {
    await log.close();
  }
}

function argumentsOf(paths: ClusterPaths, options: LaunchOptions): string[] {
  const settings = { ...SETTINGS, port: String(options.port), ...options.settings };
  return [
    "-D",
    paths.cluster,
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ];
}

async function putLogAside(log: string): Promise<void> {
  const { size } = await stat(log).catch(() => ({ size: 0 }));
  if (size > LOG_BYTES_MAX) await rename(log, `${log}.1`);
}

/** The first fatal line: what follows it are consequences. */
function lastWords(log: string): string {
  const lines = log.split("\n").filter((line) => line.trim() !== "");
  const fatal = lines.find((line) => /\b(FATAL|PANIC):/.test(line)) ?? lines.at(-1);
  return fatal?.replace(/^.*?\b(FATAL|PANIC):\s*/, "") ?? "it said nothing";
}

/** How Postgres is asked to end, ever less politely: end sessions, stop at once, be killed. */
const STOP_STEPS = [
  { signal: "INT", waitMs: 10_000 },
  { signal: "QUIT", waitMs: 5_000 },
  { signal: "KILL", waitMs: 5_000 },
] as const;

const POLL_MS = 10;

/**
 * Ends a server and waits until it is gone. Does nothing if `pid` is no server on this cluster.
 *
 * @throws EmbeddedPostgresError if it does not end
 */
export async function stopPostmaster(
  paths: ClusterPaths,
  pid: number,
  options: { readonly binaries: Binaries; readonly account: Account | undefined; readonly clock: Clock },
): Promise<void> {
  const { binaries, account, clock } = options;
  for (const { signal, waitMs } of STOP_STEPS) {
    if (!(await isPostmaster(pid, paths.cluster))) return;
    await runProgram(programPath(binaries, "pg_ctl"), ["kill", signal, String(pid)], { account });
    const giveUpAt = clock.now() + waitMs;
    while (clock.now() < giveUpAt && (await isPostmaster(pid, paths.cluster))) await clock.sleep(POLL_MS);
  }
  if (!(await isPostmaster(pid, paths.cluster))) return;
  throw new EmbeddedPostgresError(
    `Cannot stop embedded Postgres in ${paths.root}: process ${pid} does not end`,
  );
}
