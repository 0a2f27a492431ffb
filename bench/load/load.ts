import type { ServerProcess } from "../servers/server-process.ts";
import { runH2load } from "./h2load.ts";
import { runWrk } from "./wrk.ts";

/** What is sent again and again. */
export interface Load {
  readonly with: "wrk" | "h2load";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** In turn; h2load sends the first only. */
  readonly bodies: readonly Uint8Array[];
  /** Whether each of them comes with a `traceparent` of its own, so that no two heads are the same. wrk's only. Unset: no. */
  readonly isTraced?: boolean;
}

/** What a program that puts load on has counted. */
export interface Counted {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly latencyMs: Percentiles;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

export interface Measured extends Omit<Counted, "requests"> {
  /** Processor time of the server. */
  readonly cpuMicrosPerRequest: number;
  readonly residentBytes: number;
}

export interface LoadOptions {
  readonly load: Load;
  readonly seconds: number;
  /** For what the programs want as files. */
  readonly folder: string;
}

export interface RunOptions extends LoadOptions {
  readonly port: number;
}

/** Throws if a single request fails. */
export async function measureLoad(server: ServerProcess, options: LoadOptions): Promise<Measured> {
  const run = options.load.with === "wrk" ? runWrk : runH2load;
  const before = await server.usage();
  const { requests, ...counted } = await run({ ...options, port: server.port });
  const after = await server.usage();
  return {
    ...counted,
    cpuMicrosPerRequest: (1e6 * (after.cpuSeconds - before.cpuSeconds)) / requests,
    residentBytes: after.residentBytes,
  };
}

/** By the nearest rank, of times in any unit; the array is sorted where it stands. */
export function percentiles(times: Float64Array, unitsPerMs: number): Percentiles {
  times.sort();
  const at = (share: number) => (times[Math.ceil(share * times.length) - 1] ?? Number.NaN) / unitsPerMs;
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999) };
}
