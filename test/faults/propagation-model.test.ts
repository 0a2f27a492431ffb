import fc from "fast-check";
import { expect, test } from "vitest";
import {
  ENTITY_IDS,
  FLAG_IDS,
  LINKS,
  PropagationWorld,
  ROOTS,
  SEATS,
  type Ttls,
} from "../support/propagation-world.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { size } from "../support/size.ts";

const RUNS = size(30, 250);
const STEPS_MAX = 60;

interface Step {
  readonly run: (world: PropagationWorld) => unknown;
  /** For the report of a failure. */
  readonly toString: () => string;
}

const flagId = fc.constantFrom(...FLAG_IDS);
const entityId = fc.constantFrom(...ENTITY_IDS);
const root = fc.nat(ROOTS - 1);
const link = fc.nat(LINKS - 1);
const seat = fc.nat(SEATS - 1);

function step<T>(
  name: string,
  given: fc.Arbitrary<T>,
  run: (world: PropagationWorld, given: T) => unknown,
): fc.Arbitrary<Step> {
  return given.map((value) => ({
    run: (world) => run(world, value),
    toString: () => `${name} ${JSON.stringify(value)}`,
  }));
}

const steps = fc.oneof(
  { weight: 8, arbitrary: step("set", flagId, (world, id) => world.set(id)) },
  { weight: 8, arbitrary: step("kill", flagId, (world, id) => world.setKilled(id, true)) },
  { weight: 8, arbitrary: step("revive", flagId, (world, id) => world.setKilled(id, false)) },
  {
    weight: 6,
    arbitrary: step("override", fc.tuple(flagId, entityId), (world, [id, entity]) =>
      world.setOverride(id, entity),
    ),
  },
  {
    weight: 4,
    arbitrary: step("remove override", fc.tuple(flagId, entityId), (world, [id, entity]) =>
      world.removeOverride(id, entity),
    ),
  },
  { weight: 3, arbitrary: step("restore", fc.nat(8), (world, back) => world.restore(back)) },
  {
    weight: 8,
    arbitrary: step("cut or join", fc.tuple(link, fc.boolean()), (world, [i, cut]) => {
      world.link(i).cut = cut;
    }),
  },
  {
    weight: 5,
    arbitrary: step("lose or find the store", fc.tuple(root, fc.boolean()), (world, [i, away]) => {
      world.root(i).storeAway = away;
    }),
  },
  {
    weight: 5,
    arbitrary: step("lag", fc.tuple(root, fc.constantFrom(0, 0, 1, 4)), (world, [i, commits]) => {
      world.root(i).commitsBehind = commits;
    }),
  },
  {
    weight: 3,
    arbitrary: step("lose or hear notices", fc.tuple(root, fc.boolean()), (world, [i, hears]) => {
      world.hears[i] = hears;
    }),
  },
  { weight: 5, arbitrary: step("keep", seat, (world, i) => world.keep(i)) },
  {
    weight: 5,
    arbitrary: step(
      "restart",
      fc.tuple(seat, fc.boolean(), fc.constantFrom(0, 100, 3_000)),
      (world, [i, withFile, awayMs]) => world.restart(i, withFile, awayMs),
    ),
  },
  {
    weight: 16,
    arbitrary: step("wait", fc.constantFrom(0, 10, 60, 150, 600, 2_500, 7_000), (world, ms) =>
      world.clock.advance(ms),
    ),
  },
  {
    weight: 1,
    arbitrary: step("strand", fc.tuple(root, fc.nat(8)), (world, [i, back]) => world.strand(i, back)),
  },
  { weight: 1, arbitrary: step("heal", fc.constant(0), (world) => world.heal()) },
);

/** With the second rows are read more often than the kill set, and overtake it. */
const ttls = fc.constantFrom<Ttls>(
  { killTtlMs: 2_000, flagTtlMs: 10_000, overrideTtlMs: 10_000 },
  { killTtlMs: 8_000, flagTtlMs: 1_500, overrideTtlMs: 1_500 },
);

test("whatever happens in whatever order, no tier ever goes back, and in the end all know the same", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(steps, { minLength: 10, maxLength: STEPS_MAX, size: "max" }),
      ttls,
      fc.nat(),
      async (steps, ttls, seed) => {
        await using world = new PropagationWorld(ttls, seededRandom(seed));
        await world.clock.advance(3_000);
        for (const { run } of steps) {
          // Of two epochs that is the later which was asked for later: not both in one moment.
          await world.clock.advance(1);
          await run(world);
          await world.look();
          expect(world.problems).toEqual([]);
        }
        await world.agree();
        expect(world.problems).toEqual([]);
      },
    ),
    { numRuns: RUNS },
  );
}, 600_000);
