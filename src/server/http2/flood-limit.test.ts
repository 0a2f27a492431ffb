import { beforeEach, describe, expect, test } from "vitest";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { COST, FloodLimit } from "./flood-limit.ts";

let clock: FakeClock;
let limit: FloodLimit;

beforeEach(() => {
  clock = new FakeClock();
  limit = new FloodLimit(clock);
});

/** How many frames of this cost are taken one after the other, up to so many. */
function countTaken(cost: number, most = 100_000): number {
  for (let taken = 0; taken < most; taken++) if (!limit.spend(cost)) return taken;
  return most;
}

describe("what asks for nothing", () => {
  test.each([
    ["FRAME", 10_000],
    ["FUTILE", 1_000],
    ["REFUSED", 100],
  ] as const)("is taken so often at once: %s, %d times", (kind, times) => {
    expect(countTaken(COST[kind])).toBe(times);
    // And no more of it.
    expect(countTaken(COST[kind])).toBe(0);
  });

  test("is taken as often again as time allows", async () => {
    countTaken(COST.FUTILE);
    // The one that was too much is to be made up for, too.
    await clock.advance(10_000);
    expect(countTaken(COST.FUTILE)).toBe(329);
  });

  test("is taken forever if it comes slowly", async () => {
    for (let i = 0; i < 1_000; i++) {
      expect(countTaken(COST.FUTILE, 33)).toBe(33);
      await clock.advance(1_000);
    }
  });

  test("is not taken more often at once after a long rest", async () => {
    await clock.advance(3_600_000);
    // What was there, the one that finds that it was too little, and what has come since: no more than there may be.
    expect(countTaken(COST.FUTILE)).toBe(2_001);
  });

  test("is taken with answers in between, as many frames as go with one", () => {
    for (let i = 0; i < 10_000; i++) {
      expect(limit.spend(COST.FUTILE)).toBe(true);
      limit.answered();
    }
    expect(countTaken(COST.FUTILE)).toBe(1_000);
  });

  test("is not saved up for by answers", () => {
    for (let i = 0; i < 10_000; i++) limit.answered();
    expect(countTaken(COST.FUTILE)).toBe(1_000);
  });
});
