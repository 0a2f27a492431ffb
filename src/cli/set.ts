import type { Command } from "commander";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addAdmin, withAdmin } from "./open-admin.ts";
import { JSON_OPTION, printChange } from "./print-change.ts";

/** `pbflagd set`: a value for everybody. */
export function addSet(program: Command, io: Io): void {
  const command = program
    .command("set")
    .description("Serve a value to everybody who has no override, or go back to the compiled default.")
    .argument("<flag>", "id or alias, such as notifications/2 or notifications.digest_frequency")
    .argument(
      "[value]",
      "read by the flag's type: weekly, true, 5, 0.5, [1, 2]; put -- before a negative number",
    )
    .option("--default", "forget the stored value instead")
    .option(...JSON_OPTION)
    .addHelpText(
      "after",
      `
Examples:
  pbflagd set notifications/2 weekly
  pbflagd set checkout/3 '["eur", "usd"]'
  pbflagd set checkout/4 -- -1
  pbflagd set notifications/2 --default`,
    );
  addAdmin(command).action(
    async (flag: string, value: string | undefined, options: { default?: boolean; json?: boolean }) => {
      const toDefault = options.default ?? false;
      if (toDefault === (value !== undefined)) {
        throw new CommandError(
          2,
          toDefault ? "--default goes without a value" : "expected a value, or --default",
        );
      }
      const change = await withAdmin(command, io, (admin) =>
        value === undefined ? admin.reset(flag) : admin.setValue(flag, value),
      );
      printChange(io, { flag }, change, options);
    },
  );
}
