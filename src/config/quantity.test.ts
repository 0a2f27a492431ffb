import * as fc from "fast-check";
import { expect, test } from "vitest";
import { parseBytes, parseCount, parseDecimal, parseDuration, parseInteger } from "./quantity.ts";

test.each([
  ["0", 0],
  ["0s", 0],
  ["500ms", 500],
  ["30s", 30_000],
  ["1m30s", 90_000],
  ["1.5h", 5_400_000],
  ["1h0m0.5s", 3_600_500],
  ["0.1h", 360_000],
  ["100us", 1],
  ["1µs", 1],
  ["1500000ns", 2],
  ["24h", 86_400_000],
])("parseDuration() reads %s as %d ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  "",
  "30",
  "s",
  "-1s",
  "+1s",
  "1 s",
  "1S",
  "1d",
  "1.s",
  ".5s",
  "1e3s",
  "NaN",
  "Infinity",
  "1s ",
  "٣s",
  "1s".repeat(30),
])("parseDuration() refuses %j", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([
  ["0", 0],
  ["1048576", 1_048_576],
  ["1MiB", 1_048_576],
  ["1 MiB", 1_048_576],
  ["0.5KiB", 512],
  ["16KiB", 16_384],
  ["64kB", 64_000],
  ["7B", 7],
  ["2GiB", 2_147_483_648],
])("parseBytes() reads %s as %d", (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes);
});

test.each(["", "-1", "1.5", "1KIB", "1TiB", "MiB", "1e6", "0x10", "99999999999999999999", "1  MiB"])(
  "parseBytes() refuses %j",
  (text) => {
    expect(parseBytes(text)).toBeUndefined();
  },
);

test("parseCount() takes decimal digits", () => {
  expect(parseCount("10000")).toBe(10_000);
});

test.each(["", "-1", "1.0", "1e3", "1_000", " 1", "0x1", "1".repeat(16)])(
  "parseCount() refuses %j",
  (text) => {
    expect(parseCount(text)).toBeUndefined();
  },
);

test("parseInteger() takes a minus sign, and knows one zero", () => {
  expect(["0", "-0", "12", "-12"].map(parseInteger)).toEqual([0, 0, 12, -12]);
});

test.each(["", "-", "+1", "--1", "1.0", "1e3", " 1", "1".repeat(16)])("parseInteger() refuses %j", (text) => {
  expect(parseInteger(text)).toBeUndefined();
});

test("parseDecimal() takes whole numbers and fractions", () => {
  expect(["0", "2", "1.5", "0.01"].map(parseDecimal)).toEqual([0, 2, 1.5, 0.01]);
});

test.each(["", "-1", ".5", "1.", "1e3", "1,5", "Infinity", "1.1234567"])(
  "parseDecimal() refuses %j",
  (text) => {
    expect(parseDecimal(text)).toBeUndefined();
  },
);

test("whatever the text, a quantity is undefined or a whole number, zero or more", () => {
  const pieces = fc.array(
    fc.constantFrom("1", "0", ".", "9", "ms", "s", "h", "m", "ns", "KiB", "B", "-", "e", " "),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        pieces.map((parts) => parts.join("")),
        fc.string(),
      ),
      (text) => {
        for (const value of [parseDuration(text), parseBytes(text), parseCount(text)]) {
          expect(value === undefined || (Number.isSafeInteger(value) && value >= 0)).toBe(true);
        }
      },
    ),
  );
});
