import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { DependencyHealth } from "../health/dependency-health.ts";
import { Readiness } from "../namespaces/readiness.ts";
import { firstAnswers, keepChecking } from "./first-answers.ts";

test("what can wait begins as soon as the namespace is ready", async () => {
  const { readiness, hasBegun } = wait();
  await settle();
  expect(hasBegun()).toBe(false);
  readiness.reach();
  await settle();
  expect(hasBegun()).toBe(true);
});

test("a store that does not answer holds it up for half a second", async () => {
  const { clock, hasBegun } = wait();
  await clock.advance(499);
  expect(hasBegun()).toBe(false);
  await clock.advance(1);
  expect(hasBegun()).toBe(true);
});

test("it does not hold up the end", async () => {
  const { stop, hasBegun } = wait();
  stop.abort();
  await settle();
  expect(hasBegun()).toBe(true);
});

test("the dependencies are checked once where the namespace is ready in time", async () => {
  const { clock, readiness, checks, end } = check();
  await settle();
  expect(checks()).toBe(0);
  readiness.reach();
  await settle();
  expect(checks()).toBe(1);
  await clock.advance(9_999);
  expect(checks()).toBe(1);
  await clock.advance(1);
  expect(checks()).toBe(2);
  await end();
});

test("they are checked again when it becomes ready later", async () => {
  const { clock, readiness, checks, end } = check();
  await clock.advance(500);
  expect(checks()).toBe(1);
  readiness.reach();
  await settle();
  expect(checks()).toBe(2);
  await end();
});

test("they are not checked at the end", async () => {
  const { checks, end } = check();
  await end();
  expect(checks()).toBe(0);
});

function check() {
  const clock = new FakeClock();
  const readiness = new Readiness();
  const stop = new AbortController();
  let checks = 0;
  const health = new DependencyHealth({
    dependencies: () => [{ name: "database", check: async () => `check ${++checks}` }],
    intervalMs: () => 10_000,
    timeoutMs: 1_000,
    clock,
  });
  const namespace = {
    get ready() {
      return readiness.reached;
    },
    whenReady: (signal: AbortSignal) => readiness.wait(signal),
  };
  const checking = keepChecking(health, namespace, { clock, signal: stop.signal });
  return {
    clock,
    readiness,
    checks: () => checks,
    end: async () => {
      stop.abort();
      await checking;
    },
  };
}

function wait() {
  const clock = new FakeClock();
  const readiness = new Readiness();
  const stop = new AbortController();
  let hasBegun = false;
  const namespace = { whenReady: (signal: AbortSignal) => readiness.wait(signal) };
  const begin = async () => {
    await firstAnswers(namespace, { clock, signal: stop.signal });
    hasBegun = true;
  };
  void begin();
  return { clock, readiness, stop, hasBegun: () => hasBegun };
}
