import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import type { ConnectionLimits } from "../../src/server/listener/node-servers.ts";

/** A server to be attacked, wherever it runs. */
export interface Target {
  readonly port: number;
  /** Whose memory is measured. */
  readonly pid: number;
}

/** Disposing of it throws if it had ended before, or has had an error of its own. */
export interface ServerProcess extends Target, AsyncDisposable {}

export interface ServerProcessOptions {
  readonly limits?: Partial<ConnectionLimits>;
  /** How many files it may open. */
  readonly openFilesMax?: number;
}

/** Runs `serve-memory` in a process of its own. */
export async function openServerProcess(options: ServerProcessOptions = {}): Promise<ServerProcess> {
  const folder = await mkdtemp(join(tmpdir(), "pbflagd-server-"));
  const program = join(folder, "serve.cjs");
  await build({
    entryPoints: [join(import.meta.dirname, "serve-memory-main.ts")],
    outfile: program,
    bundle: true,
    platform: "node",
    format: "cjs",
    logLevel: "error",
  });
  const node = [process.execPath, program, JSON.stringify(options.limits ?? {})];
  const limited = ["sh", "-c", `ulimit -n ${options.openFilesMax} && exec "$@"`, "sh", ...node];
  const [command = "", ...args] = options.openFilesMax === undefined ? node : limited;
  const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const exited = once(child, "exit");
  const [line] = await Promise.race([
    once(child.stdout, "data"),
    exited.then(() => {
      throw new Error(`Cannot start the server: ${stderr}`);
    }),
  ]);
  return {
    port: JSON.parse(String(line)).port,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      const [code] = await exited;
      await rm(folder, { recursive: true });
      if (code !== 0 || stderr !== "") throw new Error(`The server ended with ${code}: ${stderr}`);
    },
  };
}

/** Memory of a process that is in RAM now, in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => undefined);
  if (status !== undefined) return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) * 1_024;
  const { stdout } = await promisify(execFile)("ps", ["-o", "rss=", "-p", String(pid)]);
  return Number(stdout) * 1_024;
}
