import { expect, test } from "vitest";
import { settle } from "../../../test/support/fake-clock.ts";
import { Followers } from "./followers.ts";

/** A namespace of which a test decides when it has learnt something. */
function setUp() {
  let learn: () => void = () => {};
  const counts: number[] = [];
  const followers = new Followers({
    namespace: {
      onKnowledge(listener) {
        learn = listener;
        return () => {};
      },
    },
    onCount: (count) => counts.push(count),
  });
  return { followers, counts, learn: () => learn() };
}

test("all look when there is news, after whoever learnt it has done", async () => {
  const { followers, learn } = setUp();
  const looked: string[] = [];
  followers.join(() => looked.push("a"));
  followers.join(() => looked.push("b"));
  learn();
  looked.push("learnt");
  await settle();
  expect(looked).toEqual(["learnt", "a", "b"]);
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
  const leave = followers.join(look);
  const leaveAgain = followers.join(look);
  leave();
  leave();
  learn();
  await settle();
  expect(looks).toBe(1);
  leaveAgain();
  expect(counts).toEqual([1, 2, 1, 0]);
});
