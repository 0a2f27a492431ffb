import fc from "fast-check";
import { expect, test } from "vitest";
import { createEntityMemory, createFlagMemory } from "./memory.ts";

const present = { value: "x" };
const absent = { value: undefined };

test("entities without overrides make room first, then the least recently used", () => {
  const memory = createEntityMemory<{ value: string | undefined }>(3);
  memory.set("a", present);
  memory.set("none", absent);
  memory.set("b", present);
  memory.set("c", present);
  expect([...memory.keys()].toSorted()).toEqual(["a", "b", "c"]);
  memory.get("a");
  memory.set("d", present);
  expect([...memory.keys()].toSorted()).toEqual(["a", "c", "d"]);
});

test("the memory of entities never grows past its limit and holds one entry a key", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 20 }), fc.boolean())), (writes) => {
      const memory = createEntityMemory<{ value: string | undefined }>(5);
      for (const [key, has] of writes) memory.set(`k${key}`, has ? present : absent);
      const keys = [...memory.keys()];
      expect(memory.size).toBe(keys.length);
      expect(keys.length).toBeLessThanOrEqual(5);
      expect(new Set(keys).size).toBe(keys.length);
      const newest = new Map(writes.map(([key, has]) => [`k${key}`, has ? present : absent]));
      expect(keys.map((key) => memory.peek(key))).toEqual(keys.map((key) => newest.get(key)));
      const shown: unknown[] = [];
      memory.forEach((entry, key) => shown.push([key, entry]));
      expect(shown).toEqual(keys.map((key) => [key, newest.get(key)]));
    }),
  );
});

test("defined flags are never forgotten; made-up ids are", () => {
  const memory = createFlagMemory<{ id: number }>((id) => id.startsWith("defined"), 2);
  for (let i = 0; i < 10; i++) {
    memory.set(`defined/${i}`, { id: i });
    memory.set(`made-up/${i}`, { id: i });
  }
  expect(memory.size).toBe(12);
  expect(memory.get("defined/0")).toEqual({ id: 0 });
  expect(memory.get("made-up/7")).toBeUndefined();
  expect(memory.get("made-up/9")).toEqual({ id: 9 });
});

test("setting all again keeps the order of use", () => {
  const memory = createEntityMemory<{ value: string | undefined }>(3);
  for (const key of ["a", "b", "c"]) memory.set(key, present);
  memory.get("a");
  for (const key of [...memory.keys()]) memory.set(key, { value: "refreshed" });
  memory.set("d", present);
  expect(memory.peek("b")).toBeUndefined();
  expect(memory.peek("a")).toEqual({ value: "refreshed" });
});
