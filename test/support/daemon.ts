import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { eventually } from "./eventually.ts";
import { limitFiles } from "./limit-files.ts";

const main = new URL("../../dist/main.js", import.meta.url).pathname;

export interface DaemonOptions {
  /** After `serve`. The address is a free port of loopback unless `--listen` is among them. */
  readonly args: readonly string[];
  /** Instead of this process's variables, PATH and HOME kept. */
  readonly env?: Readonly<Record<string, string>>;
  /** Of the largest file that it can write. Unset: any. */
  readonly fileKilobytesMax?: number;
  /** Whom it runs as. Unset: as this process. */
  readonly uid?: number | undefined;
}

/** One line of the daemon's log. What is no log line has the event "stdout" or "stderr", and its text in `line`. */
export type LogLine = { readonly event: string; readonly level: string } & Readonly<Record<string, unknown>>;

/** How a daemon ended. */
export interface Exit {
  /** Null if a signal ended it. */
  readonly code: number | null;
  readonly signal: string | null;
}

/** A whole daemon in a process of its own. */
export interface TestDaemon extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  /** `http://127.0.0.1:port`. */
  readonly url: string;
  readonly log: readonly LogLine[];
  readonly exited: Promise<Exit>;
  /** Resolves once /readyz says 200. */
  whenReady(): Promise<void>;
  /** What /readyz says. */
  readiness(): Promise<Readiness>;
  evaluate(flagId: string, entityId?: string): Promise<TestEvaluation>;
  bulkEvaluate(flagIds: readonly string[], entityId?: string): Promise<readonly TestEvaluation[]>;
  /** Any RPC of the evaluator, as JSON. Does not reject for an answer that is an error. */
  call(method: string, request: unknown): Promise<{ readonly status: number; readonly answer: unknown }>;
  /** The samples of one metric, by its labels as they are printed; "" for none. */
  metric(name: string): Promise<Readonly<Record<string, number>>>;
  /** All that /metrics says. */
  metrics(): Promise<string>;
  /** Ends it with SIGTERM, and resolves with its exit code. */
  stop(): Promise<number | null>;
  kill(signal: NodeJS.Signals): void;
  /** Nobody reads its log any more. */
  closeOutput(): void;
}

/** As JSON has it: 64-bit numbers are text, and what is unset is missing. */
export interface TestEvaluation {
  readonly flagId: string;
  readonly source: string;
  readonly value?: Readonly<Record<string, unknown>>;
}

export interface Readiness {
  readonly status: number;
  readonly word: string;
  readonly checks: Readonly<Record<string, { readonly healthy: boolean | null; readonly message: string }>>;
}

/** Starts `pbflagd serve` from dist/ and resolves once it listens. Rejects with its output if it ends before. */
export async function startDaemon(options: DaemonOptions): Promise<TestDaemon> {
  const { child, log, serving, exited } = spawnServe(options);
  const address = await Promise.race([
    serving,
    exited.then(({ code }) => {
      throw new Error(`The daemon ended with ${code}: ${JSON.stringify(log)}`);
    }),
  ]);
  return open({ child, log, exited, port: address.port });
}

/** Runs `pbflagd serve` where it is to end by itself. Ends it after half a minute if it does not. */
export async function failToStart(
  options: DaemonOptions,
): Promise<Exit & { readonly log: readonly LogLine[] }> {
  const { child, log, exited } = spawnServe(options);
  const hung = setTimeout(() => child.kill("SIGKILL"), 30_000);
  const exit = await exited;
  clearTimeout(hung);
  return { ...exit, log };
}

function spawnServe({ args, env = {}, fileKilobytesMax, uid }: DaemonOptions) {
  const listen = args.includes("--listen") ? [] : ["--listen", "127.0.0.1:0"];
  const command = [process.execPath, main, "serve", "--log-format", "json", ...listen, ...args];
  const [program = "", ...rest] =
    fileKilobytesMax === undefined ? command : limitFiles(fileKilobytesMax, command);
  const child = spawn(program, rest, {
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    ...(uid === undefined ? {} : { uid }),
  });
  // "close" comes after the last of its output.
  const exited = once(child, "close").then(([code, signal]): Exit => ({ code, signal }));
  return { child, exited, ...follow(child) };
}

