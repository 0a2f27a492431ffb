import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { backoffMultiplier, HealthTracker } from "./health-tracker.ts";

test("connecting until the first contact, serving after a success, degraded after three failures in a row", async () => {
  const clock = new FakeClock();
  const health = new HealthTracker(clock);
  expect([health.status, health.msSinceSuccess]).toEqual(["connecting", undefined]);
  health.recordFailure();
  health.recordFailure();
  expect(health.status).toBe("connecting");
  health.recordFailure();
  expect(health.status).toBe("degraded");
  health.recordSuccess();
  await clock.advance(1_500);
  expect([health.status, health.failuresInARow, health.msSinceSuccess]).toEqual(["serving", 0, 1_500]);
});

test("no contact ages by the monotonic clock, whatever the wall clock does", async () => {
  const clock = new FakeClock();
  const health = new HealthTracker(clock);
  health.recordSuccess();
  clock.wallOffsetMs += 3_600_000;
  expect(health.msSinceSuccess).toBe(0);
  clock.wallOffsetMs -= 7_200_000;
  expect(health.msSinceSuccess).toBe(0);
});

test("the multiplier follows the failures in a row", () => {
  const multipliers = [0, 1, 2, 3, 4, 5, 6, 100].map(backoffMultiplier);
  expect(multipliers).toEqual([1, 2, 2, 4, 4, 4, 8, 8]);
});
