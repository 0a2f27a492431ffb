import type { Command } from "commander";
import { describeChange } from "./describe-change.ts";
import type { Io } from "./io.ts";
import { addAdmin, withAdmin } from "./open-admin.ts";

/** `pbflagd kill`: everybody gets the compiled default, now. */
export function addKill(program: Command, io: Io): void {
  const command = program
    .command("kill")
    .description(
      "Turn a flag off: everybody gets the compiled default, until it is revived. Nothing is lost.",
    )
    .argument("<flag>", "id or alias, such as notifications/1 or notifications.email_enabled")
    .addHelpText("after", "\nExample:\n  pbflagd kill notifications/1");
  addAdmin(command).action(async (flag: string) => {
    const change = await withAdmin(command, io, (admin) => admin.kill(flag));
    io.stdout(describeChange(flag, change));
  });
}