/** A line of the format `pretty`. */
const SERVING_FOR_PEOPLE = / info +serving address=(\{[^}]*\})/;

function follow(child: ChildProcess) {
  const log: LogLine[] = [];
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error("Cannot follow a child without pipes");
  createInterface(stderr).on("line", (line) => log.push({ event: "stderr", level: "error", line }));
  const serving = new Promise<{ port: number }>((resolve) => {
    createInterface(stdout).on("line", (text) => {
      const line = toLogLine(text);
      log.push(line);
      if (line.event === "serving") resolve(line["address"] as { port: number });
      const [, address] = SERVING_FOR_PEOPLE.exec(text) ?? [];
      if (address !== undefined) resolve(JSON.parse(address) as { port: number });
    });
  });
  return { log, serving };
}

function toLogLine(line: string): LogLine {
  try {
    const parsed: unknown = JSON.parse(line);
    if (typeof parsed === "object" && parsed !== null && "event" in parsed && "level" in parsed) {
      return parsed as LogLine;
    }
  } catch {
    // Told apart below.
  }
  return { event: "stdout", level: "error", line };
}

interface Parts {
  readonly child: ChildProcess;
  readonly log: readonly LogLine[];
  readonly exited: TestDaemon["exited"];
  readonly port: number;
}

function open({ child, log, exited, port }: Parts): TestDaemon {
  const url = `http://127.0.0.1:${port}`;

  async function call(method: string, request: unknown) {
    const response = await fetch(`${url}/pbflags.v1.FlagEvaluatorService/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
    });
    const answer: unknown = await response.json();
    return { status: response.status, answer };
  }

  async function callWell(method: string, request: unknown): Promise<unknown> {
    const { status, answer } = await call(method, request);
    if (status !== 200) throw new Error(`${method}: ${status} ${JSON.stringify(answer)}`);
    return answer;
  }

  async function readiness(): Promise<Readiness> {
    const response = await fetch(`${url}/readyz`);
    const body = (await response.json()) as {
      status: string;
      checks: { name: string; healthy: boolean | null; message: string }[];
    };
    const checks = Object.fromEntries(body.checks.map((check) => [check.name, check]));
    return { status: response.status, word: body.status, checks };
  }

  async function metrics(): Promise<string> {
    return (await fetch(`${url}/metrics`)).text();
  }

  return {
    pid: child.pid ?? 0,
    port,
    url,
    log,
    exited,
    whenReady: () =>
      eventually(async () => (await readiness()).status === 200, { what: "the daemon is ready" }),
    readiness,
    call,
    evaluate: async (flagId, entityId = "") =>
      (await callWell("Evaluate", { flagId, entityId })) as TestEvaluation,
    async bulkEvaluate(flagIds, entityId = "") {
      const answer = (await callWell("BulkEvaluate", { flagIds, entityId })) as {
        evaluations?: TestEvaluation[];
      };
      return answer.evaluations ?? [];
    },
    metrics,
    async metric(name) {
      const samples = [...(await metrics()).matchAll(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/gm)].filter(
        ([, found]) => found === name,
      );
      return Object.fromEntries(samples.map(([, , labels = "", value]) => [labels, toNumber(value)]));
    },
    async stop() {
      child.kill("SIGTERM");
      return (await exited).code;
    },
    kill: (signal) => child.kill(signal),
    closeOutput() {
      child.stdout?.destroy();
      child.stderr?.destroy();
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGTERM");
      const hung = setTimeout(() => child.kill("SIGKILL"), 15_000);
      await exited;
      clearTimeout(hung);
    },
  };
}

/** Prometheus spells it `+Inf`. */
function toNumber(text: string | undefined): number {
  return Number(text?.replace("Inf", "Infinity"));
}
