import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { eventually } from "../support/eventually.ts";
import { listMarked } from "./marked-processes.ts";

export interface NpmStartOptions {
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  /** Under a terminal of its own, which `script` makes, instead of pipes; whichever shell is the user's, it is out of the way. */
  readonly terminal?: boolean;
}

/** A newcomer's `npm start`. */
export interface NpmStart extends AsyncDisposable {
  /** All it has printed so far. */
  readonly output: string;
  /** Resolves with the time from the command to the banner; rejects with the output if it ends before. */
  whenServing(): Promise<number>;
  /** Ctrl-C, as a terminal does it. Resolves with npm's own end. */
  interrupt(): Promise<Ending>;
  /** What it started, and what that started, as far as it runs. */
  listProcesses(): Promise<readonly string[]>;
}

export interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A machine that needs longer than this is not going to make it. */
const GIVE_UP_AFTER_MS = 110_000;

export function startNpm({ folder, env, terminal = false }: NpmStartOptions): NpmStart {
  const mark = `PBFLAGD_TEST_MARK=${randomBytes(8).toString("hex")}`;
  const [name = "", value = ""] = mark.split("=");
  const startedAt = performance.now();
  const child = spawn(
    terminal ? "script" : "npm",
    terminal ? ["-qec", "exec npm start", "/dev/null"] : ["start"],
    {
      cwd: folder,
      env: { ...env, [name]: value },
      stdio: [terminal ? "pipe" : "ignore", "pipe", "pipe"],
      // A process group of its own, as a shell gives to each command.
      detached: true,
    },
  );
  const ended: Promise<Ending> = once(child, "close").then(([code, signal]) => ({ code, signal }));
  let output = "";
  let servingAt: number | undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
      if (output.includes("Ctrl-C ends it")) servingAt ??= performance.now();
    });
  }

  return {
    get output() {
      return output;
    },
    async whenServing() {
      await eventually(() => servingAt !== undefined || hasEnded(child), {
        timeoutMs: GIVE_UP_AFTER_MS,
        what: "npm start prints its banner",
      });
      if (servingAt === undefined) throw new Error(`npm start ended without serving:\n${output}`);
      return servingAt - startedAt;
    },
    async interrupt() {
      if (terminal) child.stdin?.write("\u0003");
      else process.kill(-pidOf(child), "SIGINT");
      return await ended;
    },
    listProcesses: () => listMarked(mark),
    async [Symbol.asyncDispose]() {
      for (const line of await listMarked(mark)) kill(Number.parseInt(line, 10));
      await ended;
    },
  };
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error("Cannot signal npm: it did not start");
  return child.pid;
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone since it was listed.
  }
}
