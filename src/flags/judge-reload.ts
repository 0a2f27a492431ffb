import type { TableComparison } from "./compare-tables.ts";
import type { FlagTable } from "./definition.ts";

/** Whether a new table may take the place of the one in force. */
export type Verdict =
  | { readonly kind: "good" }
  /** It would break what is running; nothing overrides this. */
  | { readonly kind: "refused"; readonly reason: string }
  /** It looks like an accident; an operator may force it. */
  | { readonly kind: "held"; readonly reason: string };

/** Below this a team may well tidy up half of its flags at once. */
const heldFromFlags = 20;

/** Decides about a table that was parsed without fault. `comparison` is that of `old` with `next`. */
export function judgeReload(old: FlagTable, next: FlagTable, comparison: TableComparison): Verdict {
  const { typeChanged, removed } = comparison;
  const [first] = typeChanged;
  if (old.flags.length > 0 && next.flags.length === 0) {
    return {
      kind: "refused",
      reason: `it must define flags, got none where ${old.flags.length} are in force`,
    };
  }
  if (first !== undefined) {
    const more = typeChanged.length > 1 ? ` and ${typeChanged.length - 1} more` : "";
    return {
      kind: "refused",
      reason: `a flag must keep its type, got ${first.to} for ${first.id}, which is ${first.from}${more}`,
    };
  }
  if (old.flags.length >= heldFromFlags && removed.length * 2 > old.flags.length) {
    return {
      kind: "held",
      reason: `it must keep at least half of the flags unless forced by a restart, got ${removed.length} of ${old.flags.length} removed`,
    };
  }
  return { kind: "good" };
}
