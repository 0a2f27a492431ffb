import { expect, test } from "vitest";
import { settle } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { KILL_TTL, World, type WorldOptions } from "../../test/support/namespace-world.ts";

const TTL = 300_000;
const weekly = flagValue("weekly");
const table = tableOf(defineFlag("digest/1"), defineFlag("digest/2", { layer: "" }));

test("a poll that was read before a row and delivered after it does not undo what the row said", async () => {
  await using world = open();
  await world.wait(0);
  world.become({ holds: "after", of: ["kills"] });
  await world.commit((store) => store.set(stateOf("old/1", { mode: "killed", archived: true })));
  await world.waitForHeld();
  await world.commit((store) => store.set(stateOf("old/1", { archived: true })));
  const revived = { value: weekly, source: "archived" };
  expect(await world.namespace.evaluate("old/1", "")).toEqual(revived);
  await world.deliver(0);
  expect(await world.namespace.evaluate("old/1", "")).toEqual(revived);
});

test("a row that was overtaken by a newer one does not kill", async () => {
  await using world = open({ flagTtlMs: 0 });
  await world.wait(0);
  world.become({ holds: "after", of: ["flagStates"] });
  await world.commit((store) => store.set(stateOf("digest/1", { mode: "killed" })));
  const overtaken = world.namespace.evaluate("digest/1", "");
  await settle();
  world.become({});
  await world.commit((store) => store.set(stateOf("digest/1")));
  const revived = { value: weekly, source: "global" };
  expect(await world.namespace.evaluate("digest/1", "")).toEqual(revived);
  await world.deliver(0);
  await overtaken;
  expect(await world.namespace.evaluate("digest/1", "")).toEqual(revived);
});

test("what the store before a restore said is not believed for a time to live", async () => {
  await using world = open();
  await world.commit((store) => store.setOverride(overrideOf("digest/1", "ann")));
  await world.wait(0);
  world.become({ holds: "after", of: ["overrides"] });
  await world.wait(KILL_TTL * 0.9);
  const asked = world.namespace.evaluate("digest/1", "ann");
  await settle();
  world.become({});
  await world.restore(1);
  // Whoever asks for a row hears of the other epoch, and the kill set is read again.
  await world.namespace.evaluate("old/1", "");
  await world.quiet();
  await world.deliver(0);
  await asked;
  await world.quiet();
  expect((await world.namespace.evaluate("digest/1", "ann")).source).toBe("default");
});

test("what a store said that was not yet the other one is not believed either, though it was asked later", async () => {
  await using world = open();
  await world.commit((store) => store.setOverride(overrideOf("digest/1", "ann")));
  await world.wait(0);
  world.become({ holds: "before", of: ["kills"] });
  await world.waitForHeld();
  world.become({ holds: "after", of: ["overrides"] });
  await world.commit(() => {});
  const asked = world.namespace.evaluate("digest/1", "ann");
  await settle();
  await world.commit((store) => store.restore("restored", 1));
  world.become({});
  await world.deliver(0);
  await world.deliver(0);
  expect((await asked).source).toBe("override");
  await world.quiet();
  expect((await world.namespace.evaluate("digest/1", "ann")).source).toBe("default");
});

test("after a revive no request waits, and none is answered from before it by a replica that lags", async () => {
  await using world = open();
  await world.commit((store) => store.set(stateOf("digest/1")));
  await world.commit((store) => store.set(stateOf("digest/1", { mode: "killed" })));
  await world.wait(KILL_TTL * 1.25);
  await world.commit((store) => store.set(stateOf("digest/1", { value: flagValue("hourly") })));
  world.become({ commitsBehind: 2, of: ["flagStates"] });
  await world.wait(KILL_TTL * 1.25);
  const { value, source } = await world.namespace.evaluate("digest/1", "");
  expect({ value, source }, "the replica still has the value from before the kill").toEqual({
    value: flagValue("daily"),
    source: "default",
  });
  world.become({});
  await world.wait(KILL_TTL * 1.25);
  expect(world.namespace.evaluate("digest/1", "")).toEqual({ value: flagValue("hourly"), source: "global" });
});

