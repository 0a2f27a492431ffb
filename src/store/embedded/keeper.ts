import { Client, DatabaseError } from "pg";
import { USER } from "./initialize.ts";

/** "pbflagd" on a telephone's keys; one lock per database, and the keeper always uses the same one. */
const LOCK_KEY = 7_235_243;

/** The database that `url` leads to. */
export const DATABASE = "pbflagd";

/** The one connection whose existence says that a pbflagd has the database in its care. */
export interface Keeper {
  /** Resolves when the connection has gone, for whatever reason. */
  readonly lost: Promise<void>;
  close(): Promise<void>;
}

export interface KeeperOptions {
  readonly port: number;
  readonly password: string;
  /** Of this process; tells others who is in their way. */
  readonly ownerPid: number | undefined;
  readonly connectTimeoutMs: number;
}

/** Another pbflagd has the database. */
export interface Taken {
  /** For the end of a sentence: `another pbflagd (pid 4711)`. */
  readonly takenBy: string;
}

/** Takes the database into our care, and makes sure that there is one to lead to. Rejects if it cannot be reached. */
export async function openKeeper(options: KeeperOptions): Promise<Keeper | Taken> {
  const client = await connect(options);
  try {
    const { rows } = await client.query<{ locked: boolean }>("SELECT pg_try_advisory_lock($1) AS locked", [
      LOCK_KEY,
    ]);
    if (rows[0]?.locked !== true) {
      const takenBy = await findHolder(client);
      await close(client);
      return { takenBy };
    }
    await createDatabase(client);
  } catch (error) {
    await close(client);
    throw error;
  }
  return { lost: new Promise((resolve) => client.once("end", resolve)), close: () => close(client) };
}

async function connect(options: KeeperOptions): Promise<Client> {
  const { port, password, ownerPid, connectTimeoutMs } = options;
  const client = new Client({
    host: "127.0.0.1",
    port,
    user: USER,
    password,
    database: "postgres",
    ssl: false,
    application_name: ownerPid === undefined ? "pbflagd" : `pbflagd (pid ${ownerPid})`,
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: connectTimeoutMs,
    keepAlive: true,
  });
  // Being lost shows in "end".
  client.on("error", () => {});
  await client.connect();
  return client;
}

/** Resolves when the connection is gone; a server that is, too, has nobody to say goodbye to. */
async function close(client: Client): Promise<void> {
  await client.end().catch(() => {});
}

async function findHolder(client: Client): Promise<string> {
  const { rows } = await client.query<{ name: string }>(
    `SELECT a.application_name AS name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.granted AND l.objid = $1 AND l.objsubid = 1`,
    [LOCK_KEY],
  );
  return `another ${rows[0]?.name ?? "pbflagd"}`;
}

async function createDatabase(client: Client): Promise<void> {
  const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [DATABASE]);
  if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE} TEMPLATE template0`);
}

/** Whether an error says that the server is not ready yet, or no longer. */
export function isPassing(error: unknown): boolean {
  // 57P0x: starting up or shutting down. Everything that is no answer of the server: the way to it.
  if (error instanceof DatabaseError) return /^57P0[123]$/.test(error.code ?? "");
  return error instanceof Error;
}
