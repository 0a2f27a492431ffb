import fc from "fast-check";
import { expect, test } from "vitest";
import { defineFlag, tableOf } from "../../test/support/flag-builders.ts";

test("createFlagTable() orders flags by feature id, then field number, whatever order they come in", () => {
  const id = fc.tuple(fc.constantFrom("a", "B", "a-b", "a.b", "ä", "b"), fc.integer({ min: 1, max: 2_000 }));
  const key = ([feature, number]: [string, number]) => `${feature}/${number}`;
  fc.assert(
    fc.property(fc.uniqueArray(id, { selector: key }), (ids) => {
      const table = tableOf(...ids.map((pair) => defineFlag(key(pair))));
      const sorted = ids.toSorted(([a, i], [b, j]) => (a === b ? i - j : a < b ? -1 : 1));
      expect(table.flags.map((flag) => flag.id)).toEqual(sorted.map(key));
    }),
  );
});

test("createFlagTable() finds a flag by its id and by its alias, and nothing else", () => {
  const flag = defineFlag("notifications/1", { name: "email_enabled" });
  const table = tableOf(flag);
  expect(table.find("notifications/1")).toBe(flag);
  expect(table.find("notifications.email_enabled")).toBe(flag);
  expect(table.find("notifications")).toBeUndefined();
  expect(table.find("__proto__")).toBeUndefined();
});
