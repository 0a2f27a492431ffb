import type { Command } from "commander";
import type { AdminStore } from "../store/admin-store.ts";
import type { Io } from "./io.ts";
import { addDatabase, openDatabase } from "./open-database.ts";

/** Gives a command that writes the settings of the database, and `--actor`. */
export function addAdmin(command: Command): Command {
  command.option("--actor <name>", "who does this, for the audit log; the login name unless set");
  return addDatabase(command);
}

/** Opens the database, runs `work` on its flags, and closes it. */
export async function withAdmin<T>(
  command: Command,
  io: Io,
  work: (admin: AdminStore) => Promise<T>,
): Promise<T> {
  await using database = await openDatabase(command, io);
  const { createAdminStore } = await import("../store/admin-store.ts");
  return await work(createAdminStore(database, { actor: actorOf(command, io) }));
}

/** Who does it: `--actor`, else the login name. */
export function actorOf(command: Command, io: Io): string {
  const given: unknown = command.getOptionValue("actor");
  return typeof given === "string" && given !== "" ? given : io.userName;
}
