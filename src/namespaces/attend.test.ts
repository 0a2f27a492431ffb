import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { Alarm } from "../system/alarm.ts";
import { attend } from "./attend.ts";

test("acts at once, then rests; what rings meanwhile is attended to once, after the rest", async () => {
  const clock = new FakeClock();
  const alarm = new Alarm(clock);
  const stop = new AbortController();
  const actedAt: number[] = [];
  const attending = attend(
    { alarm, act: () => actedAt.push(clock.now()), restMs: 1_000, clock },
    stop.signal,
  );
  await clock.advance(5_000);
  expect(actedAt).toEqual([]);
  alarm.ring();
  await settle();
  expect(actedAt).toEqual([5_000]);
  alarm.ring();
  alarm.ring();
  await clock.advance(999);
  expect(actedAt).toHaveLength(1);
  await clock.advance(1);
  expect(actedAt).toEqual([5_000, 6_000]);
  await clock.advance(5_000);
  expect(actedAt).toHaveLength(2);
  stop.abort();
  await attending;
  expect(clock.sleeperCount).toBe(0);
});

test("an act that rings its own alarm is not repeated without end", async () => {
  const clock = new FakeClock();
  const alarm = new Alarm(clock);
  const stop = new AbortController();
  let acts = 0;
  const act = () => {
    acts += 1;
    alarm.ring();
  };
  const attending = attend({ alarm, act, restMs: 1_000, clock }, stop.signal);
  alarm.ring();
  await settle();
  await clock.advance(10_000);
  expect(acts).toBe(11);
  stop.abort();
  await attending;
});

test("waits before it acts, where it is told to, unless it is to end", async () => {
  const clock = new FakeClock();
  const alarm = new Alarm(clock);
  const stop = new AbortController();
  const actedAt: number[] = [];
  const act = () => actedAt.push(clock.now());
  const attending = attend({ alarm, act, restMs: 1_000, delayMs: () => 300, clock }, stop.signal);
  alarm.ring();
  await settle();
  await clock.advance(299);
  expect(actedAt).toEqual([]);
  await clock.advance(2_000);
  expect(actedAt).toEqual([300]);
  alarm.ring();
  await settle();
  stop.abort();
  await attending;
  expect([actedAt.length, clock.sleeperCount]).toEqual([1, 0]);
});
