import type { Config } from "../config/settings.ts";
import type { FlagTable } from "../flags/definition.ts";
import { loadDescriptors } from "../flags/load-descriptors.ts";
import { connectDatabase } from "../store/database.ts";
import { openEmbeddedPostgres } from "../store/embedded/embedded-postgres.ts";
import { migrate } from "../store/migrate.ts";
import { syncDefinitions } from "../store/sync-definitions.ts";
import type { Clock } from "../system/clock.ts";
import { Opened } from "../system/opened.ts";
import { watchFile } from "../system/watch-file.ts";
import type { Logger } from "../telemetry/logger.ts";
import { buildExampleFlags, exampleProtosDir } from "./example-flags.ts";

export interface DevelopmentDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where to look for `node` and for a Postgres of the machine's own: the variable PATH. */
  readonly searchPath: string;
  /** Of this process; tells a second one who is in its way. */
  readonly pid: number;
  /** Who does it, for the audit log. */
  readonly actor: string;
  /** Aborts when the process is asked to end. */
  readonly stopping: AbortSignal;
}

/** A database with flags in it, ready to be served. Disposing ends what was started for it. */
export interface Development extends AsyncDisposable {
  /** As given, with the database and the descriptors filled in. */
  readonly config: Config & { readonly database: string; readonly descriptors: string };
  /** Where the embedded database keeps its data; undefined if the configuration named a database. */
  readonly dataDir: string | undefined;
  /** What was synced. */
  readonly flags: FlagTable;
}

/** How often protos are looked at where the operating system does not say that they changed. */
const POLL_MS = 2_000;

/**
 * Prepares what `pbflagd dev` serves: the embedded database unless one is configured, its schema, the example flags
 * unless descriptors are configured, and their rows. Then it follows both: edited protos are built, new flags synced.
 *
 * @throws EmbeddedPostgresError, DatabaseUnreachableError, MigrationError, ExampleFlagsError, DescriptorError, SyncError
 */
export async function openDevelopment(config: Config, deps: DevelopmentDeps): Promise<Development> {
  const opened = new Opened();
  try {
    const embedded = config.database === undefined ? opened.add(await openEmbedded(config, deps)) : undefined;
    const database = config.database ?? embedded?.url;
    if (database === undefined) throw new Error("Cannot happen: the database is configured or embedded");
    await prepareSchema(database, deps);

    const descriptors = config.descriptors ?? (await buildExamples(config, deps));
    const flags = await sync(database, descriptors, deps);
    if (config.descriptors === undefined) opened.add(rebuildExamples(config, deps));
    opened.add(resync(database, descriptors, deps));
    return {
      config: { ...config, database, descriptors },
      dataDir: embedded?.folder,
      flags,
      [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
    };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}

async function openEmbedded({ dataDir }: Config, { clock, logger, searchPath, pid }: DevelopmentDeps) {
  const embedded = await openEmbeddedPostgres({
    dataDir,
    clock,
    searchPath,
    ownerPid: pid,
    onEvent({ kind, ...fields }) {
      const level = kind === "lost" || kind.endsWith("failed") ? "warn" : "info";
      logger[level](`database_${kind.replaceAll("-", "_")}`, fields);
    },
  });
  logger.info("database_embedded", {
    msg: "using an embedded Postgres: a default for a laptop, not a production database",
    postgres: embedded.major,
    folder: embedded.folder,
  });
  return embedded;
}

async function prepareSchema(url: string, { logger }: DevelopmentDeps): Promise<void> {
  await using database = await connectDatabase({ url });
  const { applied } = await migrate(database);
  if (applied.length > 0) logger.info("database_migrated", { migrations: applied.map(({ name }) => name) });
}

async function sync(
  url: string,
  descriptors: string,
  { actor, logger }: DevelopmentDeps,
): Promise<FlagTable> {
  const flags = await loadDescriptors(descriptors);
  await using database = await connectDatabase({ url });
  const { created, updated, archived, restored } = await syncDefinitions(database, flags, { actor });
  if (created.length + updated.length + archived.length + restored.length > 0) {
    logger.info("flags_synced", { created, updated, archived, restored });
  }
  return flags;
}

function buildExamples({ dataDir }: Config, { searchPath }: DevelopmentDeps): Promise<string> {
  return buildExampleFlags({ intoDir: dataDir, searchPath });
}

/** Builds the examples again whenever their protos change. */
function rebuildExamples(config: Config, deps: DevelopmentDeps): AsyncDisposable {
  return follow(exampleProtosDir(), deps, {
    onChange: () => buildExamples(config, deps),
    failure: "example_flags_refused",
  });
}

/** Brings the rows into line whenever the descriptor set changes. */
function resync(url: string, descriptors: string, deps: DevelopmentDeps): AsyncDisposable {
  return follow(descriptors, deps, {
    onChange: () => sync(url, descriptors, deps),
    failure: "flags_not_synced",
  });
}

interface Following {
  readonly onChange: () => Promise<unknown>;
  /** What the log calls it when `onChange` rejects. */
  readonly failure: string;
}

function follow(
  path: string,
  { clock, logger, stopping }: DevelopmentDeps,
  following: Following,
): AsyncDisposable {
  return watchFile({
    path,
    clock,
    pollMs: POLL_MS,
    async onChange() {
      try {
        await following.onChange();
      } catch (error) {
        // A Ctrl-C also ends the programs that were started here.
        if (!stopping.aborted) logger.error(following.failure, { err: error });
      }
    },
  });
}
