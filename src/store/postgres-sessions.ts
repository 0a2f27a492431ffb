import { setMaxListeners } from "node:events";
import type { Clock } from "../system/clock.ts";
import { withDeadline } from "../upstream/transport/deadline.ts";
import type { PostgresConnection } from "./postgres-connection.ts";
import { PostgresPool, type PostgresPoolOptions } from "./postgres-pool.ts";

export interface PostgresSessionsOptions extends PostgresPoolOptions {
  /** For a call as a whole: the wait for a session, connecting, and all tries. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** The reason with which calls end, and are refused, once the sessions are closed. */
export class SessionsClosedError extends Error {
  override readonly name = "SessionsClosedError";
}

/** How long a server may take to say goodbye. */
const CLOSE_TIMEOUT_MS = 1_000;

/** A few sessions for calls that each have a deadline, whatever they do. */
export class PostgresSessions implements AsyncDisposable {
  readonly #options: PostgresSessionsOptions;
  readonly #pool: PostgresPool;
  readonly #closing = new AbortController();

  constructor(options: PostgresSessionsOptions) {
    this.#options = options;
    this.#pool = new PostgresPool(options);
    // One for each call under way: Node takes more than ten for a leak.
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * Runs with a signal that aborts with a DeadlineError when the time is over, and with a SessionsClosedError when this
   * is closed. `run` has to heed it: this waits for nothing else.
   *
   * @throws SessionsClosedError and runs nothing, if it is closed already
   */
  call<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { timeoutMs, clock } = this.#options;
    return withDeadline({ timeoutMs, clock, outer: this.#closing.signal }, ({ signal }) => run(signal));
  }

  /** Lends a session to a part of a call; see `PostgresPool.run`. */
  use<T>(use: (session: PostgresConnection) => Promise<T>, signal: AbortSignal): Promise<T> {
    return this.#pool.run(use, signal);
  }

  /** See `PostgresPool.dropIdle`. */
  dropIdle(): void {
    this.#pool.dropIdle();
  }

  /** Ends all sessions: those at work at once, idle ones in good order, if the server takes part in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { timeoutMs, clock } = this.#options;
    this.#closing.abort(new SessionsClosedError("the daemon is stopping"));
    const tooLong = new AbortController();
    const cancel = clock.after(Math.min(CLOSE_TIMEOUT_MS, timeoutMs), () => tooLong.abort());
    await this.#pool.close(tooLong.signal);
    cancel();
  }
}
