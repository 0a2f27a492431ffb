import { readFile } from "node:fs/promises";
import { listProcesses, type Process } from "../../test/support/process-tree.ts";

/** What a process and its children have used so far, and hold now. */
export interface Usage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

/** The kernel tells times in hundredths of a second, whatever it counts in itself. */
const TICKS_PER_SECOND = 100;

export async function readUsage(pid: number): Promise<Usage> {
  const pids = withChildren(pid, await listProcesses());
  const usages = await Promise.all(pids.map(readOne));
  return {
    cpuSeconds: usages.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0),
    residentBytes: usages.reduce((sum, { residentBytes }) => sum + residentBytes, 0),
  };
}

function withChildren(pid: number, all: readonly Process[]): readonly number[] {
  const children = all.filter(({ parent }) => parent === pid);
  return [pid, ...children.flatMap((child) => withChildren(child.pid, all))];
}

async function readOne(pid: number): Promise<Usage> {
  const [stat, status] = await Promise.all(
    ["stat", "status"].map((name) => readFile(`/proc/${pid}/${name}`, "utf8")),
  );
  // The program's name stands in brackets and may itself hold some. After it, user time is the twelfth word.
  const words = (stat ?? "").slice((stat ?? "").lastIndexOf(")") + 2).split(" ");
  const ticks = Number(words[11]) + Number(words[12]);
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(status ?? "") ?? [];
  return { cpuSeconds: ticks / TICKS_PER_SECOND, residentBytes: 1_024 * Number(kilobytes) };
}
