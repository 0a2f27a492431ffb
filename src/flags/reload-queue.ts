import type { ReloadResult } from "./take-table.ts";

/** Keeps a flag table like descriptors that may change. */
export interface DescriptorWatch extends AsyncDisposable {
  /** Looks at the descriptors now. `force` takes up a table that would otherwise be held; nothing else. */
  reload(options?: { readonly force?: boolean }): Promise<ReloadResult>;
  /** Undefined until the first one. */
  readonly lastResult: ReloadResult | undefined;
}

export interface ReloadQueueOptions<R extends object> {
  /** Makes one reload. `isTold`: it counts as the last one, and is reported. */
  readonly attempt: (request: R) => Promise<{ readonly result: ReloadResult; readonly isTold: boolean }>;
  readonly onReload: (result: ReloadResult) => void;
}

/** Reloads one at a time. Requests are the same if their JSON is. */
export class ReloadQueue<R extends object> {
  readonly #options: ReloadQueueOptions<R>;
  /** Not begun yet. */
  readonly #waiting = new Map<string, Promise<ReloadResult>>();
  #last: Promise<unknown> = Promise.resolve();
  #lastResult: ReloadResult | undefined;

  constructor(options: ReloadQueueOptions<R>) {
    this.#options = options;
  }

  get lastResult(): ReloadResult | undefined {
    return this.#lastResult;
  }

  /** Who asks for the same while one is waiting to begin, shares it. */
  request(request: R): Promise<ReloadResult> {
    const key = JSON.stringify(request);
    const shared = this.#waiting.get(key);
    if (shared !== undefined) return shared;
    const result = this.#last.then(() => this.#begin(key, request));
    this.#waiting.set(key, result);
    this.#last = result.catch(() => {});
    return result;
  }

  /** Resolves when all that was asked for has been done. */
  async ended(): Promise<void> {
    await this.#last;
  }

  async #begin(key: string, request: R): Promise<ReloadResult> {
    this.#waiting.delete(key);
    const { result, isTold } = await this.#options.attempt(request);
    if (isTold) {
      this.#lastResult = result;
      this.#options.onReload(result);
    }
    return result;
  }
}
