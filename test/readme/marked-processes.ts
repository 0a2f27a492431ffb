import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { platform } from "node:os";
import { promisify } from "node:util";

/** What runs with this text in its environment, whoever started it and whoever its parent is now: command lines. */
export async function listMarked(mark: string): Promise<readonly string[]> {
  if (platform() === "linux") return listProc(mark);
  const { stdout } = await promisify(execFile)("ps", ["-axEww", "-o", "pid=,command="]);
  return stdout.split("\n").filter((line) => line.includes(mark));
}

/** Not every Linux has `ps`. A process that has ended has no environment, even before its parent has noticed. */
async function listProc(mark: string): Promise<readonly string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(
    pids.map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
      if (!environment.includes(mark)) return [];
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      return [`${pid} ${command.replaceAll("\0", " ").trim()}`];
    }),
  );
  return found.flat();
}
