import { expect, test } from "vitest";
import { FakeClock } from "../support/fake-clock.ts";
import { defineFlag, flagValue, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { size } from "../support/size.ts";
import { Link, Tier } from "../support/tiers.ts";

const FLIPS = size(1_500, 10_000);
const PARTITIONS = size(30, 200);
const table = tableOf(defineFlag("a/1"), defineFlag("a/2"));

/** What an edge has answered: the epoch, and the how manieth value of it. */
interface Seen {
  readonly epoch: string;
  readonly value: number;
}

/**
 * Two evaluators that read one database, each cut off from it and from the edge now and then, so that now one and now
 * the other lags; and an edge that asks both.
 */
class Apart {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore();
  readonly problems: string[] = [];
  readonly roots: readonly Tier[];
  readonly links: readonly Link[];
  readonly edge: Tier;
  /** The last value written in this epoch. */
  written = 0;
  #highest: Seen = { epoch: "", value: 0 };
  readonly #leftEpochs = new Set<string>();

  constructor(strategy: "round-robin" | "priority", random: () => number) {
    const options = { clock: this.clock, table, random, ttls: { killTtlMs: 1_000, flagTtlMs: 5_000 } };
    this.write();
    this.roots = [0, 1].map(() => new Tier(options, { kind: "store", store: this.store }));
    this.links = this.roots.map((root) => new Link(root));
    this.edge = new Tier(
      {
        ...options,
        onKillSet: (next, previous) => {
          const [a, b] = [previous?.stamp.version, next.stamp.version];
          if (a !== undefined && b !== undefined && a.epoch === b.epoch && b.revision < a.revision) {
            this.problems.push(`the kill set went back from ${a.revision} to ${b.revision}`);
          }
        },
      },
      { kind: "tiers", links: this.links, pool: { strategy }, priorities: [2, 1] },
    );
  }

  /** Every value says how manieth of its epoch it is. */
  write(): void {
    this.written += 1;
    this.store.set(stateOf("a/1", { value: flagValue(`${this.store.epoch} ${this.written}`) }));
    this.store.set(stateOf("a/2", { mode: this.written % 2 === 0 ? "killed" : "enabled" }));
  }

  restore(epoch: string): void {
    this.store.restore(epoch, 5);
    this.written = 0;
    this.write();
  }

  /** Asks the edge, and compares with what it has answered before. */
  async look(): Promise<void> {
    const asked = this.edge.evaluate("a/1");
    await this.clock.advance(600);
    const { value } = await asked;
    const text = value?.value.case === "stringValue" ? value.value.value : "";
    const [epoch = "", number = "0"] = text.split(" ");
    const seen = { epoch, value: Number(number) };
    if (epoch === this.#highest.epoch && seen.value < this.#highest.value) {
      this.problems.push(`answered ${seen.value} after ${this.#highest.value} of ${epoch}`);
    }
    if (this.#leftEpochs.has(epoch)) this.problems.push(`answered from ${epoch}, which it had left`);
    if (epoch !== this.#highest.epoch) this.#leftEpochs.add(this.#highest.epoch);
    this.#highest = seen;
  }

  heal(): void {
    for (const root of this.roots) root.storeAway = false;
    for (const link of this.links) link.cut = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const tier of [this.edge, ...this.roots]) await tier[Symbol.asyncDispose]();
  }
}

test.each(["round-robin", "priority"] as const)(
  `between two upstreams that drift apart, ${FLIPS} changes and ${PARTITIONS} partitions never take the edge back (%s)`,
  async (strategy) => {
    const random = seededRandom(strategy === "priority" ? 7 : 11);
    await using apart = new Apart(strategy, random);
    await apart.clock.advance(3_000);
    const between = Math.floor(FLIPS / PARTITIONS);
    let epochs = 1;
    for (let i = 0; i < PARTITIONS; i += 1) {
      apart.heal();
      const victim = random() < 0.5 ? 0 : 1;
      const [root, link] = [apart.roots[victim], apart.links[victim]];
      if (root === undefined || link === undefined) throw new Error("there are two");
      if (random() < 0.5) root.storeAway = true;
      else link.cut = true;
      if (i % 10 === 9) apart.restore(`epoch-${(epochs += 1)}`);
      for (let n = 0; n < between; n += 1) {
        apart.write();
        if (random() < 0.3) await apart.look();
        else await apart.clock.advance(random() * 100);
      }
    }
    expect(apart.problems).toEqual([]);

    apart.heal();
    await apart.clock.advance(15_000);
    await apart.look();
    const { value } = await apart.edge.evaluate("a/1");
    expect(value?.value.value).toBe(`epoch-${epochs} ${apart.written}`);
    expect(apart.problems).toEqual([]);
  },
  300_000,
);

test("a changed epoch is taken up at once, whichever of two upstreams sees it first", async () => {
  for (const late of [0, 1]) {
    await using apart = new Apart("round-robin", () => 0.5);
    await apart.clock.advance(3_000);
    const root = apart.roots[late];
    if (root === undefined) throw new Error("there are two");
    root.storeAway = true;
    apart.restore("epoch-2");
    await apart.clock.advance(4_000);
    await apart.look();
    expect((await apart.edge.evaluate("a/1")).value?.value.value).toBe("epoch-2 1");
    expect(apart.edge.pool?.upstreams[late]?.state).toBe("refused");
    root.storeAway = false;
    await apart.clock.advance(8_000);
    expect(apart.edge.pool?.upstreams[late]?.state).toBe("up");
  }
});
