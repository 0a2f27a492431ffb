import { execFile } from "node:child_process";
import { readFile, readlink } from "node:fs/promises";
import { platform } from "node:os";
import { pid as ownPid } from "node:process";

/** A process that cannot be taken for another one that was given its number later. */
export interface ProcessIdentity {
  readonly pid: number;
  /** As its system tells it; to be compared, not read. */
  readonly startedAt: string;
}

/** Who this process is. Undefined where the system does not tell. */
export function identifySelf(): Promise<ProcessIdentity | undefined> {
  return identifyProcess(ownPid);
}

/** Whether a value that was read from a file names a process. */
export function isProcessIdentity(value: unknown): value is ProcessIdentity {
  if (typeof value !== "object" || value === null) return false;
  const { pid, startedAt } = value as Partial<Record<keyof ProcessIdentity, unknown>>;
  return typeof pid === "number" && Number.isSafeInteger(pid) && pid > 0 && typeof startedAt === "string";
}

/** Undefined: there is no such process, or it has ended and only its parent does not know. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  const startedAt = await (platform() === "linux" ? readProc(pid) : askPs(pid));
  return startedAt === undefined ? undefined : { pid, startedAt };
}

/** Whether this very process runs. */
export async function isRunning({ pid, startedAt }: ProcessIdentity): Promise<boolean> {
  return (await identifyProcess(pid))?.startedAt === startedAt;
}

/** Where numbers of processes mean what they mean here: this start of the machine, and this container. */
export async function identifyPlace(): Promise<string> {
  if (platform() !== "linux") return platform();
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  const namespace = await readlink("/proc/self/ns/pid").catch(() => "");
  return `${boot.trim()} ${namespace}`;
}

async function readProc(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The program's name stands in brackets and may itself hold some. Its state follows, and 19 fields later its start.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? undefined : fields[19];
}

function askPs(pid: number): Promise<string | undefined> {
  const args = ["-p", String(pid), "-o", "stat=,lstart="];
  return new Promise((resolve) => {
    // It ends with 1 if there is no such process.
    execFile("ps", args, { env: { LC_ALL: "C", PATH: "/bin:/usr/bin" } }, (error, stdout) => {
      const [state = "Z", ...startedAt] = stdout.trim().split(/\s+/);
      resolve(error !== null || state.startsWith("Z") ? undefined : startedAt.join(" "));
    });
  });
}
