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

function startPoller({ random = () => 0.5 }: { random?: () => number } = {}) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const alarm = new Alarm(clock);
  const stop = new AbortController();
  const seen: string[][] = [];
  const changed: (readonly string[] | undefined)[] = [];
  let version: Version | undefined;
  const health = { failuresInARow: 0 };
  const counting = {
    kills: (since: Version | undefined) =>
      store.kills(since).then(
        (answer) => {
          health.failuresInARow = 0;
          return answer;
        },
        (error: unknown) => {
          health.failuresInARow += 1;
          throw error;
        },
      ),
  };
  const done = pollKills(
    {
      store: counting,
      health,
      knownVersion: () => version,
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
    async [Symbol.asyncDispose]() {
      stop.abort();
      await done;
    },
  };
}
