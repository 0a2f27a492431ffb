import { execFile } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { LOAD_CORE } from "../servers/cores.ts";
import { type Counted, percentiles, type RunOptions } from "./load.ts";

const CONNECTIONS = 4;
const STREAMS = 8;

/** HTTP/2 over 4 connections, 8 requests at a time on each. */
export async function runH2load({ load, port, seconds, folder }: RunOptions): Promise<Counted> {
  const body = join(folder, "h2load.body");
  const log = join(folder, "h2load.log");
  await writeFile(body, load.bodies[0] ?? new Uint8Array());
  await rm(log, { force: true });
  const headers = Object.entries(load.headers).flatMap(([name, value]) => ["--header", `${name}: ${value}`]);
  const { stdout } = await promisify(execFile)("taskset", [
    ...["-c", String(LOAD_CORE), "h2load", "--threads", "1"],
    ...["--clients", String(CONNECTIONS), "--max-concurrent-streams", String(STREAMS)],
    ...["--duration", `${seconds}s`, "--data", body, "--log-file", log, ...headers],
    `http://127.0.0.1:${port}${load.path}`,
  ]);
  const [, rate] = /^finished in .*?, ([\d.]+) req\/s/m.exec(stdout) ?? [];
  const [, succeeded, failed, errored, timedOut] =
    /^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/m.exec(stdout) ?? [];
  const [, notFound, broken] = /^status codes: .* (\d+) 4xx, (\d+) 5xx/m.exec(stdout) ?? [];
  if ([failed, errored, timedOut, notFound, broken].some((count) => count !== "0"))
    throw new Error(`Cannot measure: requests to ${load.path} failed: h2load said ${stdout}`);
  return {
    requests: Number(succeeded),
    requestsPerSecond: Number(rate),
    latencyMs: percentiles(parseLog(await readFile(log, "latin1")), 1_000),
  };
}

/** How long each request took, in microseconds: the third column. */
function parseLog(text: string): Float64Array {
  return Float64Array.from(text.trimEnd().split("\n"), (line) => Number(line.split("\t")[2]));
}
