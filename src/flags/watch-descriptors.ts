import type { Clock } from "../system/clock.ts";
import type { Latest } from "../system/latest.ts";
import { watchFile } from "../system/watch-file.ts";
import type { FlagTable } from "./definition.ts";
import { loadDescriptors } from "./load-descriptors.ts";
import { type DescriptorWatch, ReloadQueue } from "./reload-queue.ts";
import { isInForce, type ReloadResult, takeTable, toRejection } from "./take-table.ts";

export type { DescriptorWatch } from "./reload-queue.ts";
export type { ReloadResult } from "./take-table.ts";

export interface DescriptorWatchOptions {
  /** A file, or a directory of `.pb` files. */
  readonly path: string;
  /** The table in force; replaced as a whole. */
  readonly table: Latest<FlagTable>;
  readonly clock: Clock;
  /** How often to look where the operating system does not say that the file changed: 30 s unless set. */
  readonly pollMs?: number;
  /** How long a file that cannot be used may be half-written: 1 s unless set. Then it is tried again, and reported. */
  readonly retryMs?: number;
  /** What the watch begins after. Whatever changed before that, it sees then. Unset: nothing. */
  readonly startsAfter?: (signal: AbortSignal) => Promise<void>;
  /** Called after every reload, whoever asked for it, and once soon after the watch begins. */
  readonly onReload: (result: ReloadResult) => void;
  /** The operating system cannot watch; polling goes on. */
  readonly onWatchError?: (error: unknown) => void;
}

interface Request {
  readonly force: boolean;
  readonly report: "always" | "if usable";
}

/**
 * Keeps a flag table like its file. A file that cannot be used changes nothing. Written in place, a file may be seen half
 * done; it should be replaced by rename.
 */
export function openDescriptorWatch(options: DescriptorWatchOptions): DescriptorWatch {
  const { path, table, clock, pollMs = 30_000, retryMs = 1_000, onReload, onWatchError = () => {} } = options;
  const stop = new AbortController();
  const queue = new ReloadQueue<Request>({
    async attempt({ force, report }) {
      const result = await reload(path, table, force);
      return { result, isTold: report === "always" || isInForce(result) };
    },
    onReload,
  });

  async function onChange(): Promise<void> {
    if (isInForce(await queue.request({ force: false, report: "if usable" }))) return;
    await clock.sleep(retryMs, stop.signal).catch(() => {});
    if (!stop.signal.aborted) await queue.request({ force: false, report: "always" });
  }

  const watch = watchFile({ path, clock, pollMs, startsAfter: options.startsAfter, onChange, onWatchError });
  return {
    reload: ({ force = false } = {}) => queue.request({ force, report: "always" }),
    get lastResult() {
      return queue.lastResult;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watch[Symbol.asyncDispose]();
      await queue.ended();
    },
  };
}

async function reload(path: string, table: Latest<FlagTable>, force: boolean): Promise<ReloadResult> {
  const next = await loadDescriptors(path, table.value).catch(toRejection);
  if ("kind" in next) return next;
  if (next === table.value) return { kind: "unchanged" };
  return takeTable(table, next, { name: path, occasion: force ? "forced reload" : "reload" });
}
