import { setImmediate } from "node:timers/promises";

export interface Measured<T> {
  readonly result: T;
  /** The longest time for which nothing else in this process got its turn. */
  readonly pauseMs: number;
}

/** Watches the event loop while something runs. Time in which the machine was busy with other processes does not count. */
export async function measurePauses<T>(run: () => Promise<T>): Promise<Measured<T>> {
  const done = new AbortController();
  const pauseMs = longestPause(done.signal);
  const result = await run().finally(() => done.abort());
  return { result, pauseMs: await pauseMs };
}

async function longestPause(signal: AbortSignal): Promise<number> {
  let longest = 0;
  let before = readClocks();
  while (!signal.aborted) {
    await setImmediate();
    const now = readClocks();
    longest = Math.max(longest, Math.min(now.wallMs - before.wallMs, now.cpuMs - before.cpuMs));
    before = now;
  }
  return longest;
}

function readClocks(): { readonly wallMs: number; readonly cpuMs: number } {
  const { user, system } = process.cpuUsage();
  return { wallMs: performance.now(), cpuMs: (user + system) / 1_000 };
}
