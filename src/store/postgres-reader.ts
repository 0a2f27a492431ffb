import type { DatabaseError } from "pg";
import { parseVersion, type Version } from "../evaluation/version.ts";
import type { Clock } from "../system/clock.ts";
import { DeadlineError } from "../upstream/transport/deadline.ts";
import { StoreError } from "./flag-store.ts";
import {
  describeTarget,
  isAnswer,
  openPostgresConnection,
  type PostgresConnection,
  reasonOf,
  SessionLostError,
} from "./postgres-connection.ts";
import { PostgresSessions } from "./postgres-sessions.ts";
import { DETECT, type Read } from "./postgres-statements.ts";

export interface PostgresReaderOptions {
  readonly url: string;
  readonly poolSize: number;
  readonly preparedStatements: "auto" | "off";
  readonly fetchTimeoutMs: number;
  readonly clock: Clock;
}

const PING = { text: "SELECT 1", values: [], name: undefined };

/** What every statement returns in every row. */
interface AnyRow {
  readonly version: string | null;
  /** Set by the statement that is asked most regularly. */
  readonly has_versions?: boolean;
}

/** Never empty: a statement that finds nothing returns one row that says so. */
export interface Rows<R> {
  readonly rows: readonly [R, ...R[]];
  /** Of the same snapshot. Undefined where the database has none. */
  readonly version: Version | undefined;
}

/** With our additions, or as pbflags alone makes it. */
type Form = "versioned" | "plain";

/** A call that finds the world changed tries again; this often, if its deadline allows. */
const TRIES_MAX = 4;

/**
 * Asks a database, within a deadline, and finds out how it likes to be asked: whether it has versions, whether
 * what stands before it carries prepared statements and settings. All that may change while we run.
 */
export class PostgresReader implements AsyncDisposable {
  readonly #options: PostgresReaderOptions;
  readonly #target: string;
  readonly #sessions: PostgresSessions;
  #form: Form | undefined;
  #prepares: boolean;
  #setsTimeout = true;
  #hasXml = true;
  /** Why the server refused the last session. Undefined: it did not. */
  #refusal: string | undefined;
  /** Undefined: it is not, or not any more. */
  #preparing: Promise<void> | undefined;

