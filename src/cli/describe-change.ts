import type { Written } from "../store/admin-store.ts";
import { toPrintable } from "./text-width.ts";

/** `notifications/1 is now KILLED (version …)`. Daemons that have that version, or a higher one, know of the change. */
export function describeChange(what: string, { state, version }: Written): string {
  return `${toPrintable(what)} is now ${state} (version ${version})\n`;
}
