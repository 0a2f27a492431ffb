import type { SupportedValues } from "../gen/pbflags/options_pb.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";

/** What a flag's values are. The names are those of the database's `flag_type` column. */
export type FlagType =
  | "BOOL"
  | "STRING"
  | "INT64"
  | "DOUBLE"
  | "BOOL_LIST"
  | "STRING_LIST"
  | "INT64_LIST"
  | "DOUBLE_LIST";

/** What the descriptor set says about one flag. Never changes while the process holds it. */
export interface FlagDefinition {
  /** `<feature id>/<field number>`. */
  readonly id: string;
  /** `<feature id>.<field name>`. */
  readonly alias: string;
  readonly featureId: string;
  readonly fieldNumber: number;
  /** The field's name. */
  readonly name: string;
  readonly type: FlagType;
  /** What the flag may vary by, in lower case, for example `user`. Empty: it does not vary. */
  readonly layer: string;
  readonly description: string;
  /** Undefined if the descriptor names no default. */
  readonly defaultValue: FlagValue | undefined;
  readonly supportedValues: SupportedValues | undefined;
}

/** What the descriptor set says about one feature. */
export interface FeatureDefinition {
  readonly id: string;
  /** The message's name. */
  readonly displayName: string;
  readonly description: string;
  readonly owner: string;
}

/** A serialized FileDescriptorSet. */
export interface DescriptorSet {
  readonly bytes: Uint8Array;
  /** SHA-256 of the bytes, in hexadecimal. */
  readonly hash: string;
}

/** All features and flags of one descriptor set. Replaced as a whole, never edited. */
export interface FlagTable {
  /** What it was read from. Undefined for a table that was not. */
  readonly descriptorSet?: DescriptorSet;
  /** Ordered by id. */
  readonly features: readonly FeatureDefinition[];
  /** Ordered by feature id, then field number. */
  readonly flags: readonly FlagDefinition[];
  /** Finds a flag by its id or by its alias. */
  find(idOrAlias: string): FlagDefinition | undefined;
}

/** Builds the table, in its order, from what a parser found. Ids and aliases must be unique. */
export function createFlagTable(
  features: readonly FeatureDefinition[],
  flags: readonly FlagDefinition[],
): FlagTable {
  const byName = new Map<string, FlagDefinition>();
  for (const flag of flags) {
    byName.set(flag.id, flag);
    byName.set(flag.alias, flag);
  }
  return {
    features: features.toSorted((a, b) => compareText(a.id, b.id)),
    flags: inOrder(flags),
    find: (idOrAlias) => byName.get(idOrAlias),
  };
}

/** Feature by feature: comparing the feature's id for each pair of flags takes several times as long. */
function inOrder(flags: readonly FlagDefinition[]): readonly FlagDefinition[] {
  const byFeature = new Map<string, FlagDefinition[]>();
  for (const flag of flags) {
    const siblings = byFeature.get(flag.featureId);
    if (siblings === undefined) byFeature.set(flag.featureId, [flag]);
    else siblings.push(flag);
  }
  return [...byFeature]
    .toSorted(([a], [b]) => compareText(a, b))
    .flatMap(([, siblings]) => siblings.toSorted((a, b) => a.fieldNumber - b.fieldNumber));
}

/** By code unit, so that the order does not depend on the machine's locale. */
function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
