import { expect, test } from "vitest";
import { Announcements } from "./announcements.ts";

test("without an announcement no answer is a stray", () => {
  const announcements = new Announcements();
  expect(["a", "b", "a"].map((hash) => announcements.isStray(hash))).toEqual([false, false, false]);
});

test("only the set that was announced last is the one to have", () => {
  const announcements = new Announcements();
  announcements.announce("a");
  announcements.announce("b");
  expect(["a", "b", "c", "b"].map((hash) => announcements.isStray(hash))).toEqual([true, false, true, false]);
});

test("an announcement counts no more when ten answers in a row are others", () => {
  const announcements = new Announcements();
  announcements.announce("b");
  const answers = Array.from({ length: 10 }, () => announcements.isStray("a"));
  expect(answers).toEqual([...Array<boolean>(9).fill(true), false]);
  expect(announcements.isStray("a")).toBe(false);
  expect(announcements.isStray("b")).toBe(true);
});

test("as long as the announced set turns up now and then, it stays the one to have", () => {
  const announcements = new Announcements();
  announcements.announce("b");
  for (let round = 0; round < 20; round += 1) {
    const others = Array.from({ length: 9 }, () => announcements.isStray("a"));
    expect(others).not.toContain(false);
    expect(announcements.isStray("b")).toBe(false);
  }
});
