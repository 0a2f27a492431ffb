import pg from "pg";
import { systemClock } from "../system/clock.ts";
import { reasonOf } from "./postgres-connection.ts";
import { PostgresSocket } from "./postgres-socket.ts";

/** Rows as objects, column names as keys. */
export interface QueryResult<R> {
  readonly rows: R[];
  /** Rows returned, or rows changed. */
  readonly rowCount: number;
  readonly columns: readonly string[];
}

/** What the last of several statements answered. */
export interface TextResult {
  readonly columns: readonly TextColumn[];
  /** One cell a column; null is SQL's NULL. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** Rows returned, or rows changed. */
  readonly rowCount: number;
}

export interface TextColumn {
  readonly name: string;
  /** The type's number in pg_type. */
  readonly typeId: number;
}

/** One connection for commands and writes. Evaluation reads go through the Postgres store instead. */
export interface Database extends AsyncDisposable {
  /** One statement with parameters, or several statements without. */
  query<R extends object = Record<string, unknown>>(
    text: string,
    values?: readonly unknown[],
  ): Promise<QueryResult<R>>;

  /** One statement or several, answered in Postgres' own spelling: nothing is converted. */
  queryText(text: string): Promise<TextResult>;

  /** Commits what `run` did, or rolls it back if it throws. Not to be nested. */
  transaction<T>(run: () => Promise<T>): Promise<T>;
}

/** The database could not be reached. The message names host and port, never the password. */
export class DatabaseUnreachableError extends Error {
  override readonly name = "DatabaseUnreachableError";
}

export interface DatabaseOptions {
  readonly url: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string;
  /** For connecting; 5 s unless set. */
  readonly connectTimeoutMs?: number;
  /** What the server says beside its answers, such as NOTICE: `set_value` on a killed flag. */
  readonly onNotice?: (message: string) => void;
}

/** How long a server may take to say goodbye. */
const CLOSE_TIMEOUT_MS = 1_000;

/** @throws DatabaseUnreachableError */
export async function connectDatabase(options: DatabaseOptions): Promise<Database> {
  const socket = new PostgresSocket();
  const client = createClient(options, socket);
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  try {
    await client.connect();
  } catch (error) {
    socket.destroy();
    throw new DatabaseUnreachableError(
      `Cannot reach database at ${describeTarget(client)}: ${reasonOf(error)}`,
      {
        cause: error,
      },
    );
  }

  const database: Database = {
    async query<R extends object>(text: string, values?: readonly unknown[]): Promise<QueryResult<R>> {
      const answer = await client.query<R>(text, values === undefined ? undefined : [...values]);
      const result = lastOf(answer);
      return {
        rows: result.rows ?? [],
        rowCount: result.rowCount ?? 0,
        columns: (result.fields ?? []).map((field) => field.name),
      };
    },

    async queryText(text) {
      const asText = { getTypeParser: () => (value: string) => value };
      const answer = await client.query<(string | null)[]>({ text, rowMode: "array", types: asText });
      const result = lastOf(answer);
      return {
        columns: (result.fields ?? []).map(({ name, dataTypeID }) => ({ name, typeId: dataTypeID })),
        rows: result.rows ?? [],
        rowCount: result.rowCount ?? 0,
      };
    },

    async transaction(run) {
      await client.query("BEGIN");
      try {
        const result = await run();
        await client.query("COMMIT");
        return result;
      } catch (error) {
        await client.query("ROLLBACK").catch(() => {});
        throw error;
      }
    },

    async [Symbol.asyncDispose]() {
      client.end().catch(() => {});
      const settled = new AbortController();
      const tooLong = systemClock.sleep(CLOSE_TIMEOUT_MS, settled.signal).catch(() => {});
      await Promise.race([closed, tooLong]);
      settled.abort();
      socket.destroy();
    },
  };
  return database;
}

function createClient(options: DatabaseOptions, socket: PostgresSocket): pg.Client {
  try {
    const client = new pg.Client({
      connectionString: options.url,
      application_name: options.applicationName ?? "pbflagd",
      connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
      keepAlive: true,
      stream: () => socket,
    });
    socket.follow(client);
    // A connection lost while idle shows in the next query; it must not end the process.
    client.on("error", () => {});
    client.on("notice", (notice) => options.onNotice?.(notice.message ?? ""));
    return client;
  } catch (error) {
    // Without its cause, which may quote the URL, password and all.
    throw new DatabaseUnreachableError(`Cannot use the database URL: ${reasonOf(error)}`);
  }
}

function describeTarget(client: pg.Client): string {
  return `${client.host}:${client.port}/${client.database ?? ""}`;
}

/** Several statements give several results, whatever the types of `pg` say; the last is the one that was asked for. */
function lastOf<R>(answer: R): R {
  const results: readonly R[] = Array.isArray(answer) ? answer : [answer];
  return results.at(-1) ?? answer;
}
