import type { Command } from "commander";
import type { Database } from "../store/database.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addSettings, DATABASE_SETTINGS, loadSettings } from "./setting-options.ts";
import { toPrintable } from "./text-width.ts";

/** Gives a command the settings that say which database it works on. */
export function addDatabase(command: Command): Command {
  return addSettings(command, DATABASE_SETTINGS);
}

/** The configured database, else the one that `pbflagd dev` runs. What the server remarks goes to the standard error. */
export async function openDatabase(command: Command, io: Io): Promise<Database> {
  const { config } = await loadSettings(command, io, "tool");
  const url = config.database ?? (await findEmbedded(config.dataDir));
  const { connectDatabase } = await import("../store/database.ts");
  return connectDatabase({
    url,
    applicationName: `pbflagd ${command.name()}`,
    onNotice: (message) => io.stderr(`notice: ${toPrintable(message)}\n`),
  });
}

async function findEmbedded(dataDir: string): Promise<string> {
  const { readEmbeddedUrl } = await import("../store/embedded/embedded-postgres.ts");
  const url = await readEmbeddedUrl(dataDir);
  if (url !== undefined) return url;
  throw new CommandError(
    3,
    `There is no database: set --database or PBFLAGS_DATABASE, or start "pbflagd dev" (none runs in ${dataDir})`,
  );
}
