import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { stateOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import type { Version } from "../evaluation/version.ts";
import { Alarm } from "../system/alarm.ts";
import { pollKills } from "./kill-poller.ts";

const INTERVAL = 30_000;

test("polls at once, then every interval, and tells what it knows already", async () => {
  await using poller = startPoller();
  await settle();
  expect(poller.seen).toEqual([[]]);
  poller.store.set(stateOf("a/1", { mode: "killed" }));
  await poller.clock.advance(INTERVAL - 1);
  expect(poller.seen).toHaveLength(1);
  await poller.clock.advance(1);
  expect(poller.seen).toEqual([[], ["a/1"]]);
  expect(poller.changed).toEqual([undefined, ["a/1"]]);
});

test("a poll that fails tells nothing, and the store's return is noticed within five seconds", async () => {
  await using poller = startPoller();
  await settle();
  poller.store.away = true;
  await poller.clock.advance(600_000);
  expect(poller.seen).toHaveLength(1);
  const asked = poller.store.countCalls("kills");

  await poller.clock.advance(5_000);
  expect(poller.store.countCalls("kills")).toBeGreaterThan(asked);
  poller.store.away = false;
  await poller.clock.advance(5_000);
  expect(poller.seen.length).toBeGreaterThan(1);
});

test("the probes of a store that is away grow apart, with jitter, up to less than five seconds", async () => {
  for (const random of [0, 1]) {
    await using poller = startPoller({ random: () => random });
    poller.store.away = true;
    await settle();
    await poller.clock.advance(120_000);
    const before = poller.store.countCalls("kills");
    await poller.clock.advance(48_000);
    expect(poller.store.countCalls("kills") - before).toBeGreaterThanOrEqual(10);
    expect(poller.store.countCalls("kills") - before).toBeLessThanOrEqual(16);
  }
});

test("the alarm makes it poll at once", async () => {
  await using poller = startPoller();
  await settle();
  poller.alarm.ring();
  await settle();
  expect(poller.seen).toHaveLength(2);
});

test("it ends with its signal, also while a poll is on its way", async () => {
  const poller = startPoller();
  await settle();
  await poller[Symbol.asyncDispose]();
  expect(poller.clock.sleeperCount).toBe(0);
});

test("an answer that was old when it came is asked again the earlier, but not without a pause", async () => {
  await using poller = startPoller();
  poller.answersAreOld(INTERVAL * 0.7);
  poller.alarm.ring();
  await settle();
  const before = poller.seen.length;
  await poller.clock.advance(INTERVAL * 0.3 - 1);
  expect(poller.seen.length).toBe(before);
  await poller.clock.advance(2);
  expect(poller.seen.length).toBe(before + 1);

  poller.answersAreOld(INTERVAL * 5);
  await poller.clock.advance(INTERVAL * 0.3 - 1);
  const after = poller.seen.length;
  await poller.clock.advance(INTERVAL * 0.1 - 1);
  expect(poller.seen.length).toBe(after);
  await poller.clock.advance(2);
  expect(poller.seen.length).toBe(after + 1);
});

test("asks for what somebody waits for, and says when a poll begins and ends, however it ends", async () => {
  await using poller = startPoller();
  await settle();
  poller.want({ epoch: "epoch-1", revision: 4 });
  poller.store.away = true;
  poller.alarm.ring();
  await settle();
  expect(poller.wanted.at(-1)).toEqual({ epoch: "epoch-1", revision: 4 });
  expect(poller.polls).toEqual(["begins", "ends", "begins", "ends"]);
});

function startPoller({ random = () => 0.5 }: { random?: () => number } = {}) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const alarm = new Alarm(clock);
  const stop = new AbortController();
  const seen: string[][] = [];
  const changed: (readonly string[] | undefined)[] = [];
  let version: Version | undefined;
  const health = { failuresInARow: 0 };
  let ageMs = 0;
  let wish: Version | undefined;
  const wanted: (Version | undefined)[] = [];
  const polls: string[] = [];
  const counting = {
    kills: (since: Version | undefined, atLeast?: Version) =>
      store
        .kills(since)
        .then(
          (answer) => {
            health.failuresInARow = 0;
            return { ...answer, ageMs };
          },
          (error: unknown) => {
            health.failuresInARow += 1;
            throw error;
          },
        )
        .finally(() => wanted.push(atLeast)),
  };
  const done = pollKills(
    {
      store: counting,
      health,
      knownVersion: () => version,
      wantedVersion: () => wish,
      onPollBegins: () => polls.push("begins"),
      onPollEnds: () => polls.push("ends"),
      onKills(answer) {
        version = answer.version;
        seen.push([...answer.value.flagIds]);
        changed.push(answer.value.changes.kind === "listed" ? answer.value.changes.flagIds : undefined);
      },
      alarm,
      intervalMs: INTERVAL,
      jitter: 0.2,
      clock,
      random,
    },
    stop.signal,
  );
  return {
    clock,
    store,
    alarm,
    seen,
    changed,
    wanted,
    polls,
    want(next: Version) {
      wish = next;
    },
    answersAreOld(ms: number) {
      ageMs = ms;
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}
