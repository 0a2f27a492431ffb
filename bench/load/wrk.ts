import { execFile } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { LOAD_CORE } from "../servers/cores.ts";
import type { Counted, Load, RunOptions } from "./load.ts";

const CONNECTIONS = 32;

/** HTTP/1.1 over 32 kept-alive connections, one request at a time on each. */
export async function runWrk({ load, port, seconds, folder }: RunOptions): Promise<Counted> {
  const script = join(folder, "wrk.lua");
  await writeFile(script, toLua(load), "latin1");
  const { stdout } = await promisify(execFile)("taskset", [
    ...["-c", String(LOAD_CORE), "wrk"],
    ...["--threads", "1", "--connections", String(CONNECTIONS), "--duration", `${seconds}s`],
    ...["--script", script, `http://127.0.0.1:${port}`],
  ]);
  const [, json] = /^counted (.*)$/m.exec(stdout) ?? [];
  if (json === undefined) throw new Error(`Cannot measure: wrk said ${stdout}`);
  const { requests, micros, failed, p50, p99, p999 } = JSON.parse(json);
  if (failed > 0)
    throw new Error(`Cannot measure: of ${requests} requests to ${load.path}, ${failed} failed`);
  return {
    requests,
    requestsPerSecond: (1e6 * requests) / micros,
    latencyMs: { p50: p50 / 1_000, p99: p99 / 1_000, p999: p999 / 1_000 },
  };
}

/** A script that has all requests ready before the first is sent. */
function toLua({ path, headers, bodies, isTraced = false }: Load): string {
  const fields = Object.entries(headers).map(([name, value]) => `[${quote(name)}] = ${quote(value)}`);
  const literals = bodies.map((body) => quote(Buffer.from(body).toString("latin1")));
  return `local bodies = {
${literals.join(",\n")}
}
local requests, n = {}, 0
function init()
  local headers = { ${fields.join(", ")} }
  for i, body in ipairs(bodies) do
    ${isTraced ? 'headers["traceparent"] = string.format("00-%032x-%016x-00", i, i)' : ""}
    requests[i] = wrk.format("POST", ${quote(path)}, headers, body)
  end
end
function request()
  n = n % #requests + 1
  return requests[n]
end
function done(summary, latency)
  local errors = summary.errors
  print(string.format('counted {"requests":%d,"micros":%d,"failed":%d,"p50":%d,"p99":%d,"p999":%d}',
    summary.requests, summary.duration, errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
`;
}

/** Text as Lua writes it, a byte a character. */
function quote(text: string): string {
  return `"${text.replaceAll(/[^ !#-[\]-~]/g, (byte) => `\\${String(byte.charCodeAt(0)).padStart(3, "0")}`)}"`;
}
