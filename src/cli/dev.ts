import type { Command } from "commander";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addSettings, loadSettings } from "./setting-options.ts";

/** `pbflagd dev`: the daemon with all it needs, on a laptop. */
export function addDev(program: Command, io: Io): void {
  const command = program
    .command("dev")
    .description("Serve with a database of its own and example flags, to try things. Not for production.")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd dev
  pbflagd dev --descriptors descriptors.pb --listen :9301 --data-dir /tmp/flags`,
    );
  addSettings(command).action(async () => {
    const { config, warnings } = await loadSettings(command, io, "dev");
    const exitCode = await io.dev(config, warnings);
    if (exitCode !== 0) throw new CommandError(exitCode, "");
  });
}
