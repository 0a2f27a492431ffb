import type { Clock } from "../system/clock.ts";
import type { Latest } from "../system/latest.ts";
import { runInSlices } from "../system/run-in-slices.ts";
import { watchFile } from "../system/watch-file.ts";
import { compareTablesInSteps, isUnchanged, type TableComparison } from "./compare-tables.ts";
import type { FlagTable } from "./definition.ts";
import { judgeReload } from "./judge-reload.ts";
import { loadDescriptors } from "./load-descriptors.ts";
import { DescriptorError } from "./parse-descriptors.ts";

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
  /** Called after every reload, whoever asked for it, and once soon after the watch begins. */
  readonly onReload: (result: ReloadResult) => void;
  /** The operating system cannot watch; polling goes on. */
  readonly onWatchError?: (error: unknown) => void;
}

/** What became of one reload. */
export type ReloadResult =
  /** The file says what is in force already. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "replaced"; readonly comparison: TableComparison }
  /** The file cannot be used; the old table serves on. */
  | { readonly kind: "rejected"; readonly reason: string }
  /** It looks like an accident; the old table serves on until the reload is forced. */
  | { readonly kind: "held"; readonly reason: string };

export interface DescriptorWatch extends AsyncDisposable {
  /** Reads the file now. `force` takes up a table that would otherwise be held; nothing else. */
  reload(options?: { readonly force?: boolean }): Promise<ReloadResult>;
  /** Undefined until the first one. */
  readonly lastResult: ReloadResult | undefined;
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
  const waiting = new Map<string, Promise<ReloadResult>>();
  let last: Promise<unknown> = Promise.resolve();
  let lastResult: ReloadResult | undefined;

  /** One at a time; who asks for the same while one is waiting to begin, shares it. */
  function enqueue(request: Request): Promise<ReloadResult> {
    const key = JSON.stringify(request);
    const result = waiting.get(key) ?? last.then(() => begin(key, request));
    waiting.set(key, result);
    last = result.catch(() => {});
    return result;
  }

  async function begin(key: string, { force, report }: Request): Promise<ReloadResult> {
    waiting.delete(key);
    const result = await reload(path, table, force);
    if (report === "always" || isUsable(result)) {
      lastResult = result;
      onReload(result);
    }
    return result;
  }

  async function onChange(): Promise<void> {
    if (isUsable(await enqueue({ force: false, report: "if usable" }))) return;
    await clock.sleep(retryMs, stop.signal).catch(() => {});
    if (!stop.signal.aborted) await enqueue({ force: false, report: "always" });
  }

  const watch = watchFile({ path, clock, pollMs, onChange, onWatchError });
  return {
    reload: ({ force = false } = {}) => enqueue({ force, report: "always" }),
    get lastResult() {
      return lastResult;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await watch[Symbol.asyncDispose]();
      await last;
    },
  };
}

function isUsable({ kind }: ReloadResult): boolean {
  return kind === "unchanged" || kind === "replaced";
}

async function reload(path: string, table: Latest<FlagTable>, force: boolean): Promise<ReloadResult> {
  const next = await loadDescriptors(path).catch(toRejection);
  if ("kind" in next) return next;
  const comparison = await runInSlices(compareTablesInSteps(table.value, next));
  if (isUnchanged(comparison)) return { kind: "unchanged" };
  const verdict = judgeReload(table.value, next, comparison);
  if (verdict.kind === "refused") return { kind: "rejected", reason: `${path}: ${verdict.reason}` };
  if (verdict.kind === "held" && !force) return { kind: "held", reason: `${path}: ${verdict.reason}` };
  table.replace(next);
  return { kind: "replaced", comparison };
}

function toRejection(error: unknown): ReloadResult {
  if (error instanceof DescriptorError) return { kind: "rejected", reason: error.message };
  throw error;
}
