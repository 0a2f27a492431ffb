import { execFile, spawn } from "node:child_process";
import { readFile, readlink } from "node:fs/promises";
import { platform } from "node:os";
import { basename } from "node:path";
import { errorCode } from "./embedded-error.ts";

/** Whom a program runs as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

export interface ProgramResult {
  /** Undefined if the program could not be started, or was ended by a signal. */
  readonly exitCode: number | undefined;
  /** What it wrote to stdout and stderr, or why it could not be started. */
  readonly output: string;
}

/** More than any of the programs here says; what comes beyond is dropped. */
const OUTPUT_CHARS_MAX = 64 * 1024;

/** Runs a program to its end. Never rejects. Without an account it runs as ourselves. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { readonly account?: Account | undefined; readonly cwd?: string } = {},
): Promise<ProgramResult> {
  const { account, cwd = "/" } = options;
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(program, args, {
      ...account,
      cwd,
      stdio: ["ignore", "pipe", "pipe"],
      // Ctrl-C in the terminal is for us; what we started ends in its own order.
      detached: platform() !== "win32",
      windowsHide: true,
    });
    const collect = (chunk: Buffer) => {
      if (output.length < OUTPUT_CHARS_MAX) output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.once("error", (error) => resolve({ exitCode: undefined, output: error.message }));
    child.once("close", (code) => resolve({ exitCode: code ?? undefined, output: output.trim() }));
  });
}

/**
 * Whether `pid` is the main process of a Postgres server on the folder `cluster`.
 *
 * A number in a lock file proves nothing: the process may be long dead and the number given to another.
 */
export async function isPostmaster(pid: number, cluster: string): Promise<boolean> {
  const command = await readCommandLine(pid);
  const [program = "", ...args] = command ?? [];
  if (!/^(postgres|postmaster)(\.exe)?$/.test(basename(program))) return false;
  // Windows tells the name only; there Postgres itself recognises a lock file that is no longer true.
  if (platform() === "win32") return true;
  // Postgres works in its data folder. Where that may not be looked at, its arguments must do.
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => undefined);
  return folder === undefined ? args.join(" ").includes(cluster) : folder === cluster;
}

async function readCommandLine(pid: number): Promise<readonly string[] | undefined> {
  if (platform() === "linux") return readProc(pid);
  if (platform() !== "win32")
    return parsePs(await runQuietly("ps", ["-ww", "-p", String(pid), "-o", "command="]));
  return parseTaskList(await runQuietly("tasklist", ["/FI", `PID eq ${pid}`, "/FO", "CSV", "/NH"]));
}

async function readProc(pid: number): Promise<readonly string[] | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/cmdline`, "utf8");
    return text === "" ? undefined : text.split("\0");
  } catch (error) {
    // ESRCH: it ended between opening the file and reading it.
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ESRCH") return undefined;
    throw error;
  }
}

function parsePs(output: string): readonly string[] | undefined {
  return output.trim() === "" ? undefined : output.trim().split(" ");
}

function parseTaskList(output: string): readonly string[] | undefined {
  const [, name] = /^"([^"]+)"/.exec(output.trim()) ?? [];
  return name === undefined ? undefined : [name];
}

/** Empty if the program fails: `ps` ends with 1 when there is no such process. */
function runQuietly(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    execFile(program, args, { windowsHide: true }, (error, stdout) => resolve(error === null ? stdout : ""));
  });
}
