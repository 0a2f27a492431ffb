import type { Command } from "commander";
import type { SyncReport } from "../store/sync-definitions.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { actorOf } from "./open-admin.ts";
import { openDatabase } from "./open-database.ts";
import { addSettings, DATABASE_SETTINGS, loadSettings } from "./setting-options.ts";

/** `pbflagd sync`: makes the database's rows say what the descriptor set says. */
export function addSync(program: Command, io: Io): void {
  const command = program
    .command("sync")
    .description(
      "Create and update the rows of the flags in the descriptor set, and archive those that left it. Never deletes; other features' flags are left alone.",
    )
    .option("--actor <name>", "who does this, for the audit log; the login name unless set")
    .addHelpText(
      "after",
      "\nExample:\n  pbflagd sync --descriptors descriptors.pb --database postgres://owner@db/flags",
    );
  addSettings(command, ["descriptors", ...DATABASE_SETTINGS]).action(async () => {
    const { config } = await loadSettings(command, io, "tool");
    if (config.descriptors === undefined) {
      throw new CommandError(
        2,
        "descriptors: not set; name the descriptor set with --descriptors or PBFLAGS_DESCRIPTORS",
      );
    }
    const { loadDescriptors } = await import("../flags/load-descriptors.ts");
    const table = await loadDescriptors(config.descriptors);
    await using database = await openDatabase(command, io);
    const { syncDefinitions } = await import("../store/sync-definitions.ts");
    printReport(io, await syncDefinitions(database, table, { actor: actorOf(command, io) }));
  });
}

function printReport(io: Io, report: SyncReport): void {
  const { created, updated, archived, restored, unchanged, version } = report;
  for (const [what, flagIds] of Object.entries({ created, updated, archived, restored })) {
    for (const flagId of flagIds) io.stdout(`${what.padEnd(8)}  ${flagId}\n`);
  }
  const counts = `${created.length} created, ${updated.length} updated, ${archived.length} archived, ${restored.length} restored, ${unchanged} unchanged`;
  io.stdout(`Synced: ${counts} (version ${version}).\n`);
}
