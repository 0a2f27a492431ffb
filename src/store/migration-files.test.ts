import { expect, test } from "vitest";
import { loadMigrations, MigrationError, parseMigration, planMigrations } from "./migration-files.ts";

const first = parseMigration("0001_first.sql", "SELECT 1;\n");
const second = parseMigration("0002_second.sql", "-- pbflagd: breaking\nSELECT 2;\n");
const third = parseMigration("0003_third.sql", "SELECT 3;\n");

test("line ends do not change a checksum", () => {
  expect(parseMigration("0001_first.sql", "SELECT 1;\r\n").checksum).toBe(first.checksum);
  expect(parseMigration("0001_first.sql", "SELECT 2;\n").checksum).not.toBe(first.checksum);
});

test("a migration says in a line of its own that it is breaking", () => {
  expect([first, second].map(({ breaking }) => breaking)).toEqual([false, true]);
});

test("a file that does not say where it belongs is an error", () => {
  expect(() => parseMigration("first.sql", "")).toThrow(
    "its name must look like 0001_name.sql, got first.sql",
  );
});

test("our own files are numbered from 1 without a gap", async () => {
  const numbers = (await loadMigrations()).map(({ name }) => Number(name.slice(0, 4)));
  expect(numbers).toEqual(numbers.map((_, index) => index + 1));
});

test("what was not applied is pending, in order", () => {
  expect(planMigrations([first, second, third], [first])).toEqual({ pending: [second, third], newer: [] });
  expect(planMigrations([first], [first])).toEqual({ pending: [], newer: [] });
});

test("what a newer version applied is told apart", () => {
  expect(planMigrations([first], [first, second])).toEqual({ pending: [], newer: [second] });
});

test.each([
  ["a changed file", [{ ...first, checksum: "other" }], "0001_first was changed after it had been applied"],
  [
    "a missing file",
    [{ ...first, name: "0000_gone" }, first],
    "0000_gone was applied to the database, but its file is missing",
  ],
  [
    "a file that comes too late",
    [second],
    "0001_first comes before 0002_second, which the database already has",
  ],
])("%s is an error", (_, applied, message) => {
  expect(() => planMigrations([first, second], applied)).toThrow(MigrationError);
  expect(() => planMigrations([first, second], applied)).toThrow(message);
});
