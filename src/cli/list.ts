import type { Command } from "commander";
import type { FlagRow } from "../store/flag-status.ts";
import type { Io } from "./io.ts";
import { withAdmin } from "./open-admin.ts";
import { addDatabase } from "./open-database.ts";
import { printRows } from "./print.ts";
import { toMachineReadable, toReadable } from "./stored-value.ts";

interface Options {
  readonly killed?: boolean;
  readonly json?: boolean;
}

/** `pbflagd list`: what the database holds for every flag. */
export function addList(program: Command, io: Io): void {
  const command = program
    .command("list")
    .description("List the flags in the database, with their states and values.")
    .argument("[feature]", "only the flags of this feature")
    .option("--killed", "only the flags that are killed")
    .option("--json", "print an array of objects")
    .addHelpText(
      "after",
      "\nExamples:\n  pbflagd list\n  pbflagd list notifications --json\n  pbflagd list --killed",
    );
  addDatabase(command).action(
    async (feature: string | undefined, { killed = false, json = false }: Options) => {
      const flags = await withAdmin(command, io, (admin) => admin.flags());
      const wanted = flags.filter(
        (flag) =>
          (feature === undefined || featureOf(flag) === feature) && (!killed || flag.state === "KILLED"),
      );
      if (json) return printRows(io, wanted.map(toJson), { json, columns: {}, none: "" });
      printRows(io, wanted, { json, columns: COLUMNS, none: describeNone(flags, feature) });
    },
  );
}

/** A flag as the reads print it with `--json`. */
export function toJson(flag: FlagRow): object {
  const { value, defaultValue, revivesTo, problem, updatedAt, ...rest } = flag;
  return {
    ...rest,
    value: toMachineReadable(value),
    defaultValue: toMachineReadable(defaultValue),
    revivesTo:
      revivesTo === undefined ? null : { state: revivesTo.state, value: toMachineReadable(revivesTo.value) },
    problem: problem ?? null,
    updatedAt: updatedAt.toISOString(),
  };
}

const COLUMNS: Readonly<Record<string, (flag: FlagRow) => string>> = {
  FLAG: ({ flagId }) => flagId,
  NAME: (flag) => flag.alias.slice(featureOf(flag).length + 1),
  TYPE: ({ flagType }) => flagType.toLowerCase(),
  LAYER: ({ layer }) => layer.toLowerCase(),
  STATE: ({ state, archived }) => (archived ? `${state}, archived` : state),
  VALUE: ({ value }) => toReadable(value),
  DEFAULT: ({ defaultValue }) => toReadable(defaultValue),
  OVERRIDES: ({ overrideCount }) => String(overrideCount),
};

function describeNone(flags: readonly FlagRow[], feature: string | undefined): string {
  if (flags.length === 0) return 'The database knows no flags yet: run "pbflagd sync".';
  const features = [...new Set(flags.map(featureOf))];
  if (feature === undefined || features.includes(feature)) return "No flag is killed.";
  return `No flags of feature "${feature}"; there are: ${features.slice(0, 20).join(", ")}`;
}

function featureOf({ flagId }: FlagRow): string {
  return flagId.slice(0, flagId.lastIndexOf("/"));
}
