import { expect, test } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { Link, Tier, type TierOptions } from "../support/tiers.ts";

const table = tableOf(defineFlag("a/1"), defineFlag("a/2"));
const MINUTE = 60_000;

/** root ← middle ← edge, all warm. */
async function openThree(ttls: TierOptions["ttls"] = {}) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  store.set(stateOf("a/1"));
  store.setOverride(overrideOf("a/1", "ann"));
  const options = { clock, table, ttls: { jitter: 0, ...ttls } };
  const root = new Tier(options, { kind: "store", store });
  const link = new Link(root);
  const middle = new Tier(options, { kind: "tiers", links: [link] });
  const edge = new Tier(options, { kind: "tiers", links: [new Link(middle)] });
  await clock.advance(5_000);
  return {
    clock,
    store,
    root,
    /** From the middle to the root. */
    link,
    middle,
    edge,
    async [Symbol.asyncDispose]() {
      for (const tier of [edge, middle, root]) await tier[Symbol.asyncDispose]();
    },
  };
}

test("times to live do not add up over tiers: a value that changed is in force at the edge within one", async () => {
  for (const offsetMs of [0, 7_000, 15_000, 29_000]) {
    await using three = await openThree();
    await three.clock.advance(offsetMs);
    three.store.set(stateOf("a/1", { value: flagValue("hourly") }));
    await three.clock.advance(30_000 + 2_000);
    expect((await three.edge.evaluate("a/1")).value).toEqual(flagValue("hourly"));
  }
});

test("without versions, values and overrides at the edge are no older than two times to live, as in one tier", async () => {
  const clock = new FakeClock();
  const store = new MemoryStore();
  store.versioned = false;
  store.set(stateOf("a/1"));
  const options = { clock, table, ttls: { jitter: 0, flagTtlMs: MINUTE } };
  await using root = new Tier(options, { kind: "store", store });
  await using middle = new Tier(options, { kind: "tiers", links: [new Link(root)] });
  await using edge = new Tier(options, { kind: "tiers", links: [new Link(middle)] });
  await clock.advance(10 * MINUTE);
  for (let i = 0; i < 300; i += 1) {
    await clock.advance(1_000);
    expect(edge.namespace.stateAgeMs).toBeLessThanOrEqual(MINUTE + 1_000);
  }
});

test("a kill and a revive each take one poll interval at most, however many tiers there are", async () => {
  await using three = await openThree();
  for (const mode of ["killed", "enabled", "killed", "enabled"] as const) {
    three.store.set(stateOf("a/1", { mode }));
    await three.clock.advance(30_000 + 1_000);
    expect((await three.edge.evaluate("a/1")).source).toBe(mode === "killed" ? "killed" : "global");
  }
});

test("what the root cannot tell is not told as absent by the tiers behind it", async () => {
  await using three = await openThree();
  three.root.storeAway = true;
  await three.clock.advance(MINUTE);
  // Known to nobody: the edge asks the middle, the middle the root.
  const asked = three.edge.evaluate("a/1", "stranger");
  const told = three.middle.namespace.overrideRows(["stranger"]);
  await three.clock.advance(1_000);
  expect((await asked).source).toBe("global");
  expect(await told).toEqual([{ kind: "unknown" }]);
});

test("while the root is away the middle goes on telling what it knows, and the edge does not fail", async () => {
  await using three = await openThree();
  await three.edge.evaluate("a/1", "ann");
  three.root.storeAway = true;
  await three.clock.advance(30 * MINUTE);
  // The middle answers: what the edge has is as new as can be had, and says that it is old.
  expect((await three.edge.evaluate("a/1", "ann")).source).toBe("stale");
  expect((await three.edge.evaluate("a/1")).value).toEqual(flagValue("weekly"));
  three.root.storeAway = false;
  await three.clock.advance(10_000);
  expect((await three.edge.evaluate("a/1")).source).toBe("global");
});

test("another database behind the root is taken up by all tiers", async () => {
  await using three = await openThree();
  for (let i = 0; i < 5; i += 1) three.store.set(stateOf("a/1", { value: flagValue(`value ${i}`) }));
  await three.clock.advance(MINUTE);
  three.store.restore("epoch-2", 3);
  await three.clock.advance(2 * MINUTE);
  expect((await three.edge.evaluate("a/1")).value).toEqual(flagValue("value 1"));
  expect(three.edge.namespace.killSet.value?.stamp.version?.epoch).toBe("epoch-2");
});

test("after two outages within a minute, what has changed is read with the first poll, and so is whoever was not known", async () => {
  const killTtlMs = 10_000;
  await using three = await openThree({ killTtlMs });
  const { clock, store, link, middle } = three;
  const breaker = () => middle.pool?.upstreams[0]?.breaker;
  await middle.evaluate("a/1", "ann");
  let strangers = 0;
  const comeAndGo = async () => {
    link.cut = true;
    for (let ms = 0; ms < 6_000; ms += 50) {
      void middle.evaluate("a/1", `stranger-${(strangers += 1)}`);
      await clock.advance(50);
    }
    expect(breaker()).toBe("open");
    link.cut = false;
  };
  await comeAndGo();
  await clock.advance(8_000);
  expect(breaker()).toBe("closed");
  await comeAndGo();
  store.setOverride(overrideOf("a/1", "ann", { value: flagValue("hourly") }));
  store.setOverride(overrideOf("a/1", "eve", { value: flagValue("yearly") }));
  await clock.advance(killTtlMs);
  expect(breaker(), "only now and then checks close it").toBe("open");
  expect(await middle.evaluate("a/1", "ann")).toMatchObject({
    source: "override",
    value: flagValue("hourly"),
  });
  const asked = middle.evaluate("a/1", "eve");
  await clock.advance(1);
  expect(await asked).toMatchObject({ source: "override", value: flagValue("yearly") });
});
