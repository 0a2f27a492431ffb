import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { connectDatabase } from "../../src/store/database.ts";
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  openEmbeddedPostgres,
} from "../../src/store/embedded/embedded-postgres.ts";
import { migrate } from "../../src/store/migrate.ts";
import { systemClock } from "../../src/system/clock.ts";

/** What tests need to know about the databases of their run. */
export interface SharedServer {
  /** Of the server that all tests share, leading to the migrated database, which nobody may connect to. */
  readonly url: string;
  /** A data directory with a migrated database that nobody uses, to copy. */
  readonly template: string;
}

/**
 * Makes a migrated database once, and starts the server that all tests share on a copy of it.
 *
 * The programs are those of the npm package: the same Postgres on every machine.
 */
export async function openSharedServer(folder: string): Promise<SharedServer & AsyncDisposable> {
  const template = join(folder, "template");
  await makeTemplate(template);
  const dataDir = join(folder, "shared");
  await copyDatabase(template, dataDir);
  const server = await open(dataDir, { max_connections: "300" });
  return { url: server.url, template, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

async function makeTemplate(dataDir: string): Promise<void> {
  await using server = await open(dataDir, {});
  await using database = await connectDatabase({ url: server.url });
  await migrate(database);
}

function open(
  dataDir: string,
  settings: EmbeddedPostgresOptions["settings"] & object,
): Promise<EmbeddedPostgres> {
  return openEmbeddedPostgres({ dataDir, clock: systemClock, binaries: "npm", noSync: true, settings });
}

/** Copies a data directory that no server runs on, with the owners of its files. */
export async function copyDatabase(from: string, to: string): Promise<void> {
  await promisify(execFile)("cp", ["-a", from, to]);
}
