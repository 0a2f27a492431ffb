import { describe, expect, test } from "vitest";
import { describeFlags, type FlagSpec, manyFeatures } from "../../test/support/descriptors.ts";
import { hashBytes } from "../system/hash-bytes.ts";
import { Latest } from "../system/latest.ts";
import { createFlagTable, type FlagTable } from "./definition.ts";
import { parseDescriptorSet } from "./load-descriptors.ts";
import { type ReloadResult, type TakeTableOptions, takeTable } from "./take-table.ts";

const on: FlagSpec = { number: 1, name: "on", type: "BOOL" };

describe("a table that", () => {
  const same = () => tableOf([on]);
  const cases: readonly (readonly [
    what: string,
    old: () => Promise<FlagTable>,
    next: () => Promise<FlagTable>,
    kinds: Readonly<Record<TakeTableOptions["occasion"], ReloadResult["kind"]>>,
  ])[] = [
    ["says the same", same, same, { reload: "unchanged", "forced reload": "unchanged", start: "unchanged" }],
    [
      "says something else",
      same,
      () => tableOf([{ ...on, default: true }]),
      { reload: "replaced", "forced reload": "replaced", start: "replaced" },
    ],
    [
      "lacks most flags",
      () => tableOf(flags(20)),
      () => tableOf(flags(9)),
      { reload: "held", "forced reload": "replaced", start: "replaced" },
    ],
    [
      "lacks all flags",
      same,
      () => tableOf([]),
      { reload: "rejected", "forced reload": "rejected", start: "replaced" },
    ],
    [
      "changes a type",
      same,
      () => tableOf([{ ...on, type: "STRING" }]),
      { reload: "rejected", "forced reload": "rejected", start: "replaced" },
    ],
    [
      "has no flags where nothing was known",
      async () => createFlagTable([], []),
      () => parseTable(describeFlags([])),
      { reload: "unchanged", "forced reload": "unchanged", start: "replaced" },
    ],
  ];

  test.for(cases)("%s", async ([, old, next, kinds]) => {
    for (const occasion of ["reload", "forced reload", "start"] as const) {
      const [before, after] = await Promise.all([old(), next()]);
      const table = new Latest(before);
      const { kind } = await takeTable(table, after, { name: "flags.pb", occasion });
      expect({ occasion, kind }).toEqual({ occasion, kind: kinds[occasion] });
      expect(table.value).toBe(kind === "replaced" ? after : before);
    }
  });
});

test("the reason against a table begins with where it came from", async () => {
  const result = await takeTable(new Latest(await tableOf([on])), await tableOf([]), {
    name: "flags.pb",
    occasion: "reload",
  });
  expect(result).toEqual({
    kind: "rejected",
    reason: "flags.pb: it must define flags, got none where 1 are in force",
  });
});

function flags(count: number): readonly FlagSpec[] {
  return manyFeatures(count, count).flatMap((feature) => feature.flags);
}

function tableOf(specs: readonly FlagSpec[]): Promise<FlagTable> {
  return parseTable(describeFlags([{ feature: "f", flags: specs }]));
}

async function parseTable(bytes: Uint8Array): Promise<FlagTable> {
  return parseDescriptorSet("test.pb", { bytes, hash: await hashBytes(bytes) });
}
