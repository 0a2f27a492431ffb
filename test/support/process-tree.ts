import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { platform } from "node:os";
import { promisify } from "node:util";
import { eventually } from "./eventually.ts";

/** Whether a process exists; one that is dead and not yet collected by its parent does not count. */
export async function isAlive(pid: number): Promise<boolean> {
  return (await listProcesses()).some((other) => other.pid === pid);
}

/** Sends a signal to a process, then to its children. */
export async function signalTree(pid: number, signal: NodeJS.Signals): Promise<void> {
  signalOne(pid, signal);
  // Listed only now: a parent that has been stopped makes no more children.
  for (const child of await childrenOf(pid)) signalOne(child, signal);
}

/** Kills a process and its children, and waits until they are gone. */
export async function killTree(pid: number): Promise<void> {
  signalOne(pid, "SIGSTOP");
  const all = [pid, ...(await childrenOf(pid))];
  for (const one of all) signalOne(one, "SIGKILL");
  await eventually(async () => !(await listProcesses()).some((other) => all.includes(other.pid)), {
    what: `processes ${all.join(", ")} have ended`,
  });
}

function signalOne(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    // Already gone.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

async function childrenOf(pid: number): Promise<readonly number[]> {
  return (await listProcesses()).filter(({ parent }) => parent === pid).map((child) => child.pid);
}

export interface Process {
  readonly pid: number;
  readonly parent: number;
}

/** All processes but those that are dead and not yet collected. */
export async function listProcesses(): Promise<readonly Process[]> {
  if (platform() === "linux") return listProc();
  const { stdout } = await promisify(execFile)("ps", ["-A", "-o", "pid=,ppid=,stat="]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , state = ""]) => !state.startsWith("Z"))
    .map(([pid, parent]) => ({ pid: Number(pid), parent: Number(parent) }));
}

/** Not every Linux has `ps`. */
async function listProc(): Promise<readonly Process[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map(readStat));
  return found.filter((one) => one !== undefined);
}

async function readStat(pid: string): Promise<Process | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The program's name stands in brackets and may itself hold some.
  const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return parent === undefined || state === "Z" ? undefined : { pid: Number(pid), parent: Number(parent) };
}
