import type { Command } from "commander";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addSettings, createSource } from "./setting-options.ts";

/** `pbflagd serve`: the daemon, as configured. */
export function addServe(program: Command, io: Io): void {
  const command = program
    .command("serve")
    .description(
      "Serve the evaluator: in root mode from --database, in proxy mode from --server or a pool of upstreams.",
    )
    .addHelpText(
      "after",
      `
Examples:
  pbflagd serve --config /etc/pbflagd/root.yaml
  pbflagd serve --database postgres://pbflagd@db/flags --descriptors descriptors.pb --listen :9201
  PBFLAGS_SERVER=http://pbflagd-root:9201 pbflagd serve`,
    );
  addSettings(command).action(async () => {
    const source = createSource(command, io, "serve");
    const { config, warnings } = await source.load();
    const exitCode = await io.serve(config, warnings, source);
    if (exitCode !== 0) throw new CommandError(exitCode, "");
  });
}
