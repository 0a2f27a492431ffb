import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { settle } from "../../../test/support/fake-clock.ts";
import { Followers } from "./followers.ts";

/** A namespace of which a test decides when it has learnt something. */
function setUp() {
  let learn: () => void = () => {};
  const counts: number[] = [];
  const done: string[] = [];
  const stop = new AbortController();
  const followers = new Followers({
    namespace: {
      onKnowledge(listener) {
        learn = listener;
        return () => {};
      },
    },
    *takeIn() {
      done.push("taken in");
      yield undefined;
    },
    stopping: stop.signal,
    onCount: (count) => counts.push(count),
  });
  return { followers, counts, done, learn: () => learn(), stop: () => stop.abort() };
}

test("all look when there is news, after whoever learnt it has done, and after it was taken in", async () => {
  const { followers, done, learn } = setUp();
  followers.join(() => done.push("a"));
  followers.join(() => done.push("b"));
  learn();
  done.push("learnt");
  await settle();
  expect(done).toEqual(["learnt", "taken in", "a", "b"]);
});

test("all look when the daemon stops", async () => {
  const { followers, done, stop } = setUp();
  followers.join(() => done.push("a"));
  followers.join(() => done.push("b"));
  stop();
  await settle();
  expect(done).toEqual(["taken in", "a", "b"]);
});

test("who asks looks, and nobody else", async () => {
  const { followers, done } = setUp();
  const seat = followers.join(() => done.push("a"));
  followers.join(() => done.push("b"));
  seat.ask();
  seat.ask();
  expect(done).toEqual([]);
  await settle();
  expect(done).toEqual(["taken in", "a"]);
});

test("who always has something to look for does not keep the others, nor the rest of the process, from their turn", async () => {
  const { followers, done } = setUp();
  let looks = 0;
  const seat = followers.join(() => {
    looks += 1;
    seat.ask();
  });
  seat.ask();
  for (let i = 0; i < 10; i += 1) await setImmediate();
  // Once in each turn of the event loop.
  expect([looks > 1, looks < 20]).toEqual([true, true]);
  followers.join(() => done.push("other")).ask();
  await settle();
  expect(done).toContain("other");
  seat.leave();
});

test("what is learnt while they look is looked at once more, however often that is", async () => {
  const { followers, learn } = setUp();
  let looks = 0;
  followers.join(() => {
    looks += 1;
    if (looks === 1) for (let i = 0; i < 100; i += 1) learn();
  });
  learn();
  await settle();
  expect(looks).toBe(2);
});

test("who leaves does not look any more, and is not counted", async () => {
  const { followers, counts, learn } = setUp();
  let looks = 0;
  const look = () => void (looks += 1);
  const seat = followers.join(look);
  const other = followers.join(look);
  seat.leave();
  seat.leave();
  learn();
  seat.ask();
  await settle();
  expect(looks).toBe(1);
  learn();
  other.leave();
  await settle();
  expect(looks).toBe(1);
  expect(counts).toEqual([1, 2, 1, 0]);
});
