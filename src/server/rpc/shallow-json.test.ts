import fc from "fast-check";
import { expect, test } from "vitest";
import { isDeep } from "./shallow-json.ts";

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

test("100 levels are not deep, 101 are", () => {
  for (const [open, close] of [
    ["[", "]"],
    ['{"a":', "}"],
  ] as const) {
    const nested = (depth: number) => Buffer.from(`${open.repeat(depth)}1${close.repeat(depth)}`);
    expect(isDeep(nested(100))).toBe(false);
    expect(isDeep(nested(101))).toBe(true);
  }
  expect(isDeep(Buffer.from("[".repeat(101)))).toBe(true);
});

test("brackets in texts do not count", () => {
  expect(
    isDeep(Buffer.from(JSON.stringify({ a: "[".repeat(500), ['{"\\'.repeat(200)]: '\\"['.repeat(200) }))),
  ).toBe(false);
});

test("what follows a text counts", () => {
  expect(isDeep(Buffer.from(`["\\\\",${"[".repeat(100)}`))).toBe(true);
  expect(isDeep(Buffer.from(`["\\"",${"[".repeat(100)}`))).toBe(true);
});

test("agrees with a recursive count on any JSON, once that is wrapped 95 times", () => {
  const agrees = fc.property(fc.json({ maxDepth: 12 }), (json) => {
    const wrapped = `${"[".repeat(95)}${json}${"]".repeat(95)}`;
    return isDeep(Buffer.from(wrapped)) === 95 + depthOf(JSON.parse(json)) > 100;
  });
  expect(fc.check(agrees, { numRuns: 500 }).failed).toBe(false);
});
