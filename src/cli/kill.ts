import type { Command } from "commander";
import type { Io } from "./io.ts";
import { addAdmin, withAdmin } from "./open-admin.ts";
import { JSON_OPTION, printChange } from "./print-change.ts";

/** `pbflagd kill`: everybody gets the compiled default, now. */
export function addKill(program: Command, io: Io): void {
  const command = program
    .command("kill")
    .description(
      "Turn a flag off: everybody gets the compiled default, until it is revived. Nothing is lost.",
    )
    .argument("<flag>", "id or alias, such as notifications/1 or notifications.email_enabled")
    .option(...JSON_OPTION)
    .addHelpText("after", "\nExample:\n  pbflagd kill notifications/1");
  addAdmin(command).action(async (flag: string, options: { json?: boolean }) => {
    const change = await withAdmin(command, io, (admin) => admin.kill(flag));
    printChange(io, { flag }, change, options);
  });
}
