import type { Command } from "commander";
import type { EffectiveSetting } from "../config/parse-config.ts";
import type { Io } from "./io.ts";
import { printRows } from "./print.ts";
import { addSettings, loadSettings } from "./setting-options.ts";

/** `pbflagd config check|print`: what is wrong with the configuration, and what is in force. */
export function addConfig(program: Command, io: Io): void {
  const config = program.command("config").description("Check or print the configuration.");
  addCheck(config, io);
  addPrint(config, io);
}

function addCheck(config: Command, io: Io): void {
  const command = config
    .command("check")
    .description(
      "Say whether `pbflagd serve` would start with this configuration, and all that is wrong with it.",
    )
    .addHelpText("after", "\nExample:\n  pbflagd config check --config root.yaml");
  addSettings(command).action(async () => {
    const { warnings } = await loadSettings(command, io, "serve");
    for (const warning of warnings) io.stderr(`warning: ${warning}\n`);
    io.stdout("The configuration can be used.\n");
  });
}

function addPrint(config: Command, io: Io): void {
  const command = config
    .command("print")
    .description("Print every setting, and where it was set. Passwords are masked.")
    .option("--json", "print an array of {key, text, source}")
    .addHelpText("after", "\nExample:\n  pbflagd config print --config root.yaml");
  addSettings(command).action(async ({ json = false }: { json?: boolean }) => {
    const { settings } = await loadSettings(command, io, "tool");
    printRows<EffectiveSetting>(io, settings, {
      json,
      columns: { SETTING: ({ key }) => key, VALUE: ({ text = "-" }) => text, SOURCE: ({ source }) => source },
      none: "There are no settings.",
    });
  });
}
