import { describe, expect, test } from "vitest";
import { describeFlags, type FeatureSpec, type FlagSpec } from "../../test/support/descriptors.ts";
import { compareTables, isUnchanged, type TableComparison } from "./compare-tables.ts";
import type { FlagTable } from "./definition.ts";
import { judgeReload } from "./judge-reload.ts";
import { parseDescriptors } from "./parse-descriptors.ts";

const rate: FlagSpec = { number: 1, name: "rate", type: "DOUBLE", layer: "user", default: Number.NaN };
const nothing: TableComparison = {
  added: [],
  removed: [],
  changed: [],
  typeChanged: [],
  featuresChanged: [],
};

describe("compareTables()", () => {
  test("finds nothing where both say the same", () => {
    const comparison = compare([rate], [rate]);
    expect(comparison).toEqual(nothing);
    expect(isUnchanged(comparison)).toBe(true);
  });

  test.for<[what: string, next: Partial<FlagSpec>]>([
    ["name", { name: "share" }],
    ["layer", { layer: "tenant" }],
    ["default", { default: 0 }],
    ["description", { description: "How many." }],
  ])("names a changed %s", ([what, next]) => {
    expect(compare([rate], [{ ...rate, ...next }])).toEqual({
      ...nothing,
      changed: [{ id: "f/1", what: [what] }],
    });
  });

  test("tells no default from an empty list, and 0 from -0", () => {
    const list: FlagSpec = { number: 1, name: "list", type: "INT64_LIST" };
    expect(compare([list], [{ ...list, default: [] }]).changed).toEqual([{ id: "f/1", what: ["default"] }]);
    expect(compare([{ ...rate, default: 0 }], [{ ...rate, default: -0 }]).changed).toHaveLength(1);
  });

  test("lists what came, what went and whose type changed", () => {
    const kept: FlagSpec = { number: 2, name: "kept", type: "BOOL" };
    const gone: FlagSpec = { number: 3, name: "gone", type: "BOOL" };
    const fresh: FlagSpec = { number: 4, name: "fresh", type: "BOOL" };
    expect(compare([rate, kept, gone], [{ ...rate, type: "STRING", default: "a" }, kept, fresh])).toEqual({
      ...nothing,
      added: ["f/4"],
      removed: ["f/3"],
      typeChanged: [{ id: "f/1", from: "DOUBLE", to: "STRING" }],
    });
  });

  test("lists features that came, went or are described differently", () => {
    const old = table([
      { feature: "a", flags: [] },
      { feature: "b", flags: [] },
    ]);
    const next = table([
      { feature: "a", flags: [], owner: "team-a" },
      { feature: "c", flags: [] },
    ]);
    expect(compareTables(old, next).featuresChanged).toEqual(["a", "b", "c"]);
  });
});

describe("judgeReload()", () => {
  test.for<[old: number, next: number, kind: string]>([
    [0, 0, "good"],
    [0, 5, "good"],
    [1, 0, "refused"],
    [100, 0, "refused"],
    [19, 1, "good"],
    [20, 10, "good"],
    [20, 9, "held"],
    [100, 50, "good"],
    [100, 49, "held"],
    [20, 100, "good"],
  ])("of %i flags of which, or with which, there are %i afterwards: %s", ([old, next, kind]) => {
    expect(judge(flags(old), flags(next)).kind).toBe(kind);
  });

  test("counts what is removed, whatever is added", () => {
    expect(judge(flags(20), flags(20, 12))).toEqual({
      kind: "held",
      reason: "it must keep at least half of the flags unless forced by a restart, got 11 of 20 removed",
    });
  });

  test("refuses another type before anything else, naming a flag", () => {
    const [, ...others] = flags(30);
    expect(judge([rate, ...others], [{ ...rate, type: "INT64", default: 1n }])).toEqual({
      kind: "refused",
      reason: "a flag must keep its type, got INT64 for f/1, which is DOUBLE",
    });
  });

  test("says how many flags would be lost", () => {
    expect(judge(flags(3), [])).toEqual({
      kind: "refused",
      reason: "it must define flags, got none where 3 are in force",
    });
  });
});

function flags(count: number, first = 1): readonly FlagSpec[] {
  return Array.from({ length: count }, (_, i) => ({
    number: first + i,
    name: `f_${first + i}`,
    type: "BOOL",
  }));
}

function compare(old: readonly FlagSpec[], next: readonly FlagSpec[]): TableComparison {
  return compareTables(table([{ feature: "f", flags: old }]), table([{ feature: "f", flags: next }]));
}

function judge(old: readonly FlagSpec[], next: readonly FlagSpec[]) {
  const [before, after] = [table([{ feature: "f", flags: old }]), table([{ feature: "f", flags: next }])];
  return judgeReload(before, after, compareTables(before, after));
}

function table(features: readonly FeatureSpec[]): FlagTable {
  return parseDescriptors([{ name: "test.pb", bytes: describeFlags(features) }]);
}
