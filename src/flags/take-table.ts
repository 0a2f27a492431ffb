import type { Latest } from "../system/latest.ts";
import { runInSlices } from "../system/run-in-slices.ts";
import { compareTablesInSteps, isUnchanged, type TableComparison } from "./compare-tables.ts";
import type { FlagTable } from "./definition.ts";
import { judgeReload } from "./judge-reload.ts";
import { DescriptorError } from "./parse-descriptors.ts";

/** What became of one reload. */
export type ReloadResult =
  /** The descriptors say what is in force already. */
  | { readonly kind: "unchanged" }
  | { readonly kind: "replaced"; readonly comparison: TableComparison }
  /** They cannot be used; the old table serves on. */
  | { readonly kind: "rejected"; readonly reason: string }
  /** It looks like an accident; the old table serves on until the reload is forced. */
  | { readonly kind: "held"; readonly reason: string };

export interface TakeTableOptions {
  /** Where the new table came from, for reasons. */
  readonly name: string;
  /**
   * `forced reload` takes what would otherwise be held; nothing else. `start` takes everything: what is in force is empty,
   * or was only kept to bridge a restart, and at a start there is nothing to protect.
   */
  readonly occasion: "reload" | "forced reload" | "start";
}

/** Puts a new table into force if it may take the place of the old one. */
export async function takeTable(
  table: Latest<FlagTable>,
  next: FlagTable,
  { name, occasion }: TakeTableOptions,
): Promise<ReloadResult> {
  const comparison = await runInSlices(compareTablesInSteps(table.value, next));
  // "There are no flags" is news to whoever has not been told anything yet.
  const isFirst = occasion === "start" && table.value.descriptorSet === undefined;
  if (isUnchanged(comparison) && !isFirst) return { kind: "unchanged" };
  const verdict =
    occasion === "start" ? { kind: "good" as const } : judgeReload(table.value, next, comparison);
  if (verdict.kind === "refused") return { kind: "rejected", reason: `${name}: ${verdict.reason}` };
  if (verdict.kind === "held" && occasion === "reload")
    return { kind: "held", reason: `${name}: ${verdict.reason}` };
  table.replace(next);
  return { kind: "replaced", comparison };
}

/** Whether what was looked at is in force now. */
export function isInForce({ kind }: ReloadResult): boolean {
  return kind === "unchanged" || kind === "replaced";
}

/** What becomes of descriptors that could not be parsed. Throws what is no DescriptorError. */
export function toRejection(error: unknown): ReloadResult {
  if (error instanceof DescriptorError) return { kind: "rejected", reason: error.message };
  throw error;
}
