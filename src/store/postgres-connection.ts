import { Client, DatabaseError } from "pg";
import type { Clock } from "../system/clock.ts";
import { StoreError } from "./flag-store.ts";
import { withPatience } from "./patience.ts";
import { PostgresSocket } from "./postgres-socket.ts";

/** One SQL statement. */
export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
  /** Prepared under this name; undefined: not kept. */
  readonly name: string | undefined;
}

/** What another session sent on a channel that this one listens on. */
export interface Notification {
  readonly channel: string;
  /** Less than 8,000 bytes. */
  readonly payload: string;
}

export interface PostgresConnectionOptions {
  readonly url: string;
  /** Shown in pg_stat_activity; "pbflagd" unless set. */
  readonly applicationName?: string;
  /** The server gives up a statement after this long; undefined: never. Not every pooler lets it be set. */
  readonly statementTimeoutMs: number | undefined;
  /** While it is being opened, the server is given up after so long without a word of it. */
  readonly silenceMs: number;
  /**
   * Whoever gives up a statement leaves the session to those after him, if the answer comes within so long of when it
   * was asked. Unset: the session ends with the statement, as one has to that is in a transaction.
   */
  readonly lateAnswerMs?: number;
  readonly clock: Pick<Clock, "now" | "after">;
  /** Must not throw. */
  readonly onNotification?: (notification: Notification) => void;
}

/** One session. Any failure that is not the server's answer to a statement ends it. */
export interface PostgresConnection {
  /** It may take another statement. */
  readonly isOpen: boolean;
  /** Set while an answer is to come that nobody waits for: resolves when it has, or the session has ended. */
  readonly late: Promise<void> | undefined;
  /** Resolves when the socket is closed, with what ended the session if that was neither us nor a statement. */
  readonly closed: Promise<unknown>;
  /**
   * Rejects with the signal's reason as soon as `signal` aborts; asks nothing if it has already. See `lateAnswerMs`.
   *
   * @throws SessionLostError
   */
  query<R extends object>(statement: Statement, signal: AbortSignal): Promise<readonly R[]>;
  /** Takes leave of the server; resolves when the socket is closed. */
  close(): Promise<void>;
  /** Closes the socket at once: nothing more is heard from it. */
  destroy(): void;
}

/** For all of opening, or `silenceMs` if that is longer: some seven ways there and back, with TLS. */
const OPEN_TIMEOUT_MS = 5_000;

const KEEP_ALIVE_AFTER_MS = 10_000;

/** After so many in one turn of the event loop the next are read in the next: Node alone would read two megabytes. */
const NOTIFICATIONS_A_TURN = 1_000;

/**
 * Opens a session, however far away the server is, as long as it is heard. Rejects with the signal's reason, and leaves
 * no socket behind, as soon as `signal` aborts.
 */
export async function openPostgresConnection(
  options: PostgresConnectionOptions,
  signal: AbortSignal,
): Promise<PostgresConnection> {
  const { silenceMs, lateAnswerMs, clock } = options;
  const socket = new PostgresSocket();
  const client = new Client({
    connectionString: options.url,
    application_name: options.applicationName ?? "pbflagd",
    statement_timeout: options.statementTimeoutMs ?? 0,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_AFTER_MS,
    stream: () => socket,
  });
  socket.follow(client);
  let isOpen = true;
  let wasUsed = false;
  let late: Promise<void> | undefined;
  const destroy = () => {
    isOpen = false;
    socket.destroy();
  };
  let failure: unknown;
  // A session lost while idle is not handed out again.
  client.on("error", (error) => {
    failure ??= error;
    destroy();
  });
  let heardThisTurn = 0;
  client.on("notification", ({ channel, payload = "" }) => {
    if (heardThisTurn === 0) {
      setImmediate(() => {
        heardThisTurn = 0;
        socket.source.resume();
      });
    }
    heardThisTurn += 1;
    if (heardThisTurn === NOTIFICATIONS_A_TURN) socket.source.pause();
    if (isOpen) options.onNotification?.({ channel, payload });
  });
  const closed = new Promise<unknown>((resolve) => {
    socket.once("close", () => {
      isOpen = false;
      resolve(failure);
    });
  });
  try {
    const timeoutMs = Math.max(OPEN_TIMEOUT_MS, silenceMs);
    await withPatience({ silenceMs, timeoutMs, clock, outer: signal }, (patience) => {
      socket.onLife = patience.heard;
      return unlessAborted(client.connect(), patience.signal);
    });
    socket.onLife = undefined;
  } catch (error) {
    destroy();
    throw error;
  }

  async function take<T>(answering: Promise<T>): Promise<T> {
    try {
      const answer = await answering;
      wasUsed = true;
      return answer;
    } catch (error) {
      if (isAnswer(error)) throw error;
      destroy();
      throw new SessionLostError(wasUsed, error);
    }
  }

  async function takeLate(answer: Promise<unknown>, withinMs: number): Promise<void> {
    const cancel = clock.after(withinMs, destroy);
    await Promise.race([answer.catch(() => {}), closed]);
    cancel();
    late = undefined;
  }

  return {
    get isOpen() {
      return isOpen;
    },
    get late() {
      return late;
    },
    closed,
    async query<R extends object>({ text, values, name }: Statement, aborting: AbortSignal) {
      aborting.throwIfAborted();
      const askedAt = clock.now();
      const query = { text, values: [...values], ...(name === undefined ? {} : { name }) };
      const answer = take(client.query<R>(query));
      try {
        return (await unlessAborted(answer, aborting)).rows;
      } catch (error) {
        if (error !== aborting.reason) throw error;
        if (lateAnswerMs === undefined) destroy();
        else late = takeLate(answer, askedAt + lateAnswerMs - clock.now());
        throw error;
      }
    },
    async close() {
      isOpen = false;
      client.end().catch(() => {});
      await closed;
    },
    destroy,
  };
}

/** The session ended while it was to answer. */
export class SessionLostError extends Error {
  override readonly name = "SessionLostError";
  /** It had answered before: it may have died long ago, unnoticed, and a new one may do. */
  readonly wasUsed: boolean;

  constructor(wasUsed: boolean, cause: unknown) {
    super(reasonOf(cause), { cause });
    this.wasUsed = wasUsed;
  }
}

/** What an error says; a host with several addresses that all fail gives one error without a message. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(reasonOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}

/**
 * Host, port and database of a URL. Throws a StoreError for a URL that cannot be one: its own error would quote it,
 * password and all.
 */
export function describeTarget(url: string): string {
  try {
    const { host, port, database } = new Client({ connectionString: url });
    return `${host}:${port}/${database ?? ""}`;
  } catch (error) {
    const reason = reasonOf(error);
    throw new StoreError(`Cannot use the database URL: ${reason}, got one that is not shown here`);
  }
}

/** Whether an error is the server's word on what was asked, and not the end of the session. */
export function isAnswer(error: unknown): error is DatabaseError & { readonly code: string } {
  // Class 57P: the server is going or not yet there. Class 08: the connection, but for complaints about a message.
  return error instanceof DatabaseError && /^(?!57P|08(?!P01))[0-9A-Z]{5}$/.test(error.code ?? "");
}

/** Settles as `promise` does, or rejects with the signal's reason if that comes first. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
