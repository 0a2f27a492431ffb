import type { Command } from "commander";
import type { Io } from "./io.ts";
import { addAdmin, withAdmin } from "./open-admin.ts";
import { JSON_OPTION, printChange } from "./print-change.ts";

/** `pbflagd revive`: takes a kill back. */
export function addRevive(program: Command, io: Io): void {
  const command = program
    .command("revive")
    .description("Take a kill back: state and value are what they were before it.")
    .argument("<flag>", "id or alias, such as notifications/1 or notifications.email_enabled")
    .option(...JSON_OPTION)
    .addHelpText("after", "\nExample:\n  pbflagd revive notifications/1");
  addAdmin(command).action(async (flag: string, options: { json?: boolean }) => {
    const change = await withAdmin(command, io, (admin) => admin.revive(flag));
    printChange(io, { flag }, change, options);
  });
}
