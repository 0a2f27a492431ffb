import type { Written } from "../store/admin-store.ts";
import type { Io } from "./io.ts";
import { printJson } from "./print.ts";
import { toPrintable } from "./text-width.ts";

/** What was changed, as the command line named it. */
export interface Changed {
  readonly flag: string;
  /** Unset: everybody's value. */
  readonly entity?: string;
}

/** The option of commands that write, as commander takes it. */
export const JSON_OPTION = ["--json", "print an object, with the version that has the change"] as const;

/**
 * Prints `notifications/1 is now KILLED (version …)`, or the same as an object. Daemons that have that version, or a
 * later one, know of the change.
 */
export function printChange(
  io: Io,
  changed: Changed,
  { state, version }: Written,
  { json = false }: { readonly json?: boolean },
): void {
  if (json) printJson(io, { ...changed, state, version });
  else io.stdout(toPrintable(`${nameOf(changed)} is now ${state} (version ${version})`).concat("\n"));
}

/** `notifications/1`, or `notifications/1 for user-42`. */
export function nameOf({ flag, entity }: Changed): string {
  return entity === undefined ? flag : `${flag} for ${entity}`;
}
