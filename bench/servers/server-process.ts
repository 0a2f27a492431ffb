import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
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
  await eventually(async () => (await fetch(`http://127.0.0.1:${server.port}/readyz`)).status === 200, {
    timeoutMs: 60_000,
    what: "the daemon is ready",
  });
  return server;
}

/** Starts a script that prints, as the daemon does, a line with the event "serving" and its address. */
export async function startNode(script: string, ...args: readonly string[]): Promise<ServerProcess> {
  const child = spawnPinned({ program: process.execPath, args: [script, ...args] }, "pipe");
  return open(child, await servingPort(child));
}

/** Starts any program, and resolves once it takes connections on the port that it was told. */
export async function startProgram(command: ServerCommand, port: number): Promise<ServerProcess> {
  const child = spawnPinned(command, "ignore");
  const server = open(child, port);
  const takesConnections = async () => {
    if (child.exitCode !== null) throw new Error(`Cannot measure: ${command.program} ended at its start`);
    const socket = connect({ port, host: "127.0.0.1" });
    const connected = await once(socket, "connect").then(
      () => true,
      () => false,
    );
    socket.destroy();
    return connected;
  };
  try {
    await eventually(takesConnections, { timeoutMs: 30_000, what: `${command.program} listens` });
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

function spawnPinned({ program, args, env = {} }: ServerCommand, stdout: "pipe" | "ignore"): ChildProcess {
  return spawn("taskset", ["-c", String(SERVER_CORE), program, ...args], {
    stdio: ["ignore", stdout, "inherit"],
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
