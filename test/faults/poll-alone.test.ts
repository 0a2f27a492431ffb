import { expect, test } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { defineFlag, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { size } from "../support/size.ts";
import { Link, Tier, type TierOptions } from "../support/tiers.ts";

// Fault 1, where nothing is pushed.

const KILLS = size(50, 500);
const KILL_TTL_MS = 1_000;
const ASKED_EVERY_MS = 5;

test.each([0, 0.2])(
  "by poll alone, of %f jitter, a kill is in force two tiers away within an interval and 250 ms",
  async (jitter) => {
    const clock = new FakeClock();
    const random = seededRandom(1);
    const store = new MemoryStore();
    store.set(stateOf("a/1"));
    const options: TierOptions = {
      clock,
      table: tableOf(defineFlag("a/1")),
      random,
      ttls: { killTtlMs: KILL_TTL_MS, jitter },
    };
    await using root = new Tier(options, { kind: "store", store });
    await using middle = new Tier(options, { kind: "tiers", links: [new Link(root)] });
    await using edge = new Tier(options, { kind: "tiers", links: [new Link(middle)] });
    await clock.advance(5_000);

    let longestMs = 0;
    for (let i = 0; i < KILLS; i++) {
      for (const mode of ["killed", "default"] as const) {
        store.set(stateOf("a/1", { mode }));
        const committedAt = clock.now();
        const isKnown = async () =>
          ((await edge.evaluate("a/1")).source === "killed") === (mode === "killed");
        while (!(await isKnown())) {
          await clock.advance(ASKED_EVERY_MS);
          expect(clock.now() - committedAt).toBeLessThanOrEqual(10 * KILL_TTL_MS);
        }
        longestMs = Math.max(longestMs, clock.now() - committedAt);
        await clock.advance(Math.floor(random() * KILL_TTL_MS));
      }
    }
    console.log(`in force after ${longestMs} ms at most`);
    expect(longestMs).toBeLessThanOrEqual(KILL_TTL_MS * (1 + jitter) + 250);
    // There was something to wait for.
    expect(longestMs).toBeGreaterThan(KILL_TTL_MS / 2);
  },
  120_000,
);
