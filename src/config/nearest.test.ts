import { expect, test } from "vitest";
import { findNearest, suggest } from "./nearest.ts";

const keys = ["listen", "cache.kill_ttl", "cache.flag_ttl", "database", "database_pool"];

test.each([
  ["lsiten", "listen"],
  ["Listen", "listen"],
  ["cache.kil_ttl", "cache.kill_ttl"],
  ["kill_ttl", "cache.kill_ttl"],
  ["databse", "database"],
  ["databasepool", "database_pool"],
])("findNearest() knows that %s means %s", (word, key) => {
  expect(findNearest(word, keys)).toBe(key);
});

test.each(["", "x", "colour", "zzzzzzzz", "l".repeat(101)])("findNearest() does not guess at %j", (word) => {
  expect(findNearest(word, keys)).toBeUndefined();
});

test("suggest() ends a sentence, or adds nothing", () => {
  expect(suggest("lisen", keys)).toBe(", did you mean listen?");
  expect(suggest("colour", keys)).toBe("");
});
