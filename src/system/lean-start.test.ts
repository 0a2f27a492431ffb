import { getHeapSpaceStatistics } from "node:v8";
import { afterEach, expect, test } from "vitest";
import { startLean } from "./lean-start.ts";

let end: (() => void) | undefined;
afterEach(() => end?.());

test("what is made and kept does not widen the room for young objects, until it may again", () => {
  const before = roomBytes();
  end = startLean();
  const kept = [makeMany()];
  expect(roomBytes()).toBe(before);
  end();
  kept.push(makeMany());
  expect(roomBytes()).toBeGreaterThan(before);
});

/** More than the room of a process that has just begun. */
function makeMany(): readonly object[] {
  return Array.from({ length: 1_000_000 }, (_, i) => ({ i, more: [i] }));
}

function roomBytes(): number {
  return getHeapSpaceStatistics().find(({ space_name: name }) => name === "new_space")?.space_size ?? 0;
}
