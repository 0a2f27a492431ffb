import { readdir, rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import type { Clock } from "../../system/clock.ts";
import { identifyPlace, isRunning } from "../../system/process-identity.ts";
import { loadPidFile, PID_FILE_END, type PidFile, removePidFile } from "./pid-file.ts";
import { signalGroup } from "./process-group.ts";

export interface ReapOptions {
  readonly folder: string;
  /** From SIGTERM to SIGKILL. */
  readonly stopTimeoutMs: number;
  readonly clock: Pick<Clock, "now" | "sleep">;
  /** Leaves what is left for the next start. */
  readonly signal: AbortSignal;
  readonly onReaped: (pid: number) => void;
}

/**
 * Ends the plug-ins of daemons that died, whatever upstream they were for, and removes the files they left.
 * Plug-ins of daemons that run stay as they are, and so does every process that is not certainly such a plug-in.
 */
export async function reapLeftovers(options: ReapOptions): Promise<void> {
  const place = await identifyPlace();
  const names = (await readdir(options.folder)).filter((name) => name.endsWith(PID_FILE_END));
  await Promise.all(names.map((name) => reap(join(options.folder, name), place, options)));
}

async function reap(path: string, place: string, options: ReapOptions): Promise<void> {
  const file = await loadPidFile(path);
  const socket = `${path.slice(0, -PID_FILE_END.length)}.sock`;
  if (file === undefined || !(await isLeftover(file, place, socket))) return;
  const wasRunning = file.place === place && (await isRunning(file.plugin));
  if (wasRunning && !(await end(file.plugin, options))) return;
  const removed = await removePidFile(path);
  await rm(socket, { force: true });
  if (wasRunning && removed) options.onReaped(file.plugin.pid);
}

/** Numbers of processes from before the machine started, or from another container, say nothing here. */
async function isLeftover(file: PidFile, place: string, socket: string): Promise<boolean> {
  return file.place === place ? !(await isRunning(file.owner)) : !(await isListening(socket));
}

function isListening(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket);
    connection.once("connect", () => resolve(true));
    connection.once("error", () => resolve(false));
    connection.once("connect", () => connection.destroy());
  });
}

const POLL_MS = 20;
/** A process that is killed ends at once, unless the kernel waits for a disk. */
const KILL_WAIT_MS = 1_000;

/** Whether it has ended. */
async function end(plugin: PidFile["plugin"], options: ReapOptions): Promise<boolean> {
  signalGroup(plugin.pid, "SIGTERM");
  if (await hasEndedWithin(options.stopTimeoutMs, plugin, options)) return true;
  if (options.signal.aborted) return false;
  signalGroup(plugin.pid, "SIGKILL");
  return hasEndedWithin(KILL_WAIT_MS, plugin, options);
}

async function hasEndedWithin(
  ms: number,
  plugin: PidFile["plugin"],
  { clock, signal }: ReapOptions,
): Promise<boolean> {
  const giveUpAt = clock.now() + ms;
  while (await isRunning(plugin)) {
    if (signal.aborted || clock.now() >= giveUpAt) return false;
    await clock.sleep(POLL_MS, signal).catch(() => {});
  }
  return true;
}
