import type { Clock } from "../system/clock.ts";
import {
  describeTarget,
  isAnswer,
  openPostgresConnection,
  type PostgresConnection,
  reasonOf,
  SessionLostError,
} from "./postgres-connection.ts";
import { PostgresSessions, SessionsClosedError } from "./postgres-sessions.ts";

export interface TransactionsOptions {
  /** `postgres://…`, as pg reads it. */
  readonly url: string;
  /** Sessions at most. None is open before somebody asks. */
  readonly poolSize: number;
  /** For a transaction as a whole: the wait for a session, connecting, and all tries. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** One statement of a transaction, and its rows. */
export type Query = <R extends object>(text: string, values?: readonly unknown[]) => Promise<readonly R[]>;

/** What was read, and from which state. */
export interface ReadAt<T> {
  readonly value: T;
  /** `epoch:revision` of the snapshot that it was read from. */
  readonly version: string;
}

/** The database could not do it now, and may a moment later. The message says whether anything was changed. */
export class DatabaseAwayError extends Error {
  override readonly name = "DatabaseAwayError";
}

/** A session that had been lying idle may be dead: so may the others, but not a new one. */
const TRIES_MAX = 2;

/** Of the deadline, what one statement may take: the server then says why, instead of saying nothing. */
const LOCK_SHARE = 0.6;
const STATEMENT_SHARE = 0.8;

/**
 * Short transactions for people, each in bounded time: a lock that somebody holds, a server that hangs and one that
 * is gone are a `DatabaseAwayError`. Answers of the database are thrown as they are. Nobody else's sessions are used.
 */
export class Transactions implements AsyncDisposable {
  readonly #options: TransactionsOptions;
  readonly #target: string;
  readonly #sessions: PostgresSessions;

  /** Throws a StoreError for a URL that cannot be one. */
  constructor(options: TransactionsOptions) {
    this.#options = options;
    this.#target = describeTarget(options.url);
    this.#sessions = new PostgresSessions({
      ...options,
      size: options.poolSize,
      open: (signal) =>
        // Statements are limited in each transaction: not every pooler lets it be done here.
        openPostgresConnection(
          {
            url: options.url,
            applicationName: "pbflagd-admin",
            statementTimeoutMs: undefined,
            silenceMs: options.timeoutMs,
            clock: options.clock,
          },
          signal,
        ).catch((error: unknown) => {
          throw new SessionLostError(false, error);
        }),
    });
  }

  /** All that `work` reads is of one snapshot. */
  read<T>(work: (query: Query) => Promise<T>): Promise<ReadAt<T>> {
    return this.#call((signal) =>
      this.#run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", signal, async (query) => ({
        value: await work(query),
        version: await readVersion(query),
      })),
    );
  }

  /**
   * Commits what `work` wrote in the name of `actor`, or nothing if it throws. Returns `epoch:revision` of a state that
   * has it; undefined if the database was lost right after the commit.
   */
  write(actor: string, work: (query: Query) => Promise<void>): Promise<string | undefined> {
    return this.#call(async (signal) => {
      await this.#run("BEGIN", signal, async (query) => {
        await query("SELECT set_config('pbflags.actor', $1, true)", [actor]);
        await work(query);
      });
      // It is done: not to learn the version must not look like a failure.
      return this.#sessions
        .use((session) => readVersion(queryOf(session, signal)), signal)
        .catch(() => undefined);
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#sessions[Symbol.asyncDispose]();
  }

  async #call<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await this.#sessions.call(run);
    } catch (error) {
      if (!(error instanceof SessionsClosedError)) throw error;
      throw new DatabaseAwayError(`${error.message}; nothing was changed`, { cause: error });
    }
  }

  async #run<T>(begin: string, signal: AbortSignal, work: (query: Query) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      const progress = { isCommitting: false };
      const attempt = (session: PostgresConnection) =>
        this.#attempt({ session, begin, signal, work, progress });
      try {
        return await this.#sessions.use(attempt, signal);
      } catch (error) {
        if (error instanceof SessionLostError) {
          this.#sessions.dropIdle();
          if (error.wasUsed && !progress.isCommitting && tries < TRIES_MAX) continue;
        } else if (error !== signal.reason) throw explainAnswer(error);
        throw this.#explainLoss(error, progress.isCommitting);
      }
    }
  }

  async #attempt<T>({ session, begin, signal, work, progress }: Attempt<T>): Promise<T> {
    const query = queryOf(session, signal);
    await query(begin);
    try {
      await query(
        LIMIT,
        [LOCK_SHARE, STATEMENT_SHARE].map((share) => String(Math.ceil(this.#options.timeoutMs * share))),
      );
      const value = await work(query);
      progress.isCommitting = true;
      await query("COMMIT");
      return value;
    } catch (error) {
      if (session.isOpen) await query("ROLLBACK").catch(() => session.destroy());
      throw error;
    }
  }

  #explainLoss(cause: unknown, isCommitting: boolean): DatabaseAwayError {
    const outcome = isCommitting
      ? "it was committing, and whether that was done is not known: look, or do it again"
      : "nothing was changed";
    return new DatabaseAwayError(
      `the database at ${this.#target} does not answer: ${reasonOf(cause)}; ${outcome}`,
      {
        cause,
      },
    );
  }
}

interface Attempt<T> {
  readonly session: PostgresConnection;
  readonly begin: string;
  readonly signal: AbortSignal;
  readonly work: (query: Query) => Promise<T>;
  readonly progress: { isCommitting: boolean };
}

// Also if we hang in the middle of it: nobody may have to wait for our locks.
const LIMIT = `SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true),
  set_config('idle_in_transaction_session_timeout', $2, true)`;

function queryOf(session: PostgresConnection, signal: AbortSignal): Query {
  return (text, values = []) => session.query({ text, values, name: undefined }, signal);
}

async function readVersion(query: Query): Promise<string> {
  const [row] = await query<{ version: string }>("SELECT feature_flags.version() AS version");
  return row?.version ?? "";
}

function explainAnswer(error: unknown): unknown {
  if (!isAnswer(error)) return error;
  const reason = TEMPORARY.get(error.code) ?? TEMPORARY.get(error.code.slice(0, 2));
  return reason === undefined
    ? error
    : new DatabaseAwayError(`${reason}; nothing was changed`, { cause: error });
}

/** Answers, by code or class, that may be others a moment later. */
const TEMPORARY: ReadonlyMap<string, string> = new Map([
  ["55P03", "another transaction holds the row (docs/database.md says how to find it)"],
  ["57014", "the database did not finish in time"],
  ["25006", "the database takes no writes now: it is a standby, or set to read only"],
  ["40", "it collided with another transaction"],
  ["53", "the database has run out of something, connections or memory"],
]);
