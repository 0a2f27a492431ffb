import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { type Dependency, DependencyHealth } from "./dependency-health.ts";

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

function createHealth(...dependencies: Dependency[]) {
  const clock = new FakeClock();
  const health = new DependencyHealth({
    dependencies: () => dependencies,
    intervalMs: () => 30_000,
    timeoutMs: 5_000,
    clock,
  });
  return { health, clock, stop: new AbortController() };
}
