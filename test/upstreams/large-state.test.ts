import { expect, test } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { Link, Tier } from "../support/tiers.ts";

const FLAGS = 200;
const ENTITIES = 60;

const large = (text: string) => flagValue(text.padEnd(100 * 1024, "."));

test("flags and overrides that are too much for one answer come with several, through all tiers", async () => {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const flags = Array.from({ length: FLAGS }, (_, i) => defineFlag(`a/${i + 1}`));
  for (const { id } of flags) store.set(stateOf(id, { value: large(id) }));
  for (let i = 0; i < ENTITIES; i += 1)
    store.setOverride(overrideOf("a/1", `entity-${i}`, { value: large(`for ${i}`) }));
  const options = { clock, table: tableOf(...flags), ttls: { jitter: 0 } };
  await using root = new Tier(options, { kind: "store", store });
  await using middle = new Tier(options, { kind: "tiers", links: [new Link(root)] });
  await using edge = new Tier(options, { kind: "tiers", links: [new Link(middle)] });
  await clock.advance(5_000);

  expect(edge.namespace.ready).toBe(true);
  for (const { id } of flags) expect(await edge.evaluate(id)).toEqual({ value: large(id), source: "global" });
  // A reader that asks for too much at a time has some of it at once, and the rest when it asks again.
  const ask = () =>
    Promise.all(Array.from({ length: ENTITIES }, (_, i) => edge.evaluate("a/1", `entity-${i}`)));
  const answers = [await ask(), await ask()];
  expect(answers[1]).toEqual(
    Array.from({ length: ENTITIES }, (_, i) => ({ value: large(`for ${i}`), source: "override" })),
  );
  for (const { pool } of [middle, edge])
    expect(pool?.upstreams).toMatchObject([{ state: "up", score: 3, breaker: "closed" }]);
});
