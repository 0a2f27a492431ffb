import type { Command } from "commander";
import type { OverrideRow } from "../store/flag-status.ts";
import { CommandError } from "./failure.ts";
import type { Io } from "./io.ts";
import { addAdmin, withAdmin } from "./open-admin.ts";
import { addDatabase } from "./open-database.ts";
import { printJson, printRows } from "./print.ts";
import { JSON_OPTION, nameOf, printChange } from "./print-change.ts";
import { toMachineReadable, toReadable } from "./stored-value.ts";
import { toPrintable } from "./text-width.ts";

const FLAG = ["<flag>", "id or alias, such as notifications/1 or notifications.email_enabled"] as const;
const ENTITY = ["<entity>", "for whom, such as a user's id"] as const;

/** `pbflagd override set|remove|list`: values for single entities. */
export function addOverride(program: Command, io: Io): void {
  const override = program.command("override").description("Set, remove or list values for single entities.");
  addOverrideSet(override, io);
  addOverrideRemove(override, io);
  addOverrideList(override, io);
}

/** An override as the reads print it with `--json`. */
export function toOverrideJson({
  flagId,
  alias,
  entityId,
  state,
  value,
  problem,
  updatedAt,
}: OverrideRow): object {
  return {
    flagId,
    alias,
    entityId,
    state,
    value: toMachineReadable(value),
    problem: problem ?? null,
    updatedAt: updatedAt.toISOString(),
  };
}

function addOverrideSet(override: Command, io: Io): void {
  const command = override
    .command("set")
    .description("Serve a value to one entity. A kill of the flag goes over it.")
    .argument(...FLAG)
    .argument(...ENTITY)
    .argument(
      "<value>",
      "read by the flag's type: weekly, true, 5, 0.5, [1, 2]; put -- before a negative number",
    )
    .option(...JSON_OPTION)
    .addHelpText("after", "\nExample:\n  pbflagd override set notifications/1 user-42 true");
  addAdmin(command).action(
    async (flag: string, entity: string, value: string, options: { json?: boolean }) => {
      const change = await withAdmin(command, io, (admin) => admin.setOverride(flag, entity, value));
      printChange(io, { flag, entity }, change, options);
    },
  );
}

function addOverrideRemove(override: Command, io: Io): void {
  const command = override
    .command("remove")
    .description("Remove an override. Exit code 1 if there is none.")
    .argument(...FLAG)
    .argument(...ENTITY)
    .option(...JSON_OPTION)
    .addHelpText("after", "\nExample:\n  pbflagd override remove notifications/1 user-42");
  addAdmin(command).action(async (flag: string, entity: string, { json = false }: { json?: boolean }) => {
    const { removed, version } = await withAdmin(command, io, (admin) => admin.removeOverride(flag, entity));
    if (json) printJson(io, { flag, entity, removed, version });
    // The database has said why, as a notice.
    if (!removed) throw new CommandError(1, "");
    const name = nameOf({ flag, entity });
    if (!json) io.stdout(toPrintable(`${name}: override removed (version ${version})`).concat("\n"));
  });
}

function addOverrideList(override: Command, io: Io): void {
  const command = override
    .command("list")
    .description("List overrides: all, those of one flag, or those of one entity.")
    .option("--flag <flag>", "only those of this flag")
    .option("--entity <id>", "only those of this entity")
    .option("--json", "print an array of objects")
    .addHelpText("after", "\nExample:\n  pbflagd override list --entity user-42");
  addDatabase(command).action(
    async ({ json = false, ...filter }: { json?: boolean; flag?: string; entity?: string }) => {
      const rows = await withAdmin(command, io, (admin) => admin.overrides(filter));
      if (json) return printRows(io, rows.map(toOverrideJson), { json, columns: {}, none: "" });
      printRows<OverrideRow>(io, rows, {
        json,
        columns: {
          FLAG: ({ flagId }) => flagId,
          NAME: ({ alias }) => alias,
          ENTITY: ({ entityId }) => entityId,
          STATE: ({ state }) => state,
          VALUE: ({ value }) => toReadable(value),
        },
        none: "There are no such overrides.",
      });
    },
  );
}
