import { expect, test } from "vitest";
import type { Version } from "../evaluation/version.ts";
import { CatchUp } from "./catch-up.ts";

const at = (revision: number, epoch = "one"): Version => ({ epoch, revision });

function setUp() {
  const scene = { known: undefined as Version | undefined, polls: 0 };
  const catchUp = new CatchUp({
    known: () => scene.known,
    poll: () => {
      scene.polls += 1;
    },
  });
  const poll = (brings: Version | undefined) => {
    catchUp.pollBegins();
    scene.known = brings ?? scene.known;
    catchUp.pollEnds();
  };
  return { scene, catchUp, poll, never: new AbortController().signal };
}

test("does not wait for what is known, and waits for the poll that brings what is not", async () => {
  const { scene, catchUp, poll, never } = setUp();
  scene.known = at(5);
  expect(await catchUp.wait(at(5), never)).toBe(true);
  expect(scene.polls).toBe(0);

  const waiting = [catchUp.wait(at(7), never), catchUp.wait(at(9), never), catchUp.wait(at(8), never)];
  expect(catchUp.wanted).toEqual(at(9));
  poll(at(8));
  expect(await Promise.all(waiting)).toEqual([true, false, true]);
  expect(catchUp.wanted).toBeUndefined();
});

test("a poll that had begun before does not count, unless it brings what is waited for", async () => {
  const { scene, catchUp, poll, never } = setUp();
  catchUp.pollBegins();
  const waiting = [catchUp.wait(at(7), never), catchUp.wait(at(9), never)];
  scene.known = at(7);
  catchUp.pollEnds();
  expect(await waiting[0]).toBe(true);
  poll(at(9));
  expect(await waiting[1]).toBe(true);
});

test("another epoch is not waited for beyond one poll, and an aborted wait leaves nothing", async () => {
  const { scene, catchUp, poll } = setUp();
  scene.known = at(50);
  const stop = new AbortController();
  const waiting = [catchUp.wait(at(1, "two"), stop.signal)];
  poll(at(51));
  expect(await waiting[0]).toBe(false);

  const given = catchUp.wait(at(60), stop.signal);
  stop.abort();
  expect(await given).toBe(false);
  expect(catchUp.wanted).toBeUndefined();
  expect(await catchUp.wait(at(60), stop.signal)).toBe(false);
});
