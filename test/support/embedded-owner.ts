import { connectDatabase } from "../../src/store/database.ts";
import {
  type EmbeddedPostgresOptions,
  openEmbeddedPostgres,
} from "../../src/store/embedded/embedded-postgres.ts";
import { systemClock } from "../../src/system/clock.ts";

/** What the owner is told to do, as JSON in its first argument. */
export interface OwnerOrders
  extends Pick<EmbeddedPostgresOptions, "dataDir" | "binaries" | "searchPath" | "noSync"> {
  /** Write one row after the other, the first with this number. Otherwise it only keeps the database. */
  readonly writeFrom?: number;
}

/** What the owner says, a line of JSON each. */
export type OwnerWord =
  | { readonly kind: "open"; readonly url: string; readonly adopted: boolean; readonly folder: string }
  /** The database has said that the row is there. */
  | { readonly kind: "written"; readonly row: number }
  | { readonly kind: "failed"; readonly name: string; readonly message: string };

function say(word: OwnerWord): void {
  process.stdout.write(`${JSON.stringify(word)}\n`);
}

/** A process that has an embedded database in its care, to be killed by a test. Ends in order on SIGTERM. */
async function main(): Promise<void> {
  const orders: OwnerOrders = JSON.parse(process.argv[2] ?? "{}");
  const { writeFrom, ...options } = orders;
  const ending = new AbortController();
  process.once("SIGTERM", () => ending.abort());
  await using embedded = await openEmbeddedPostgres({
    ...options,
    clock: systemClock,
    ownerPid: process.pid,
  });
  say({ kind: "open", url: embedded.url, adopted: embedded.adopted, folder: embedded.folder });
  if (writeFrom === undefined) {
    // Something must keep the process alive until it is told to end.
    await systemClock.sleep(600_000, ending.signal).catch(() => {});
    return;
  }
  await using database = await connectDatabase({ url: embedded.url });
  await database.query("CREATE TABLE IF NOT EXISTS written (row int PRIMARY KEY)");
  for (let row = writeFrom; !ending.signal.aborted; row++) {
    await database.query("INSERT INTO written VALUES ($1)", [row]);
    say({ kind: "written", row });
  }
}

try {
  await main();
} catch (error) {
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  say({ kind: "failed", name, message });
  process.exitCode = 1;
}
