import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connectDatabase, type Database } from "../src/store/database.ts";
import { openEmbeddedPostgres } from "../src/store/embedded/embedded-postgres.ts";
import { migrate } from "../src/store/migrate.ts";
import { systemClock } from "../src/system/clock.ts";
import { Opened } from "../src/system/opened.ts";

/** A migrated database of its own, on an embedded Postgres that waits for its disk. Gone when it is disposed of. */
export interface BenchDatabase extends AsyncDisposable {
  readonly url: string;
  readonly database: Database;
  /** For whatever else the benchmark writes. */
  readonly folder: string;
}

export async function openBenchDatabase(): Promise<BenchDatabase> {
  const opened = new Opened();
  try {
    const folder = await mkdtemp(join(tmpdir(), "pbflagd-bench-"));
    opened.defer(() => rm(folder, { recursive: true, force: true }));
    const dataDir = join(folder, "data");
    const { url } = opened.add(await openEmbeddedPostgres({ dataDir, clock: systemClock, binaries: "npm" }));
    const database = opened.add(await connectDatabase({ url }));
    await migrate(database);
    return { url, database, folder, [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose]() };
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    throw error;
  }
}
