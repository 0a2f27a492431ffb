import { isAtLeast, type Version } from "../evaluation/version.ts";

export interface CatchUpOptions {
  /** The version of the kill set in force. */
  readonly known: () => Version | undefined;
  /** Asks for a poll soon. */
  readonly poll: () => void;
}

interface Waiter {
  readonly version: Version;
  /** Polls begun when it began to wait: a later one will have asked after what it wants to know. */
  readonly pollsBegun: number;
  readonly resolve: (reached: boolean) => void;
}

/** Waits for what somebody else already knows of the store. All who wait share the polls. */
export class CatchUp {
  readonly #options: CatchUpOptions;
  readonly #waiters = new Set<Waiter>();
  #pollsBegun = 0;

  constructor(options: CatchUpOptions) {
    this.#options = options;
  }

  /** What the next poll should bring at least: the newest that is waited for, whether it exists or not. */
  get wanted(): Version | undefined {
    let newest: Version | undefined;
    for (const { version } of this.#waiters)
      if (newest === undefined || isAtLeast(version, newest)) newest = version;
    return newest;
  }

  /** True once the version is known; false if a poll did not bring it, or `signal` aborts. Never rejects. */
  wait(version: Version, signal: AbortSignal): Promise<boolean> {
    if (isAtLeast(this.#options.known(), version)) return Promise.resolve(true);
    if (signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const giveUp = () => waiter.resolve(false);
      const waiter: Waiter = {
        version,
        pollsBegun: this.#pollsBegun,
        resolve: (reached) => {
          signal.removeEventListener("abort", giveUp);
          this.#waiters.delete(waiter);
          resolve(reached);
        },
      };
      signal.addEventListener("abort", giveUp, { once: true });
      this.#waiters.add(waiter);
      this.#options.poll();
    });
  }

  pollBegins(): void {
    this.#pollsBegun += 1;
  }

  /** The last poll that began has been answered, or has failed. */
  pollEnds(): void {
    const known = this.#options.known();
    for (const waiter of [...this.#waiters]) {
      const reached = isAtLeast(known, waiter.version);
      if (reached || waiter.pollsBegun < this.#pollsBegun) waiter.resolve(reached);
    }
  }
}
