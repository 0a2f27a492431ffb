import type { Command } from "commander";
import { type Address, parseAddress } from "../config/address.ts";
import { mask } from "../config/option.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addSettings, loadSettings } from "./setting-options.ts";

/** Gives a command `--address`, and the settings that say where the daemon listens. */
export function addAddress(command: Command): Command {
  command.option("--address <address>", "where the daemon is, if not at its --listen address");
  return addSettings(command, ["listen"]);
}

/** Where the running daemon is to be found. */
export async function findAddress(command: Command, io: Io): Promise<Address> {
  const given: unknown = command.getOptionValue("address");
  const address =
    typeof given === "string" ? parseAddress(given) : (await loadSettings(command, io, "tool")).config.listen;
  if (address === undefined) {
    throw new CommandError(
      2,
      `--address: expected an address such as "localhost:9201" or "unix:///path", got "${mask(String(given))}"`,
    );
  }
  if (address.kind === "tcp" && address.port === 0) {
    throw new CommandError(2, "listen: port 0 is any free port; name the daemon's with --address");
  }
  return address;
}
