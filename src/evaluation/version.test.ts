import { expect, test } from "vitest";
import { formatVersion, isOlder, parseVersion, type Stamp } from "./version.ts";

const at = (askedAt: number, epoch?: string, revision = 0): Stamp => ({
  askedAt,
  version: epoch === undefined ? undefined : { epoch, revision },
});

test("isOlder() goes by revision within an epoch, otherwise by which question set out first unless more is known", () => {
  const cases: [Stamp, Stamp, boolean][] = [
    [at(9, "e", 1), at(1, "e", 2), true],
    [at(1, "e", 2), at(9, "e", 1), false],
    [at(1, "e", 1), at(9, "e", 1), false],
    [at(1, "e", 9), at(2, "f", 1), true],
    [at(2, "f", 1), at(1, "e", 9), false],
    [at(1), at(2), true],
    [at(2), at(1), false],
    [at(1), at(1), false],
    [at(1, "e", 5), at(2), true],
    [at(3), at(2, "e", 5), false],
  ];
  for (const [a, b, older] of cases) expect(isOlder(a, b), JSON.stringify([a, b])).toBe(older);
});

test("of two epochs the one is older that was read first, though it was asked for later", () => {
  const read = (readAt: number, askedAt: number, epoch: string): Stamp => ({ ...at(askedAt, epoch), readAt });
  const cases: [Stamp, Stamp, boolean][] = [
    [read(1, 9, "e"), read(5, 6, "f"), true],
    [read(5, 6, "f"), read(1, 9, "e"), false],
    // What an earlier process has left, when the clock was set back.
    [read(5, -Infinity, "e"), read(5, 5, "f"), true],
    [read(5, 5, "f"), read(5, -Infinity, "e"), false],
    [read(1, 9, "e"), at(5, "f"), true],
  ];
  for (const [a, b, older] of cases) expect(isOlder(a, b), JSON.stringify([a, b])).toBe(older);
});

test("a version survives being written and read, whatever its epoch holds", () => {
  for (const version of [
    { epoch: "0b7c-1", revision: 0 },
    { epoch: "a:b:c", revision: 12_345 },
  ]) {
    expect(parseVersion(formatVersion(version))).toEqual(version);
  }
  for (const text of ["", "12", "epoch:", ":12", "epoch:-1", "epoch:1.5", "epoch:12345678901234567"]) {
    expect(parseVersion(text), text).toBeUndefined();
  }
});
