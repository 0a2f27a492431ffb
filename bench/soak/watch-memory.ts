import { systemClock } from "../../src/system/clock.ts";
import type { ServerProcess } from "../servers/server-process.ts";
import { median } from "../table.ts";

/** How much memory a server held while something ran, in bytes. */
export interface WatchedMemory {
  /** Once it had settled: the median of the second fifth of the time. */
  readonly early: number;
  /** The median of the last fifth. */
  readonly late: number;
  readonly max: number;
}

const PERIOD_MS = 1_000;

/** Looks once a second while something runs. */
export async function watchMemory<T>(
  server: ServerProcess,
  run: () => Promise<T>,
): Promise<readonly [T, WatchedMemory]> {
  const done = new AbortController();
  const watching = collect(server, done.signal);
  const result = await run().finally(() => done.abort());
  const seen = await watching;
  const fifth = (n: number) =>
    median(seen.slice(Math.floor((n * seen.length) / 5), Math.ceil(((n + 1) * seen.length) / 5)));
  return [result, { early: fifth(1), late: fifth(4), max: Math.max(...seen) }];
}

async function collect(server: ServerProcess, signal: AbortSignal): Promise<readonly number[]> {
  const seen: number[] = [];
  while (!signal.aborted) {
    seen.push((await server.usage()).residentBytes);
    // Woken early where there is nothing more to see.
    await systemClock.sleep(PERIOD_MS, signal).catch(() => {});
  }
  return seen;
}
