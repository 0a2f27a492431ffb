import { expect, test } from "vitest";
import { type FlagRecord, planSync, type StoredFlagRecord } from "./sync-plan.ts";

function wanted(flagId: string, changes: Partial<FlagRecord> = {}): FlagRecord {
  return {
    flagId,
    featureId: "shop",
    fieldNumber: 1,
    displayName: "open",
    flagType: "BOOL",
    layer: "USER",
    description: "",
    defaultHex: null,
    supportedHex: null,
    ...changes,
  };
}

function stored(flagId: string, changes: Partial<StoredFlagRecord> = {}): StoredFlagRecord {
  return { ...wanted(flagId), archived: false, ...changes };
}

test("new flags are created, known ones left alone", () => {
  const plan = planSync([wanted("shop/2"), wanted("shop/1"), wanted("shop/3")], [stored("shop/3")]);
  expect(plan.create.map(({ flagId }) => flagId)).toEqual(["shop/1", "shop/2"]);
  expect(plan).toMatchObject({ update: [], restore: [], archive: [], unchanged: 1, retyped: [] });
});

test.each<Partial<FlagRecord>>([
  { displayName: "closed" },
  { flagType: "STRING" },
  { layer: "GLOBAL" },
  { description: "x" },
  { defaultHex: "0801" },
  { supportedHex: "" },
  { fieldNumber: 2 },
])("a flag is updated where %o differs", (change) => {
  const plan = planSync([wanted("shop/1", change)], [stored("shop/1")]);
  expect(plan).toMatchObject({ update: [wanted("shop/1", change)], unchanged: 0 });
});

test("what is gone is archived once, and what comes back is restored", () => {
  const rows = [stored("shop/1"), stored("shop/2", { archived: true }), stored("shop/3", { archived: true })];
  const plan = planSync([wanted("shop/3")], rows);
  expect(plan).toMatchObject({ archive: ["shop/1"], restore: [wanted("shop/3")], update: [], unchanged: 0 });
});

test("a type that changed is told, whether the flag was archived or not", () => {
  const rows = [stored("shop/1"), stored("shop/2", { archived: true })];
  const plan = planSync(
    [wanted("shop/1", { flagType: "STRING" }), wanted("shop/2", { flagType: "INT64" })],
    rows,
  );
  expect(plan.retyped).toEqual([
    { flagId: "shop/1", from: "BOOL", to: "STRING" },
    { flagId: "shop/2", from: "BOOL", to: "INT64" },
  ]);
});
