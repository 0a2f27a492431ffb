import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { Readiness } from "../namespaces/readiness.ts";
import { firstAnswers } from "./first-answers.ts";

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
