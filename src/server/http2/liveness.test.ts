import { describe, expect, test } from "vitest";
import { Liveness } from "./liveness.ts";

const PATIENCE_MS = 1_000;

describe("a client is half open", () => {
  const isHalfOpen = (liveness: Liveness, now: number) => liveness.isHalfOpen(now, PATIENCE_MS);

  test("that says nothing", () => {
    const liveness = new Liveness(100);
    expect(isHalfOpen(liveness, 1_099)).toBe(false);
    expect(isHalfOpen(liveness, 1_100)).toBe(true);
  });

  test("that says what asks for nothing", () => {
    const liveness = new Liveness(0);
    for (const now of [100, 400, 900]) liveness.took(now, false, true);
    expect(isHalfOpen(liveness, 999)).toBe(false);
    expect(isHalfOpen(liveness, 1_000)).toBe(true);
  });

  test("that stops inside of something", () => {
    const liveness = new Liveness(0);
    liveness.proved();
    liveness.took(5_000, true, true);
    // It goes on, and does not come to an end.
    liveness.took(5_900, true, false);
    expect(isHalfOpen(liveness, 5_999)).toBe(false);
    expect(isHalfOpen(liveness, 6_000)).toBe(true);
  });

  test("that never closes a connection that is at its end", () => {
    const liveness = new Liveness(0);
    liveness.proved();
    liveness.took(100, false, true);
    liveness.ended(5_000);
    expect(isHalfOpen(liveness, 5_999)).toBe(false);
    expect(isHalfOpen(liveness, 6_000)).toBe(true);
  });

  test("but not one that has proved itself and rests", () => {
    const liveness = new Liveness(0);
    liveness.proved();
    liveness.took(100, false, true);
    expect(isHalfOpen(liveness, 1_000_000)).toBe(false);
  });

  test("but not one that is always inside of something, of a new one each time", () => {
    const liveness = new Liveness(0);
    liveness.proved();
    for (let now = 0; now <= 10_000; now += 900) {
      liveness.took(now, true, true);
      expect(isHalfOpen(liveness, now + 899)).toBe(false);
    }
  });

  test("but not one that came to the end of it", () => {
    const liveness = new Liveness(0);
    liveness.proved();
    liveness.took(100, true, true);
    liveness.took(1_000, false, false);
    expect(isHalfOpen(liveness, 1_000_000)).toBe(false);
    // From then on it has all its time again.
    liveness.took(2_000_000, true, false);
    expect(isHalfOpen(liveness, 2_000_999)).toBe(false);
    expect(isHalfOpen(liveness, 2_001_000)).toBe(true);
  });
});

describe("a client is pinged", () => {
  test("once, if it has not proved itself in time", () => {
    const liveness = new Liveness(100);
    expect([1_099, 1_100, 1_101].map((now) => liveness.isUnproven(now, PATIENCE_MS))).toEqual([
      ...[false, true, false],
    ]);
  });

  test("not if it has", () => {
    const liveness = new Liveness(0);
    liveness.proved();
    expect(liveness.isUnproven(1_000_000, PATIENCE_MS)).toBe(false);
  });
});

describe("a client is stalled", () => {
  /** Asked every 500 ms from 0 on, with what waits then. */
  function stallsOf(
    waits: readonly ("windows" | number | undefined)[],
    before: (liveness: Liveness, i: number) => void = () => {},
  ): readonly boolean[] {
    const liveness = new Liveness(0);
    return waits.map((waiting, i) => {
      before(liveness, i);
      return liveness.isStalled(i * 500, PATIENCE_MS, waiting);
    });
  }

  test.each<[string, readonly ("windows" | number | undefined)[], readonly boolean[]]>([
    ["that opens no window", ["windows", "windows", "windows", "windows"], [false, false, true, true]],
    ["that takes nothing out of the socket", [7, 7, 7, 7], [false, false, true, true]],
    ["that took something long ago", [7, 8, 8, 8], [false, false, false, true]],
    ["but not while it takes", [1, 2, 3, 4, 5], [false, false, false, false, false]],
    ["but not while nothing waits", [undefined, undefined, undefined], [false, false, false]],
    [
      "only as long as something waits",
      ["windows", undefined, "windows", "windows"],
      [false, false, false, true],
    ],
    ["whatever it waits for", ["windows", 7, 7, "windows"], [false, false, false, true]],
  ])("%s", (_, waits, stalls) => {
    expect(stallsOf(waits)).toEqual(stalls);
  });

  test("but not while something moves", () => {
    const waits = Array<"windows">(10).fill("windows");
    const stalls = stallsOf(waits, (liveness, i) => {
      if (i < 6) liveness.moved();
    });
    expect(stalls).toEqual([...Array(7).fill(false), true, true, true]);
  });

  test("though it pings and asks for more", () => {
    const stalls = stallsOf(["windows", "windows", "windows"], (liveness, i) => {
      liveness.proved();
      liveness.took(i * 500, false, true);
    });
    expect(stalls).toEqual([false, false, true]);
  });
});
