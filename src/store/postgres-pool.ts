import type { PostgresConnection } from "./postgres-connection.ts";

export interface PostgresPoolOptions {
  /** Sessions at most. */
  readonly size: number;
  readonly open: (signal: AbortSignal) => Promise<PostgresConnection>;
}

/** A few sessions, each lent to one caller at a time, callers in the order they came. */
export class PostgresPool {
  readonly #open: (signal: AbortSignal) => Promise<PostgresConnection>;
  /** The one used last comes last: it is handed out first, and is the least likely to have died unnoticed. */
  #idle: PostgresConnection[] = [];
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(options: PostgresPoolOptions) {
    this.#open = options.open;
    this.#free = options.size;
  }

  /** Lends a session, idle or new, to `use`. The wait for it ends, rejecting, when `signal` aborts. */
  async run<T>(use: (connection: PostgresConnection) => Promise<T>, signal: AbortSignal): Promise<T> {
    await this.#takePlace(signal);
    try {
      const connection = this.#takeIdle() ?? (await this.#open(signal));
      try {
        return await use(connection);
      } finally {
        if (connection.isOpen) this.#idle.push(connection);
      }
    } finally {
      this.#givePlace();
    }
  }

  /** Ends idle sessions without a word: when one has died, the others probably have as well. */
  dropIdle(): void {
    for (const connection of this.#idle) connection.destroy();
    this.#idle = [];
  }

  /** Ends idle sessions in good order, at the latest when `signal` aborts. */
  async close(signal: AbortSignal): Promise<void> {
    const idle = this.#idle;
    this.#idle = [];
    const destroyAll = () => {
      for (const connection of idle) connection.destroy();
    };
    if (signal.aborted) destroyAll();
    signal.addEventListener("abort", destroyAll, { once: true });
    await Promise.all(idle.map((connection) => connection.close()));
  }

  #takeIdle(): PostgresConnection | undefined {
    this.#idle = this.#idle.filter(({ isOpen }) => isOpen);
    return this.#idle.pop();
  }

  async #takePlace(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const take = () => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.delete(take);
        reject(signal.reason);
      };
      this.#waiting.add(take);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  /** Straight to whoever has waited longest, so that no newcomer slips in. */
  #givePlace(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