test("after a revive nobody is answered with the value from before the kill, also without versions", async () => {
  await using world = open({ versioned: false });
  await world.commit((store) => store.set(stateOf("digest/1")));
  await world.wait(TTL);
  await world.commit((store) => store.set(stateOf("digest/1", { mode: "killed" })));
  await world.wait(KILL_TTL * 1.25);
  await world.commit((store) => store.set(stateOf("digest/1", { value: flagValue("hourly") })));
  world.become({ holds: "after", of: ["flagStates"] });
  await world.waitForHeld();
  const asked = world.namespace.evaluate("digest/1", "");
  expect(asked).toBeInstanceOf(Promise);
  await world.deliver(0);
  expect(await asked).toEqual({ value: flagValue("hourly"), source: "global" });
});

test.each(["kills", "flagStates", "overrides"] as const)(
  "a store that fails %s alone is neither asked without end nor believed lost for the rest",
  async (operation) => {
    await using world = open();
    await world.commit((store) => store.set(stateOf("digest/1")));
    await world.wait(KILL_TTL * 1.25);
    await world.namespace.evaluate("digest/1", "ann");
    world.become({ fails: true, of: [operation] });
    const before = world.store.calls.length;
    for (let second = 0; second < 600; second++) {
      await world.wait(1_000);
      expect((await world.namespace.evaluate("digest/1", "ann")).value).toEqual(weekly);
    }
    expect(world.store.calls.length - before).toBeLessThan(600 * 6);
  },
);

test("what expired during an outage is fresh again within seconds of its end, though nobody asked for it", async () => {
  await using world = open({ versioned: false });
  await world.commit((store) => store.setOverride(overrideOf("digest/1", "ann")));
  await world.namespace.evaluate("digest/1", "ann");
  world.become({ away: true });
  await world.wait(2 * TTL);
  expect((await world.namespace.evaluate("digest/1", "ann")).source).toBe("cached");
  world.become({});
  await world.wait(5_000);
  expect(world.namespace.evaluate("digest/1", "ann")).toMatchObject({ source: "override" });
});

test("flags that the descriptors no longer define are remembered only while there is room", async () => {
  const many = tableOf(...Array.from({ length: 10_050 }, (_, i) => defineFlag(`many/${i + 1}`)));
  await using world = open({ table: many });
  await world.commit((store) => {
    for (const { id } of many.flags) store.set(stateOf(id));
  });
  await world.wait(KILL_TTL * 1.25);
  expect(world.namespace.cachedFlagCount).toBe(10_050);
  await world.reload(table);
  expect(world.namespace.cachedFlagCount).toBe(10_000);
});

test("what is handed on with a version holds at it, though a poll arrives just then that says it has changed", async () => {
  for (let turns = 0; turns < 20; turns += 1) {
    await using world = open();
    await world.namespace.overrides("ann");
    world.become({ holds: "after", of: ["kills"] });
    await world.commit((store) => store.setOverride(overrideOf("digest/1", "ann")));
    await world.waitForHeld();
    const delivered = world.deliver(0);
    for (let i = 0; i < turns; i += 1) await Promise.resolve();
    const [row] = await world.namespace.overrideRows(["ann"]);
    await delivered;
    if (row?.kind !== "known" || row.version === undefined) throw new Error("it has been told before");
    const held = world.store.overridesAt("ann", world.store.commitOf(row.version));
    expect(row.value?.size ?? 0, `after ${turns} turns`).toBe(held.size);
  }
});

function open(options: Partial<WorldOptions> = {}): World {
  return new World({
    table,
    flagIds: ["digest/1", "digest/2", "old/1"],
    entityIds: ["ann"],
    versioned: true,
    flagTtlMs: TTL,
    overrideTtlMs: TTL,
    overrideEntriesMax: 100,
    jitter: 0,
    random: () => 0.5,
    ...options,
  });
}