  constructor(options: PostgresReaderOptions) {
    this.#options = options;
    this.#target = describeTarget(options.url);
    this.#prepares = options.preparedStatements === "auto";
    this.#sessions = new PostgresSessions({
      size: options.poolSize,
      open: (signal) => this.#connect(signal),
      timeoutMs: options.fetchTimeoutMs,
      clock: options.clock,
    });
  }

  read<R extends object>(read: Read, values: readonly unknown[]): Promise<Rows<R>> {
    return this.#call("Cannot read flags", (signal) =>
      this.#insist(() => this.#readOnce<R>(read, values, signal)),
    );
  }

  async ping(): Promise<void> {
    await this.#call("Cannot reach the database", (signal) =>
      this.#insist(() => this.#sessions.use((connection) => connection.query(PING, signal), signal)),
    );
  }

  /**
   * Opens two sessions and finds out how to ask, so that the first two questions, which wait for that, need not. What
   * fails, they find out themselves.
   */
  prepare(): void {
    this.#preparing = this.#call("Cannot prepare", async (signal) => {
      const [form] = await Promise.all([
        this.#detect(signal),
        this.#sessions.use((connection) => connection.query(PING, signal), signal),
      ]);
      this.#form = form;
    })
      .catch(() => {})
      .finally(() => {
        this.#preparing = undefined;
      });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#sessions[Symbol.asyncDispose]();
  }

  async #call<T>(cannot: string, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await this.#sessions.call(run);
    } catch (error) {
      throw new StoreError(`${cannot}: ${this.#explain(error)}`, { cause: error });
    }
  }

  /** Tries again for as long as failures teach us something. */
  async #insist<T>(attempt: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await attempt();
      } catch (error) {
        if (tries === TRIES_MAX || !this.#learn(error)) throw error;
      }
    }
  }

  async #readOnce<R extends object>(
    read: Read,
    values: readonly unknown[],
    signal: AbortSignal,
  ): Promise<Rows<R>> {
    // Its deadline has begun before that of this call.
    if (this.#preparing !== undefined) await this.#preparing;
    this.#form ??= await this.#detect(signal);
    const form = this.#form;
    const isWithoutXml = form === "versioned" && read.withoutXml !== undefined && !this.#hasXml;
    const text = isWithoutXml ? read.withoutXml : read[form];
    const name = this.#prepares ? `${read.name}_${isWithoutXml ? "without_xml" : form}` : undefined;
    const [first, ...others] = await this.#sessions.use(
      (connection) => connection.query<R & AnyRow>({ text, values, name }, signal),
      signal,
    );
    if (first === undefined) throw new Error(`${this.#target} answered without a row`);
    if (form === "plain" && first.has_versions === true) {
      this.#form = "versioned";
      return this.#readOnce(read, values, signal);
    }
    return {
      rows: [first, ...others],
      version: first.version === null ? undefined : parseVersion(first.version),
    };
  }

  async #detect(signal: AbortSignal): Promise<Form> {
    const [found] = await this.#sessions.use(
      (connection) =>
        connection.query<{ has_tables: boolean; has_versions: boolean }>(
          { text: DETECT, values: [], name: undefined },
          signal,
        ),
      signal,
    );
    if (found === undefined) throw new Error(`${this.#target} answered without a row`);
    if (!found.has_tables) throw new Error("schema feature_flags does not exist, run `pbflagd migrate`");
    return found.has_versions ? "versioned" : "plain";
  }

  async #connect(signal: AbortSignal): Promise<PostgresConnection> {
    const { url, fetchTimeoutMs, clock } = this.#options;
    const statementTimeoutMs = this.#setsTimeout ? fetchTimeoutMs : undefined;
    // A server that takes longer for one step of it would not answer a question in time either.
    const patience = { silenceMs: fetchTimeoutMs, lateAnswerMs: fetchTimeoutMs };
    const options = { url, statementTimeoutMs, ...patience, clock };
    try {
      const connection = await openPostgresConnection(options, signal);
      this.#refusal = undefined;
      return connection;
    } catch (error) {
      // It may come when nobody waits for it any more.
      this.#learn(error);
      if (isAnswer(error)) this.#refusal = error.message;
      throw error;
    }
  }

  /**
   * Whether another try may do better. Also if the lesson was learnt already: calls run side by side, and this
   * one set out before.
   */
  #learn(error: unknown): boolean {
    if (error instanceof SessionLostError) {
      this.#sessions.dropIdle();
      return error.wasUsed;
    }
    if (!isAnswer(error)) return false;
    const lesson = lessonOf(error);
    if (lesson === "set nothing") this.#setsTimeout = false;
    if (lesson === "ask for no XML") this.#hasXml = false;
    if (lesson === "prepare nothing") this.#prepares = false;
    if (lesson === "prepare anew") this.#sessions.dropIdle();
    if (lesson === "look again") this.#form = undefined;
    return lesson !== undefined;
  }

  /** For the end of a sentence; never with the password, which pg's own messages do not hold either. */
  #explain(error: unknown): string {
    const reason = reasonOf(error);
    if (error instanceof DeadlineError) {
      const refused = this.#refusal === undefined ? "" : `; the last session was refused: ${this.#refusal}`;
      return `no answer from ${this.#target} within ${this.#options.fetchTimeoutMs} ms${refused}`;
    }
    return error instanceof SessionLostError || isNetworkError(error)
      ? `${this.#target} is lost: ${reason}`
      : reason;
  }
}

type Lesson = "set nothing" | "ask for no XML" | "prepare nothing" | "prepare anew" | "look again";

type AnswerError = Pick<DatabaseError, "message" | "file"> & { readonly code: string };

/** What an answer teaches about how to ask. */
function lessonOf({ code, message, file }: AnswerError): Lesson | undefined {
  // A pooler that refuses settings at the start of a session.
  if (code === "08P01" && message.includes("startup parameter")) return "set nothing";
  // By the part of the server that said it, in whatever language: it is built without libxml, as a rule.
  if (file === "xml.c") return "ask for no XML";
  // No such prepared statement, or it exists already, or it is another: a pooler changed the session beneath us.
  if (["26000", "42P05", "08P01"].includes(code)) return "prepare nothing";
  // The tables of a prepared statement have changed.
  if (code === "0A000") return "prepare anew";
  // A function, table, column or schema is gone.
  if (["42883", "42P01", "42703", "3F000"].includes(code)) return "look again";
  return undefined;
}

function isNetworkError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}
