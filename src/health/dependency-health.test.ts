import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { type Dependency, DependencyHealth, type JudgedDependency } from "./dependency-health.ts";

const never = () => new Promise<string>(() => {});

test("a dependency that was never checked is unknown, not unhealthy", () => {
  const { health } = createHealth({ name: "database", check: never });
  expect(health.checks).toEqual([
    {
      name: "database",
      healthy: undefined,
      message: "not checked yet",
      latencyMs: undefined,
      checkedAt: undefined,
    },
  ]);
});

test("all are checked at once, side by side, and then every interval", async () => {
  let checks = 0;
  const { health, clock, stop } = createHealth(
    { name: "frozen", check: never },
    { name: "well", check: async () => `answered ${++checks}` },
    { name: "ill", check: () => Promise.reject(new Error("connection refused")) },
  );
  const running = health.run(stop.signal);
  await settle();
  expect(health.checks.map(({ healthy, message }) => [healthy, message])).toEqual([
    [undefined, "not checked yet"],
    [true, "answered 1"],
    [false, "connection refused"],
  ]);

  await clock.advance(5_000);
  expect(health.checks[0]).toMatchObject({
    healthy: false,
    message: "no answer within 5000 ms",
    latencyMs: 5_000,
  });
  await clock.advance(30_000);
  expect(health.checks[1]?.message).toBe("answered 2");
  stop.abort();
  await running;
  expect(clock.sleeperCount).toBe(0);
});

test("the wall clock may jump: latency does not", async () => {
  const clock = new FakeClock();
  const health = new DependencyHealth({
    dependencies: () => [
      {
        name: "database",
        check: async () => {
          clock.wallOffsetMs -= 3_600_000;
          return "ok";
        },
      },
    ],
    intervalMs: () => 1,
    timeoutMs: 1,
    clock,
  });
  await health.checkNow(new AbortController().signal);
  expect(health.checks[0]).toMatchObject({ healthy: true, latencyMs: 0 });
});

test("what has come since the last sweep is unknown, and what has gone is forgotten", async () => {
  const dependencies: Dependency[] = [{ name: "a", check: async () => "well" }];
  const own = new DependencyHealth({
    dependencies: () => dependencies,
    intervalMs: () => 1,
    timeoutMs: 1,
    clock: new FakeClock(),
  });
  const { signal } = new AbortController();
  await own.checkNow(signal);
  dependencies.splice(0, 1, { name: "b", check: async () => "fine" });
  expect(own.checks.map(({ name, healthy }) => [name, healthy])).toEqual([["b", undefined]]);
  await own.checkNow(signal);
  dependencies.push({ name: "a", check: never });
  expect(own.checks.map(({ name, healthy }) => [name, healthy])).toEqual([
    ["b", true],
    ["a", undefined],
  ]);
});

test("what is judged is judged whenever somebody looks, and never swept", () => {
  let reason: string | undefined = "the feed is broken";
  const { health, clock } = createHealth({
    name: "feed",
    judge() {
      if (reason !== undefined) throw new Error(reason);
      return "changes are told at once";
    },
  });
  expect(health.checks).toMatchObject([{ name: "feed", healthy: false, message: reason, latencyMs: 0 }]);
  reason = undefined;
  expect(health.checks).toMatchObject([
    { healthy: true, message: "changes are told at once", checkedAt: clock.wallNow() },
  ]);
});

test("a sweep can be asked for before its time, and while another is under way", async () => {
  let checks = 0;
  let hold: Promise<void> | undefined;
  let release = () => {};
  const { health, clock, stop } = createHealth({
    name: "database",
    async check() {
      await hold;
      return `answered ${++checks}`;
    },
  });
  const running = health.run(stop.signal);
  await settle();
  expect(checks).toBe(1);
  hold = new Promise((resolve) => {
    release = resolve;
  });
  health.sweepSoon();
  await settle();
  health.sweepSoon();
  release();
  await settle();
  expect(checks).toBe(3);
  await clock.advance(29_000);
  expect(checks).toBe(3);
  await clock.advance(1_000);
  expect(checks).toBe(4);
  stop.abort();
  await running;
});

function createHealth(...dependencies: (Dependency | JudgedDependency)[]) {
  const clock = new FakeClock();
  const health = new DependencyHealth({
    dependencies: () => dependencies,
    intervalMs: () => 30_000,
    timeoutMs: 5_000,
    clock,
  });
  return { health, clock, stop: new AbortController() };
}
