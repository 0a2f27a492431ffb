import type { SupportedValues } from "../gen/pbflags/options_pb.ts";
import { runAtOnce } from "../system/run-in-slices.ts";
import type { FeatureDefinition, FlagDefinition, FlagTable, FlagType } from "./definition.ts";
import { isSameList, isSameValue } from "./flag-value.ts";

/** What a new table changes, by flag id. */
export interface TableComparison {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Flags that are in both, with the names of what differs, for example `default`. */
  readonly changed: readonly { readonly id: string; readonly what: readonly string[] }[];
  /** Flags whose values would no longer fit. They are not among the changed. */
  readonly typeChanged: readonly { readonly id: string; readonly from: FlagType; readonly to: FlagType }[];
  /** Ids of features that came, went, or are described differently. */
  readonly featuresChanged: readonly string[];
}

/** Compares flag by flag. Takes long for large tables: see compareTablesInSteps. */
export function compareTables(old: FlagTable, next: FlagTable): TableComparison {
  return runAtOnce(compareTablesInSteps(old, next));
}

/** The same in small steps, for runInSlices. */
export function* compareTablesInSteps(old: FlagTable, next: FlagTable): Generator<void, TableComparison> {
  const added: string[] = [];
  const removed: string[] = [];
  const changed: { id: string; what: readonly string[] }[] = [];
  const typeChanged: { id: string; from: FlagType; to: FlagType }[] = [];
  for (const flag of next.flags) {
    yield;
    const { id } = flag;
    const before = old.find(id);
    if (before === undefined) added.push(id);
    else if (before.type !== flag.type) typeChanged.push({ id, from: before.type, to: flag.type });
    else {
      const what = differences(before, flag);
      if (what.length > 0) changed.push({ id, what });
    }
  }
  for (const { id } of old.flags) {
    yield;
    if (next.find(id) === undefined) removed.push(id);
  }
  return {
    added,
    removed,
    changed,
    typeChanged,
    featuresChanged: changedFeatures(old.features, next.features),
  };
}

/** Whether the new table says the same as the old one. */
export function isUnchanged(comparison: TableComparison): boolean {
  return Object.values(comparison).every((list: readonly unknown[]) => list.length === 0);
}

function differences(a: FlagDefinition, b: FlagDefinition): readonly string[] {
  const what: string[] = [];
  if (a.name !== b.name) what.push("name");
  if (a.layer !== b.layer) what.push("layer");
  if (!isSameValue(a.defaultValue, b.defaultValue)) what.push("default");
  if (!areSupportedSame(a.supportedValues, b.supportedValues)) what.push("supported values");
  if (a.description !== b.description) what.push("description");
  return what;
}

function areSupportedSame(a: SupportedValues | undefined, b: SupportedValues | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    isSameList(a.stringValues, b.stringValues) &&
    isSameList(a.int64Values, b.int64Values) &&
    isSameList(a.doubleValues, b.doubleValues)
  );
}

function changedFeatures(
  old: readonly FeatureDefinition[],
  next: readonly FeatureDefinition[],
): readonly string[] {
  const before = new Map(old.map((feature) => [feature.id, feature]));
  const after = new Map(next.map((feature) => [feature.id, feature]));
  const ids = [...new Set([...before.keys(), ...after.keys()])];
  return ids.filter((id) => !isSameFeature(before.get(id), after.get(id)));
}

function isSameFeature(a: FeatureDefinition | undefined, b: FeatureDefinition | undefined): boolean {
  return a?.displayName === b?.displayName && a?.description === b?.description && a?.owner === b?.owner;
}
