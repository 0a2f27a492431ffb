import { expect, test } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { defineFlag, flagValue, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { size } from "../support/size.ts";
import { Link, Tier, type TierOptions } from "../support/tiers.ts";

// Fault 11, as followers that poll.

const FOLLOWERS = size(200, 1_000);
const STEADY_MS = 60_000;

test(`${FOLLOWERS} followers of a root that restarts never double its load, and are all back within a minute`, async () => {
  const clock = new FakeClock();
  const store = new MemoryStore();
  store.set(stateOf("a/1"));
  const options: TierOptions = { clock, table: tableOf(defineFlag("a/1")), random: seededRandom(3) };
  let root = new Tier(options, { kind: "store", store });
  /** When each call set out. */
  const calls: number[] = [];
  const links = Array.from({ length: FOLLOWERS }, () => {
    const link = new Link(root);
    link.onCall = () => calls.push(clock.now());
    return link;
  });
  const followers: Tier[] = [];
  for (const link of links) {
    followers.push(new Tier(options, { kind: "tiers", links: [link] }));
    await clock.advance(1_000 / FOLLOWERS);
  }
  await clock.advance(10_000);

  const steadyFrom = clock.now();
  await clock.advance(STEADY_MS);
  const steady = calls.filter((at) => at >= steadyFrom).length / (STEADY_MS / 1_000);

  for (const downMs of [2_000, 20_000]) {
    const downAt = clock.now();
    await root[Symbol.asyncDispose]();
    for (const link of links) link.to = undefined;
    await clock.advance(downMs);
    store.set(stateOf("a/1", { value: flagValue(`after ${downMs}`) }));
    root = new Tier(options, { kind: "store", store });
    for (const link of links) link.to = root;
    const upAt = clock.now();
    await clock.advance(60_000);

    const behind = await Promise.all(followers.map((follower) => follower.evaluate("a/1")));
    expect(behind.filter(({ value }) => value?.value.value !== `after ${downMs}`)).toEqual([]);
    expect(followers.filter(({ namespace }) => namespace.health.status !== "serving")).toEqual([]);
    const busiest = busiestSecond(calls.filter((at) => at >= downAt));
    expect(busiest.calls, `${busiest.at - upAt} ms after the return`).toBeLessThanOrEqual(2 * steady);
  }
  for (const tier of [...followers, root]) await tier[Symbol.asyncDispose]();
}, 300_000);

/** The second, wherever it begins, in which most calls set out. */
function busiestSecond(times: readonly number[]): { readonly at: number; readonly calls: number } {
  let busiest = { at: 0, calls: 0 };
  let from = 0;
  for (const [i, at] of times.entries()) {
    while ((times[from] ?? at) <= at - 1_000) from += 1;
    if (i - from + 1 > busiest.calls) busiest = { at: times[from] ?? at, calls: i - from + 1 };
  }
  return busiest;
}
