import { expect, test } from "vitest";
import { settle } from "../support/fake-clock.ts";
import { poolSettings, upstreamSettings } from "../support/fake-upstream.ts";
import { openPoolScene } from "../support/pool-scene.ts";
import { size } from "../support/size.ts";

const RELOADS = size(500, 10_000);
const FLAPPING_MINUTES = size(4, 30);

test.each([1_000, 2_500, 4_000, 7_000, 12_000])(
  "flapping every %i ms changes the breaker at most six times in any minute",
  async (halfPeriodMs) => {
    const scene = openPoolScene([
      { name: "a", retry: { ...upstreamSettings({ name: "a" }).retry, maxRetries: 0 } },
    ]);
    await scene.clock.advance(3_000);
    const changes: number[] = [];
    const seen = () => scene.said.filter((line) => line.startsWith("breaker")).length;
    for (let ms = 0; ms < FLAPPING_MINUTES * 60_000; ms += 500) {
      scene.at("a").behaviour = Math.floor(ms / halfPeriodMs) % 2 === 0 ? "fails" : "answers";
      const before = seen();
      for (let i = 0; i < 3; i += 1) void scene.ask().catch(() => {});
      await scene.clock.advance(500);
      for (let i = before; i < seen(); i += 1) changes.push(ms);
    }
    for (const at of changes) {
      expect(changes.filter((other) => other >= at && other < at + 60_000).length).toBeLessThanOrEqual(6);
    }
  },
);

test.each([
  { failing: "half of all calls", every: 2, loadMax: 1.1 + 0.01 },
  { failing: "all calls", every: 1, loadMax: 0.02 },
])("two minutes after $failing began to fail, the load stays within bounds", async ({ every, loadMax }) => {
  const scene = openPoolScene([{ name: "a" }]);
  await scene.clock.advance(3_000);
  const upstream = scene.at("a");
  /** Calls that reach the upstream, as a share of those made. */
  const load = async (seconds: number) => {
    const before = upstream.calls;
    for (let i = 0; i < seconds * 20; i += 1) {
      void scene.ask().catch(() => {});
      await scene.clock.advance(50);
    }
    return (upstream.calls - before) / (seconds * 20);
  };
  expect(await load(60)).toBe(1);
  upstream.failEvery = every;
  await load(120);
  const reached = await load(60);
  expect(reached).toBeGreaterThan(0);
  expect(reached).toBeLessThanOrEqual(loadMax);
});

test("with none usable, one trial a breaker interval is made", async () => {
  const scene = openPoolScene([{ name: "a" }]);
  scene.at("a").behaviour = "fails";
  await scene.clock.advance(5_000);
  const calls = () => scene.at("a").calls;
  const before = calls();
  for (let i = 0; i < 90; i += 1) {
    void scene.ask().catch(() => {});
    await scene.clock.advance(1_000);
  }
  expect(calls() - before).toBeGreaterThanOrEqual(3);
  // A trial may be tried once more, as far as the budget goes.
  expect(calls() - before).toBeLessThanOrEqual(6);
});

test(`${RELOADS} reloads of a changing pool under load fail no call and leave nothing behind`, async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await settle();
  let failed = 0;
  for (let i = 0; i < RELOADS; i += 1) {
    const asked = scene.ask().catch(() => {
      failed += 1;
    });
    const names = ["a", "b", "c"].filter((_, n) => (i >> n) % 2 === 0);
    const upstreams = (names.length === 0 ? ["a"] : names).map((name) => ({ name, weight: 1 + (i % 7) }));
    await scene.pool.reload(
      poolSettings(upstreams, { reloadStrategy: i % 3 === 0 ? "rolling" : "graceful" }),
    );
    await asked;
  }
  expect(failed).toBe(0);
  await settle();
  const inForce = scene.pool.upstreams.length;
  expect([...scene.upstreams.values()].reduce((sum, { open }) => sum + open, 0)).toBe(inForce);
  expect(scene.clock.sleeperCount).toBe(inForce);
}, 60_000);
