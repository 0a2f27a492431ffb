import fc from "fast-check";
import { expect, test } from "vitest";
import { GrowingBytes } from "./growing-bytes.ts";

test("pieces come out as they went in", () => {
  const holds = fc.property(fc.array(fc.uint8Array()), (pieces) => {
    const originals = pieces.map((piece) => Buffer.from(piece));
    const growing = new GrowingBytes();
    for (const piece of pieces) growing.append(Buffer.from(piece));
    return (
      Buffer.concat(originals).equals(growing.bytes) &&
      growing.length === growing.bytes.length &&
      pieces.every((piece, i) => originals[i]?.equals(piece))
    );
  });
  expect(fc.check(holds).failed).toBe(false);
});

test("a piece that was handed in is never written to", () => {
  const memory = Buffer.from("abcdef");
  const growing = new GrowingBytes();
  growing.append(memory.subarray(0, 3));
  growing.append(Buffer.from("XYZ"));
  expect(Buffer.from(growing.bytes).toString()).toBe("abcXYZ");
  expect(memory.toString()).toBe("abcdef");
});

test("a megabyte of single bytes takes no more than two", () => {
  const growing = new GrowingBytes();
  for (let i = 0; i < 1_000_000; i++) growing.append(Buffer.from("a"));
  expect(growing.bytes).toHaveLength(1_000_000);
  expect(growing.bytes.buffer.byteLength).toBeLessThanOrEqual(2_000_000);
});
