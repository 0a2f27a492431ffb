import type { Command } from "commander";
import type { Io } from "./io.ts";
import { addDatabase, openDatabase } from "./open-database.ts";

/** `pbflagd migrate`: creates or updates the tables. */
export function addMigrate(program: Command, io: Io): void {
  const command = program
    .command("migrate")
    .description(
      "Bring the database's tables up to date. Tables that pbflags created are taken over, nothing is lost.",
    )
    .addHelpText("after", "\nExample:\n  pbflagd migrate --database postgres://owner@db/flags");
  addDatabase(command).action(async () => {
    await using database = await openDatabase(command, io);
    const { migrate } = await import("../store/migrate.ts");
    const { applied, alreadyApplied, adopted } = await migrate(database);
    if (adopted) io.stdout("Took over the tables that pbflags created.\n");
    for (const { name, durationMs } of applied) io.stdout(`Applied ${name} (${Math.round(durationMs)} ms)\n`);
    io.stdout(
      `The database is up to date: ${applied.length} migrations applied, ${alreadyApplied} were there.\n`,
    );
  });
}
