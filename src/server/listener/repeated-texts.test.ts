import { expect, test } from "vitest";
import { RepeatedTexts } from "./repeated-texts.ts";

test("what comes again is remembered from the second time on", () => {
  const texts = new RepeatedTexts<number>(10);
  texts.found("a", 1);
  expect(texts.get("a")).toBeUndefined();
  texts.found("a", 2);
  expect(texts.get("a")).toBe(2);
  texts.forget();
  expect(texts.get("a")).toBeUndefined();
  texts.found("a", 3);
  expect(texts.get("a")).toBeUndefined();
});

test("what comes once puts out nothing, however much of it comes", () => {
  const texts = new RepeatedTexts<number>(2);
  for (const text of ["a", "b"]) for (const value of [1, 2]) texts.found(text, value);
  for (let i = 0; i < 1_000; i++) texts.found(`once ${i}`, i);
  expect([texts.get("a"), texts.get("b")]).toEqual([2, 2]);
});

test("there is an end to what is remembered", () => {
  const texts = new RepeatedTexts<number>(2);
  for (const text of ["a", "b", "c"]) for (const value of [1, 2]) texts.found(text, value);
  expect(["a", "b", "c"].filter((text) => texts.get(text) !== undefined)).toEqual(["c"]);
});
