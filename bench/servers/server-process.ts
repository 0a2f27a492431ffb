import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { eventually } from "../../test/support/eventually.ts";
import { SERVER_CORE } from "./cores.ts";
import { readUsage, type Usage } from "./process-usage.ts";

/** A server in a process of its own, on the server's core. */
export interface ServerProcess extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  usage(): Promise<Usage>;
}

export interface ServerCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const main = new URL("../../dist/main.js", import.meta.url).pathname;

/** Starts `pbflagd serve` from dist/ on a free port, and resolves once it is ready. */
export async function startDaemon(...args: readonly string[]): Promise<ServerProcess> {
  const serve = ["serve", "--log-format", "json", "--listen", "127.0.0.1:0", ...args];
  const server = await startNode(main, ...serve);
  try {
    const isReady = () => answers(`http://127.0.0.1:${server.port}/readyz`);
    await eventually(isReady, { timeoutMs: 60_000, what: "the daemon is ready" });
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/** Starts a script that prints, as the daemon does, a line with the event "serving" and its address. */
export async function startNode(script: string, ...args: readonly string[]): Promise<ServerProcess> {
  const child = spawnPinned({ program: process.execPath, args: [script, ...args] }, "inherit");
  return open(child, await servingPort(child));
}

/** Starts any program that listens on `port`, and resolves once `isReady`. What it says is shown only if it ends before. */
export async function startProgram(
  command: ServerCommand,
  { port, isReady }: { readonly port: number; readonly isReady: () => Promise<boolean> },
): Promise<ServerProcess> {
  const child = spawnPinned(command, "pipe");
  const server = open(child, port);
  let lastSaid = "";
  for (const output of [child.stdout, child.stderr])
    output?.on("data", (chunk: Buffer) => {
      lastSaid = chunk.toString();
    });
  const isServing = () => {
    if (child.exitCode === null) return isReady();
    throw new Error(`Cannot measure: ${command.program} ended at its start: ${lastSaid}`);
  };
  try {
    await eventually(isServing, { timeoutMs: 60_000, what: `${command.program} is ready` });
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/** Whether a GET is answered with 200. */
export function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ status }) => status === 200,
    () => false,
  );
}

function spawnPinned({ program, args, env = {} }: ServerCommand, stderr: "pipe" | "inherit"): ChildProcess {
  return spawn("taskset", ["-c", String(SERVER_CORE), program, ...args], {
    stdio: ["ignore", "pipe", stderr],
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "", ...env },
  });
}

/** Follows what it prints to the end: nobody may have to wait because nobody reads. */
function servingPort({ stdout }: ChildProcess): Promise<number> {
  if (stdout === null) throw new Error("Cannot follow a child without pipes");
  const said: string[] = [];
  return new Promise((resolve, reject) => {
    let isServing = false;
    const lines = createInterface(stdout);
    lines.on("line", (line) => {
      if (isServing) return;
      said.push(line);
      const { event, address } = JSON.parse(line);
      if (event !== "serving") return;
      isServing = true;
      resolve(address.port);
    });
    lines.once("close", () =>
      reject(new Error(`Cannot measure: a server ended before it served: ${said.join("\n")}`)),
    );
  });
}

function open(child: ChildProcess, port: number): ServerProcess {
  const { pid } = child;
  if (pid === undefined) throw new Error("Cannot measure: a server could not be started");
  return {
    pid,
    port,
    usage: () => readUsage(pid),
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill("SIGTERM");
      const hung = setTimeout(() => child.kill("SIGKILL"), 15_000);
      await exited;
      clearTimeout(hung);
    },
  };
}
