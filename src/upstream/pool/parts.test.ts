import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { DeadlineError } from "../transport/deadline.ts";
import { UpstreamError } from "../upstream-error.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { isWorthRetrying, retryDelayMs } from "./retry.ts";
import { RetryBudget } from "./retry-budget.ts";
import { ScoredList } from "./scored-list.ts";

const score = { initial: 1, min: -3, max: 3, success: 1, failure: -1 };

test("a score stays within its bounds, and 0 is enough to be usable", () => {
  const list = new ScoredList(score, ["a"]);
  expect(list.scoreOf("a")).toBe(1);
  for (let i = 0; i < 9; i += 1) list.up("a");
  expect(list.scoreOf("a")).toBe(3);
  for (let i = 0; i < 3; i += 1) list.down("a");
  expect([list.scoreOf("a"), list.isUsable("a")]).toEqual([0, true]);
  list.down("a");
  expect(list.isUsable("a")).toBe(false);
  for (let i = 0; i < 9; i += 1) list.down("a");
  expect(list.scoreOf("a")).toBe(-3);
});

test("who stays keeps its score, who comes gets the initial one, and who has left is not remembered", () => {
  const list = new ScoredList(score, ["a", "b"]);
  list.up("a");
  list.down("b");
  list.reconcile({ ...score, max: 1, initial: 0 }, ["a", "c"]);
  expect([list.scoreOf("a"), list.scoreOf("c")]).toEqual([1, 0]);
  list.down("b");
  list.reconcile(score, ["a", "b", "c"]);
  expect(list.scoreOf("b")).toBe(1);
});

test.each([
  [{ min: 0 }, "min must be below 0, got 0"],
  [{ max: -1, initial: -1 }, "max must be 0 or more, got -1"],
  [{ initial: 4 }, "initial must be from -3 to 3, got 4"],
  [{ success: 0 }, "success must be above 0, got 0"],
  [{ failure: 1 }, "failure must be below 0, got 1"],
  [{ initial: Number.NaN }, "initial must be from -3 to 3, got NaN"],
])("scores with %o are refused, and change nothing", (wrong, message) => {
  expect(() => new ScoredList({ ...score, ...wrong }, [])).toThrow(message);
  const list = new ScoredList(score, ["a"]);
  expect(() => list.reconcile({ ...score, ...wrong }, ["b"])).toThrow(RangeError);
  list.up("a");
  expect(list.scoreOf("a")).toBe(2);
});

test("a rate limiter lets a burst through at once, then one after the other", async () => {
  const clock = new FakeClock();
  const limiter = new RateLimiter({ requestsPerSecond: 10, burstSize: 3 }, clock);
  const take = (n: number) => Array.from({ length: n }, () => limiter.tryTake());
  expect(take(4)).toEqual([true, true, true, false]);
  await clock.advance(100);
  expect(take(2)).toEqual([true, false]);
  await clock.advance(60_000);
  expect(take(4)).toEqual([true, true, true, false]);
});

test("in no time span does a rate limiter let through more than its rate and its burst", async () => {
  const spans = fc.array(fc.integer({ min: 0, max: 500 }), { minLength: 1, maxLength: 100 });
  await fc.assert(
    fc.asyncProperty(
      spans,
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 9 }),
      async (waits, rate, burst) => {
        const clock = new FakeClock();
        const limiter = new RateLimiter({ requestsPerSecond: rate, burstSize: burst }, clock);
        const taken: number[] = [];
        for (const ms of waits) {
          await clock.advance(ms);
          while (limiter.tryTake()) taken.push(clock.now());
        }
        for (const [i, from] of taken.entries()) {
          for (const [j, to] of taken.entries()) {
            if (j < i) continue;
            expect(j - i + 1).toBeLessThanOrEqual(burst + ((to - from) * rate) / 1_000 + 1e-6);
          }
        }
      },
    ),
    { numRuns: 30 },
  );
});

test("a tenth of the calls may be retried, and a long good time saves up for ten at most", () => {
  const budget = new RetryBudget();
  while (budget.trySpend());
  let retries = 0;
  for (let i = 0; i < 1_000; i += 1) {
    budget.earn(0.1);
    if (budget.trySpend()) retries += 1;
  }
  expect(retries).toBe(100);
  for (let i = 0; i < 1_000; i += 1) budget.earn(0.1);
  retries = 0;
  while (budget.trySpend()) retries += 1;
  expect(retries).toBe(10);
});

test("waits grow up to the longest, give or take a tenth", () => {
  const { retry } = upstreamSettings({ name: "a" });
  expect([0, 1, 2, 3, 9].map((n) => retryDelayMs(retry, n, 0.5))).toEqual([25, 50, 100, 100, 100]);
  expect(retryDelayMs(retry, 0, 0)).toBeCloseTo(22.5);
  expect(retryDelayMs(retry, 0, 1)).toBeCloseTo(27.5);
});

test.each([
  [new UpstreamError("unavailable", ""), true],
  [new UpstreamError("deadline_exceeded", ""), true],
  [new UpstreamError("resource_exhausted", ""), true],
  [new UpstreamError("connection", ""), true],
  [new UpstreamError("answer", ""), true],
  [new DeadlineError(""), true],
  [new UpstreamError("unauthenticated", ""), false],
  [new UpstreamError("internal", ""), false],
  [new UpstreamError("invalid_argument", ""), false],
  [new Error("ours"), false],
])("whether to ask again after %s", (error, expected) => {
  expect(isWorthRetrying(error)).toBe(expected);
});
