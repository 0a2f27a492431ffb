import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { Alarm } from "./alarm.ts";

test("a wait ends after its time, when the alarm rings, or when the signal aborts", async () => {
  const clock = new FakeClock();
  const alarm = new Alarm(clock);
  const stop = new AbortController();
  const ended: string[] = [];

  void alarm.wait(100, stop.signal).then(() => ended.push("time"));
  await clock.advance(99);
  expect(ended).toEqual([]);
  await clock.advance(1);
  expect(ended).toEqual(["time"]);

  void alarm.wait(100, stop.signal).then(() => ended.push("rung"));
  alarm.ring();
  await settle();
  expect(ended).toEqual(["time", "rung"]);

  void alarm.wait(100, stop.signal).then(() => ended.push("stopped"));
  stop.abort();
  await settle();
  expect(ended).toEqual(["time", "rung", "stopped"]);
  expect(clock.sleeperCount).toBe(0);
});

test("an alarm that rang while nobody waited ends the next wait at once, and only that one", async () => {
  const clock = new FakeClock();
  const alarm = new Alarm(clock);
  const { signal } = new AbortController();
  alarm.ring();
  alarm.ring();
  await alarm.wait(100, signal);
  const ended: string[] = [];
  void alarm.wait(100, signal).then(() => ended.push("time"));
  await clock.advance(99);
  expect(ended).toEqual([]);
  await clock.advance(1);
  expect(ended).toEqual(["time"]);
});
