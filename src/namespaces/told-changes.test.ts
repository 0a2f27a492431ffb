import { expect, test } from "vitest";
import type { Version } from "../evaluation/version.ts";
import { ToldChanges } from "./told-changes.ts";

const at = (revision: number, epoch = "one"): Version => ({ epoch, revision });

/** What was asked for is written down, and happens when a test says so. */
function setUp() {
  const scene = { now: 10_000, known: at(5) as Version | undefined, asked: [] as string[] };
  const told = new ToldChanges({
    known: () => scene.known,
    look: () => void scene.asked.push("look"),
    lookAfterRest: () => void scene.asked.push("look after rest"),
    lookLater: () => void scene.asked.push("look later"),
    clock: { now: () => scene.now },
  });
  /** What was asked for meanwhile. */
  const during = (act: () => void) => {
    scene.asked = [];
    act();
    return scene.asked;
  };
  const poll = (brings: Version | undefined) => {
    told.pollBegins();
    scene.known = brings ?? scene.known;
    told.pollAnswered();
  };
  return { scene, told, during, poll };
}

test.each([
  { why: "it is known", version: at(5), asked: [] },
  { why: "an older one is known", version: at(4), asked: [] },
  { why: "it is news", version: at(6), asked: ["look after rest"] },
  { why: "it is of another epoch", version: at(1, "two"), asked: ["look after rest"] },
  { why: "it is not named", version: undefined, asked: ["look after rest"] },
])("a notice of a version has the store asked or not: $why", ({ version, asked }) => {
  const { told, during } = setUp();
  expect(during(() => told.notice({ version }))).toEqual(asked);
});

test("a kill does not wait for the rest, unless another one has not within 1.2 s", () => {
  const { scene, told, during } = setUp();
  const kill = (revision: number) => () => told.notice({ version: at(revision), isUrgent: true });
  expect(during(kill(6))).toEqual(["look"]);
  scene.now += 1_199;
  expect(during(kill(7))).toEqual(["look after rest"]);
  scene.now += 1;
  expect(during(kill(8))).toEqual(["look"]);
  scene.now += 1_199;
  expect(during(kill(9)), "counted from the last that did not wait").toEqual(["look after rest"]);
});

test("a poll is asked for the newest that notices told of, until it is seen or two seconds have passed", () => {
  const { scene, told, poll } = setUp();
  expect(told.wanted).toBeUndefined();
  told.notice({ version: at(8) });
  told.notice({ version: at(7) });
  told.notice({ version: at(90, "two") });
  expect(told.wanted).toEqual(at(8));
  poll(at(7));
  expect(told.wanted).toEqual(at(8));
  poll(at(8));
  expect(told.wanted).toBeUndefined();

  told.notice({ version: at(12) });
  scene.now += 1_999;
  expect(told.wanted).toEqual(at(12));
  scene.now += 1;
  expect(told.wanted).toBeUndefined();
});

test("what is told again is asked for once more, and not for another two seconds", () => {
  const { scene, told } = setUp();
  told.notice({ version: at(8) });
  scene.now += 1_990;
  told.notice({ version: at(8) });
  scene.now += 99;
  expect(told.wanted).toEqual(at(8));
  scene.now += 1;
  expect(told.wanted).toBeUndefined();
});

test("what is told once a newer one is given up is looked for, though it is older", () => {
  const { scene, told } = setUp();
  told.notice({ version: at(1_000_000) });
  scene.now += 2_000;
  told.notice({ version: at(6) });
  expect(told.wanted).toEqual(at(6));
});

test("of another epoch than the known one nothing is wanted any more", () => {
  const { scene, told } = setUp();
  told.notice({ version: at(8) });
  scene.known = at(1, "two");
  expect(told.wanted).toBeUndefined();
});

test("a poll that does not bring what it set out for is repeated, one that notices overtook is not", () => {
  const { told, during, poll } = setUp();
  told.notice({ version: at(8) });
  told.restEnds();
  expect(during(() => poll(at(7)))).toEqual(["look later"]);
  expect(during(() => told.lookAgain())).toEqual(["look"]);
  expect(during(() => poll(at(8)))).toEqual([]);
  expect(
    during(() => told.lookAgain()),
    "it is seen by now",
  ).toEqual([]);

  told.pollBegins();
  told.notice({ version: at(9) });
  expect(
    during(() => told.pollAnswered()),
    "it set out before that was told",
  ).toEqual([]);
});

test("while a poll is to come at the end of a rest, none is repeated before", () => {
  const { told, during, poll } = setUp();
  told.notice({ version: at(8) });
  expect(during(() => poll(at(7)))).toEqual(["look later"]);
  expect(during(() => told.lookAgain())).toEqual([]);
  expect(during(() => told.restEnds())).toEqual(["look"]);
  expect(during(() => told.lookAgain())).toEqual(["look"]);
});
