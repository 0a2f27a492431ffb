import type { PostgresConnection } from "./postgres-connection.ts";

export interface PostgresPoolOptions {
  /** Sessions at most, those that are being opened among them. */
  readonly size: number;
  /** Has to end by itself, one way or the other, and as soon as `signal` aborts; then it leaves nothing behind. */
  readonly open: (signal: AbortSignal) => Promise<PostgresConnection>;
}

/** Somebody in the line. */
interface Waiting {
  /** The how many-eth caller who had to wait. */
  readonly number: number;
  readonly take: (connection: PostgresConnection) => void;
  readonly fail: (error: unknown) => void;
}

/**
 * A few sessions, each lent to one caller at a time, callers in the order they came.
 *
 * A session that is being opened is nobody's: whoever has waited longest gets it, and where all have given up by then,
 * it is there for the next. So a server that is too far away for a session to be opened in the time that one caller has
 * is reached nevertheless.
 */
export class PostgresPool {
  readonly #options: PostgresPoolOptions;
  /** The one used last comes last: it is handed out first, and is the least likely to have died unnoticed. */
  #idle: PostgresConnection[] = [];
  readonly #lent = new Set<PostgresConnection>();
  #opening = 0;
  readonly #line = new Set<Waiting>();
  /** Callers who ever had to wait. */
  #waited = 0;
  readonly #closing = new AbortController();

  constructor(options: PostgresPoolOptions) {
    this.#options = options;
  }

  /** Lends a session, idle or new, to `use`. The wait for it ends, rejecting, when `signal` aborts. */
  async run<T>(use: (connection: PostgresConnection) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const connection = this.#takeIdle() ?? (await this.#queue(signal));
    try {
      return await use(connection);
    } finally {
      const { late } = connection;
      if (late === undefined) this.#takeBack(connection);
      else void late.then(() => this.#takeBack(connection));
    }
  }

  /** Ends idle sessions without a word: when one has died, the others probably have as well. */
  dropIdle(): void {
    for (const connection of this.#idle) connection.destroy();
    this.#idle = [];
  }

  /**
   * Ends idle sessions in good order, at the latest when `signal` aborts, and at once those at work and those that are
   * being opened.
   */
  async close(signal: AbortSignal): Promise<void> {
    this.#closing.abort(new Error("the sessions are closed"));
    for (const connection of this.#lent) connection.destroy();
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
    const connection = this.#idle.pop();
    if (connection !== undefined) this.#lent.add(connection);
    return connection;
  }

  #queue(signal: AbortSignal): Promise<PostgresConnection> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#line.delete(waiting);
        signal.removeEventListener("abort", giveUp);
      };
      const giveUp = () => waiting.fail(signal.reason);
      const waiting: Waiting = {
        number: ++this.#waited,
        take: (connection) => {
          leave();
          this.#lent.add(connection);
          resolve(connection);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      this.#line.add(waiting);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#openMore();
    });
  }

  /** As many as are waited for, as far as there is room. */
  #openMore(): void {
    while (this.#opening < this.#line.size && this.#lent.size + this.#opening < this.#options.size) {
      void this.#open();
    }
  }

  async #open(): Promise<void> {
    const waited = this.#waited;
    this.#opening += 1;
    const opened = await this.#options.open(this.#closing.signal).catch((error: unknown) => ({ error }));
    this.#opening -= 1;
    if (!("error" in opened)) return this.#handOn(opened);
    const [first] = this.#line;
    // Who came after it was begun has a better right to a try than to its failure.
    if (first !== undefined && first.number <= waited) first.fail(opened.error);
    this.#openMore();
  }

  #takeBack(connection: PostgresConnection): void {
    this.#lent.delete(connection);
    this.#handOn(connection);
  }

  /** Straight to whoever has waited longest, so that no newcomer slips in. */
  #handOn(connection: PostgresConnection): void {
    if (this.#closing.signal.aborted) connection.destroy();
    const [next] = this.#line;
    if (!connection.isOpen) this.#openMore();
    else if (next === undefined) this.#idle.push(connection);
    else next.take(connection);
  }
}
