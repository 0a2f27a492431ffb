import type { Command } from "commander";
import { describeChange } from "./describe-change.ts";
import type { Io } from "./io.ts";
import { addAdmin, withAdmin } from "./open-admin.ts";

/** `pbflagd revive`: takes a kill back. */
export function addRevive(program: Command, io: Io): void {
  const command = program
    .command("revive")
    .description("Take a kill back: state and value are what they were before it.")
    .argument("<flag>", "id or alias, such as notifications/1 or notifications.email_enabled")
    .addHelpText("after", "\nExample:\n  pbflagd revive notifications/1");
  addAdmin(command).action(async (flag: string) => {
    const change = await withAdmin(command, io, (admin) => admin.revive(flag));
    io.stdout(describeChange(flag, change));
  });
}
