import type { Command } from "commander";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addSettings, loadSettings } from "./setting-options.ts";

/** `pbflagd serve`: the daemon, as configured. */
export function addServe(program: Command, io: Io): void {
  const command = program
    .command("serve")
    .description("Serve the evaluator: in root mode from --database, in proxy mode from --server.")
    .addHelpText(
      "after",
      `
Examples:
  pbflagd serve --config /etc/pbflagd/root.yaml
  pbflagd serve --database postgres://pbflagd@db/flags --descriptors descriptors.pb --listen :9201
  PBFLAGS_SERVER=http://pbflagd-root:9201 pbflagd serve`,
    );
  addSettings(command).action(async () => {
    const { config, warnings } = await loadSettings(command, io, "serve");
    const exitCode = await io.serve(config, warnings);
    if (exitCode !== 0) throw new CommandError(exitCode, "");
  });
}
