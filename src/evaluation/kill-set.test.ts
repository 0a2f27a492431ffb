import { expect, test } from "vitest";
import { stateOf } from "../../test/support/flag-builders.ts";
import {
  afterPoll,
  afterReads,
  afterRows,
  type KillSet,
  type PolledKills,
  rememberKills,
  restoreKills,
} from "./kill-set.ts";
import type { Stamp } from "./version.ts";

const at = (revision: number): Stamp => ({ version: { epoch: "e", revision }, askedAt: revision });

function poll(revision: number, ...flagIds: string[]): PolledKills {
  return { flagIds: new Set(flagIds), overrides: [], stamp: at(revision), readAt: revision };
}

function killSet(revision: number, ...flagIds: string[]): KillSet {
  const first = afterPoll(undefined, poll(revision, ...flagIds));
  if (first === undefined) throw new Error("the first poll is always taken");
  return first;
}

const killed = (id: string) => [id, stateOf(id, { mode: "killed" })] as const;
const enabled = (id: string) => [id, stateOf(id)] as const;

test("a newer poll replaces the kill set, an older one changes nothing", () => {
  const current = killSet(5, "a");
  expect(afterPoll(current, poll(4))).toBeUndefined();
  expect([...(afterPoll(current, poll(6, "b"))?.flagIds ?? [])]).toEqual(["b"]);
});

test("a poll of the same version is taken: it is younger knowledge of the same state", () => {
  expect(afterPoll(killSet(5, "a"), { ...poll(5, "a"), readAt: 9 })?.readAt).toBe(9);
});

test("another epoch is taken whole, at any revision", () => {
  const restored = { ...poll(1, "z"), stamp: { version: { epoch: "f", revision: 1 }, askedAt: 9 } };
  expect([...(afterPoll(killSet(5, "a"), restored)?.flagIds ?? [])]).toEqual(["z"]);
});

test("a row newer than the kill set kills or revives its flag; an older one has no say", () => {
  const current = killSet(5, "a");
  expect([...(afterRows(current, [killed("b")], at(6))?.flagIds ?? [])]).toEqual(["a", "b"]);
  expect([...(afterRows(current, [enabled("a")], at(6))?.flagIds ?? [])]).toEqual([]);
  expect([...(afterRows(current, [["a", undefined]], at(6))?.flagIds ?? [])]).toEqual([]);
  expect(afterRows(current, [killed("b"), enabled("a")], at(4))).toBe(current);
});

test("what the poll itself said is kept beside it, whatever newer rows say, and across a restart", () => {
  let current = afterRows(killSet(5, "a"), [killed("b"), enabled("a")], at(6)) as KillSet;
  current = afterRows(current, [enabled("b")], at(7)) as KillSet;
  const restored = restoreKills(rememberKills(current, 0), 0);
  for (const { flagIds, polledIds } of [current, restored]) {
    expect([...flagIds]).toEqual([]);
    expect([...polledIds]).toEqual(["a"]);
  }
});

test("rows that agree with the kill set leave it as it is", () => {
  const current = killSet(5, "a");
  expect(afterRows(current, [killed("a"), enabled("b")], at(6))).toBe(current);
});

test("a poll between two rows keeps what the newer row said and drops what the older one said", () => {
  let current = afterRows(killSet(5), [killed("old")], at(6)) as KillSet;
  current = afterRows(current, [killed("new")], at(9)) as KillSet;
  expect([...(afterPoll(current, poll(7))?.flagIds ?? [])]).toEqual(["new"]);
  expect([...(afterPoll(current, poll(9))?.flagIds ?? [])]).toEqual([]);
});

test("an older row does not undo what a newer row said", () => {
  const current = afterRows(killSet(5), [killed("a")], at(9)) as KillSet;
  expect([...(afterRows(current, [enabled("a")], at(7))?.flagIds ?? [])]).toEqual(["a"]);
  expect([...(afterRows(current, [enabled("a")], at(10))?.flagIds ?? [])]).toEqual([]);
});

test("the rows of several reads say what they say one after the other", () => {
  const first = afterRows(killSet(5, "a"), [killed("b"), enabled("a")], at(9)) as KillSet;
  const second = afterRows(first, [killed("old")], at(4)) as KillSet;
  const third = afterRows(second, [enabled("b"), killed("c")], at(7)) as KillSet;
  expect([...third.flagIds]).toEqual(["b", "c"]);
  const reads = [
    [at(9), [killed("b"), enabled("a")]],
    [at(4), [killed("old")]],
    [at(7), [enabled("b"), killed("c")]],
  ] as const;
  expect(afterReads(killSet(5, "a"), reads)).toEqual(third);
});

test("rows alone do not make a kill set", () => {
  expect(afterRows(undefined, [killed("a")], at(6))).toBeUndefined();
});

test("without versions a row kills, but does not revive what the poll killed", () => {
  const asked = (askedAt: number): Stamp => ({ version: undefined, askedAt });
  const polled = afterPoll(undefined, { ...poll(0, "a"), stamp: asked(1) });
  const next = afterRows(polled, [enabled("a"), killed("b")], asked(2));
  expect([...(next?.flagIds ?? [])]).toEqual(["a", "b"]);
  const last = afterRows(next, [enabled("a"), enabled("b")], asked(3));
  expect([...(last?.flagIds ?? [])], "what a row killed, a row revives").toEqual(["a"]);
});
