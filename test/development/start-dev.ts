import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { userInfo } from "node:os";
import { listMarked } from "../readme/marked-processes.ts";
import { eventually } from "../support/eventually.ts";

export interface DevOptions {
  /** Where pbflagd is installed: this repository unless set. */
  readonly packageDir?: string;
  /** The folder to run in; matters for paths that are not absolute. */
  readonly cwd?: string;
  /** After `dev`. */
  readonly args: readonly string[];
  /** Somebody else to run as; only root may. */
  readonly uid?: number;
}

/** One line of the daemon's log. */
export type LogLine = { readonly event: string } & Readonly<Record<string, unknown>>;

export interface Dev extends AsyncDisposable {
  readonly log: readonly LogLine[];
  /** What it printed besides its log. */
  readonly stderr: string;
  readonly banner: string;
  /** Resolves with the port once it serves; rejects with its output if it ends before. */
  whenServing(): Promise<number>;
  /** Resolves once an event of the log has happened that was not there before `since`. */
  whenLogged(event: string, since?: number): Promise<LogLine>;
  readonly ended: Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  /** What it started, and what that started, as far as it runs. */
  listProcesses(): Promise<readonly string[]>;
}

const ownPackage = new URL("../..", import.meta.url).pathname;

/** Runs `pbflagd dev`. */
export function startDev({ packageDir = ownPackage, cwd = packageDir, args, uid }: DevOptions): Dev {
  const value = randomBytes(8).toString("hex");
  const child = spawn(
    process.execPath,
    [`${packageDir}/dist/main.js`, "dev", "--log-format", "json", ...args],
    {
      cwd,
      env: { PATH: process.env["PATH"] ?? "", PBFLAGD_TEST_MARK: value },
      ...(uid === undefined || userInfo().uid !== 0 ? {} : { uid, gid: uid }),
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const ended = once(child, "close").then(([code]) => (typeof code === "number" ? code : null));
  const out = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      out[name] += text;
    });
  }
  const readLog = () => [...out.stdout.matchAll(/^\{.*\}$/gm)].map(([line]) => JSON.parse(line) as LogLine);

  async function whenLogged(event: string, since = 0): Promise<LogLine> {
    const find = () =>
      readLog()
        .slice(since)
        .find((line) => line.event === event);
    await eventually(() => find() !== undefined || hasEnded(child), {
      timeoutMs: 60_000,
      what: `it logs ${event}`,
    });
    const found = find();
    if (found === undefined) throw new Error(`Ended before it logged ${event}:\n${out.stdout}${out.stderr}`);
    return found;
  }

  return {
    get log() {
      return readLog();
    },
    get stderr() {
      return out.stderr;
    },
    get banner() {
      return out.stdout.replaceAll(/^\{.*\}\n/gm, "");
    },
    async whenServing() {
      const { address } = await whenLogged("serving");
      return (address as { port: number }).port;
    },
    whenLogged,
    ended,
    kill: (signal) => void child.kill(signal),
    listProcesses: () => listMarked(`PBFLAGD_TEST_MARK=${value}`),
    async [Symbol.asyncDispose]() {
      if (!hasEnded(child)) child.kill("SIGTERM");
      const hung = setTimeout(() => child.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(hung);
    },
  };
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
