import type { Io } from "../../src/cli/io.ts";
import { run } from "../../src/cli/program.ts";
import { type Clock, systemClock } from "../../src/system/clock.ts";

export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** Unset: the output goes to no terminal. */
  readonly columns?: number;
  readonly clock?: Clock;
  readonly serve?: Io["serve"];
  readonly dev?: Io["dev"];
  /** Aborts at Ctrl-C. */
  readonly interrupted?: AbortSignal;
  /** Gets the standard output and the standard error in the order in which they are written. */
  readonly onOutput?: (text: string) => void;
}

export interface CliResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one command line in this process, as `main` would. */
export async function runCli(argv: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  let stdout = "";
  let stderr = "";
  const { onOutput } = options;
  const io: Io = {
    ...createIo(options),
    stdout: (text) => {
      stdout += text;
      onOutput?.(text);
    },
    stderr: (text) => {
      stderr += text;
      onOutput?.(text);
    },
  };
  const exitCode = await run(argv, io);
  return { exitCode, stdout, stderr };
}

/** A process that nobody watches, and that has no daemons to run unless they are given. */
export function createIo(options: CliOptions = {}): Io {
  const {
    env = {},
    stdin = "",
    columns,
    clock = systemClock,
    serve = unexpected,
    dev = unexpected,
    interrupted,
  } = options;
  return {
    stdout: () => {},
    stderr: () => {},
    stdin: toChunks(stdin),
    env,
    isTerminal: columns !== undefined,
    columns: columns ?? 80,
    userName: "tester",
    version: "1.2.3",
    clock,
    serve,
    dev,
    interrupted: () => interrupted ?? new AbortController().signal,
  };
}

/** In pieces that cut through characters, as a pipe may. */
async function* toChunks(text: string): AsyncIterable<Uint8Array> {
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length; start += 3) yield bytes.subarray(start, start + 3);
}

function unexpected(): Promise<number> {
  return Promise.reject(new Error("a daemon was started"));
}
