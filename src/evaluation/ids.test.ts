import { expect, test } from "vitest";
import { canExist, canHaveOverrides } from "./ids.ts";

test("the length of an id counts in characters, as the database counts them", () => {
  expect(canHaveOverrides("😀".repeat(255))).toBe(true);
  expect(canHaveOverrides("😀".repeat(256))).toBe(false);
  expect(canHaveOverrides("e".repeat(256))).toBe(false);
  expect(canExist("😀".repeat(512))).toBe(true);
  expect(canExist("f".repeat(513))).toBe(false);
});
