import { setTimeout } from "node:timers/promises";
import { connectDatabase } from "../src/store/database.ts";

export interface SteadyChanges extends AsyncDisposable {
  /** Committed so far. */
  readonly count: number;
}

/** Somebody who changes values at a steady pace: of the flags, which are strings, one after the other. */
export function startChanges(
  url: string,
  { flagIds, perSecond }: { readonly flagIds: readonly string[]; readonly perSecond: number },
): SteadyChanges {
  const stop = new AbortController();
  let count = 0;

  async function write(): Promise<void> {
    if (perSecond === 0) return;
    await using database = await connectDatabase({ url });
    const startedAt = performance.now();
    while (!stop.signal.aborted) {
      const flagId = flagIds[count % flagIds.length];
      await database.query("SELECT feature_flags.set_value($1, $2::text)", [flagId, `value ${count}`]);
      count += 1;
      const dueMs = startedAt + (count * 1_000) / perSecond - performance.now();
      await setTimeout(Math.max(0, dueMs));
    }
  }

  const writing = write();
  // Who disposes hears of it.
  writing.catch(() => {});
  return {
    get count() {
      return count;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await writing;
    },
  };
}
