import { expect, test } from "vitest";
import { formatPairs, formatTable } from "./table.ts";
import { toPrintable, truncate, widthOf } from "./text-width.ts";

const rows = [
  ["notifications/1", "ENABLED", "true"],
  ["checkout/12", "KILLED", "a rather long value that does not fit anywhere"],
];

test("columns are aligned under their headings", () => {
  expect(formatTable(["FLAG", "STATE", "VALUE"], rows, { width: 200 })).toBe(
    [
      "FLAG             STATE    VALUE",
      "notifications/1  ENABLED  true",
      "checkout/12      KILLED   a rather long value that does not fit anywhere",
      "",
    ].join("\n"),
  );
});

test("a narrow table cuts its widest column, and says so", () => {
  const table = formatTable(["FLAG", "STATE", "VALUE"], rows, { width: 50 });
  expect(table).toContain("checkout/12      KILLED   a rather long value tha…\n");
  for (const line of table.trimEnd().split("\n")) expect(line.length).toBeLessThanOrEqual(50);
});

test("a terminal of no width still gets something readable", () => {
  expect(formatTable(["FLAG", "STATE", "VALUE"], rows, { width: 0 })).toBe(
    ["FLAG    STATE   VALUE", "notif…  ENABL…  true", "check…  KILLED  a rat…", ""].join("\n"),
  );
});

test("no cell is wider than 200 characters", () => {
  const table = formatTable(["A", "B"], [["x".repeat(10_000), "y"]], { width: Number.POSITIVE_INFINITY });
  expect(table).toContain(`${"x".repeat(199)}…  y\n`);
});

test("wide and joined characters keep the columns aligned", () => {
  const table = formatTable(
    ["NAME", "X"],
    [
      ["日本", "1"],
      ["👩‍👩‍👧", "2"],
      ["e\u0301", "3"],
    ],
    { width: 80 },
  );
  expect(table).toBe(["NAME  X", "日本  1", "👩‍👩‍👧    2", "e\u0301     3", ""].join("\n"));
});

test("control characters are shown, not obeyed", () => {
  expect(toPrintable("a\nb\tc\u001B[31m\u202E\u0000")).toBe("a\\nb\\tc\\u001b[31m\\u202e\\u0000");
  expect(formatTable(["A"], [["\u001B[2J"]], { width: 80 })).toBe("A\n\\u001b[2J\n");
});

test.each([
  ["abc", 3, "abc"],
  ["abcd", 3, "ab…"],
  ["日本語", 6, "日本語"],
  ["日本語", 5, "日本…"],
  ["日本語", 4, "日…"],
])("truncate(%j, %d) is %j", (text, width, cut) => {
  expect(truncate(text, width)).toBe(cut);
  expect(widthOf(cut)).toBeLessThanOrEqual(width);
});

test("pairs stand one in a line", () => {
  expect(
    formatPairs([
      ["flag", "a/1"],
      ["description", "two\nlines"],
    ]),
  ).toBe("flag         a/1\ndescription  two\\nlines\n");
});
