import type { Command } from "commander";
import type { FlagRow, OverrideRow } from "../store/flag-status.ts";
import type { Io } from "./io.ts";
import { toJson } from "./list.ts";
import { withAdmin } from "./open-admin.ts";
import { addDatabase } from "./open-database.ts";
import { toOverrideJson } from "./override.ts";
import { printJson } from "./print.ts";
import { toReadable } from "./stored-value.ts";
import { formatPairs } from "./table.ts";

/** More are counted, and left to `override list`. */
const OVERRIDES_SHOWN_MAX = 10;

/** `pbflagd get`: all that the database holds for one flag. */
export function addGet(program: Command, io: Io): void {
  const command = program
    .command("get")
    .description("Show what the database holds for one flag. `evaluate` shows what a daemon answers.")
    .argument("<flag>", "id or alias, such as notifications/1 or notifications.email_enabled")
    .option("--json", "print an object")
    .addHelpText("after", "\nExample:\n  pbflagd get notifications/1");
  addDatabase(command).action(async (name: string, { json = false }: { json?: boolean }) => {
    const [flag, overrides] = await withAdmin(command, io, async (admin) => {
      const found = await admin.flag(name);
      return [found, await admin.overrides({ flag: found.flagId })] as const;
    });
    if (json) printJson(io, { ...toJson(flag), overrides: overrides.map(toOverrideJson) });
    else io.stdout(formatPairs([...describe(flag), ...overridesOf(overrides)]));
  });
}

function describe(flag: FlagRow): readonly (readonly [string, string])[] {
  const { revivesTo, problem } = flag;
  const revives = revivesTo?.state === "ENABLED" ? toReadable(revivesTo.value) : "the default";
  return [
    ["flag", flag.flagId],
    ["alias", flag.alias],
    ["description", flag.description],
    ["type", flag.flagType.toLowerCase()],
    ["layer", flag.layer.toLowerCase()],
    ["state", flag.archived ? `${flag.state}, archived` : flag.state],
    ["value", toReadable(flag.value)],
    ...(revivesTo === undefined ? [] : [["revives to", revives] as const]),
    ["default", toReadable(flag.defaultValue)],
    ...(problem === undefined ? [] : [["problem", problem] as const]),
    ["updated", flag.updatedAt.toISOString()],
  ];
}

function overridesOf(overrides: readonly OverrideRow[]): readonly (readonly [string, string])[] {
  const shown = overrides
    .slice(0, OVERRIDES_SHOWN_MAX)
    .map(
      ({ entityId, state, value }) =>
        [`override`, `${entityId}: ${state === "ENABLED" ? toReadable(value) : state}`] as const,
    );
  const rest = overrides.length - shown.length;
  return rest > 0 ? [...shown, ["", `and ${rest} more: pbflagd override list --flag …`] as const] : shown;
}
