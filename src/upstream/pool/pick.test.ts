import { expect, test } from "vitest";
import { type Candidate, pick } from "./pick.ts";

const occasion = { turn: 0, chance: 0.5, key: undefined };

function candidate(name: string, traits: Partial<Candidate> = {}): Candidate {
  return { name, priority: 0, weight: 1, inFlight: 0, latencyMs: undefined, ...traits };
}

/** How often each is picked, by turns and chances spread evenly. */
function shares(strategy: Parameters<typeof pick>[0], candidates: readonly Candidate[]) {
  const counts = new Map<string, number>();
  for (let i = 0; i < 1_000; i += 1) {
    const name = pick(strategy, candidates, { turn: i, chance: i / 1_000, key: undefined })?.name ?? "nobody";
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

const [a, b, c] = [candidate("a"), candidate("b"), candidate("c")];

test.each([
  ["round-robin", [a, b], { a: 500, b: 500 }],
  ["random", [a, b], { a: 500, b: 500 }],
  ["least-connections", [candidate("a", { inFlight: 2 }), b, c], { b: 500, c: 500 }],
  ["least-latency", [candidate("a", { latencyMs: 3 }), candidate("b", { latencyMs: 2 })], { b: 1000 }],
  ["least-latency", [candidate("a", { latencyMs: 3 }), b], { b: 1000 }],
  ["weighted-random", [candidate("a", { weight: 3 }), b], { a: 750, b: 250 }],
  ["consistent-hash", [a, b], { a: 500, b: 500 }],
  ["priority", [a, candidate("b", { priority: 9 }), candidate("c", { priority: 9 })], { b: 500, c: 500 }],
  ["priority", [candidate("a", { priority: -1 })], { a: 1000 }],
] as const)("%s", (strategy, candidates, expected) => {
  expect(shares(strategy, candidates)).toEqual(expected);
});

test("of nobody, nobody is picked", () => {
  for (const strategy of [
    "round-robin",
    "random",
    "weighted-random",
    "consistent-hash",
    "priority",
  ] as const) {
    expect(pick(strategy, [], occasion)).toBeUndefined();
    expect(pick(strategy, [], { ...occasion, key: "user-1" })).toBeUndefined();
  }
});

const entities = Array.from({ length: 10_000 }, (_, i) => `user-${i}`);

function placesAmong(names: readonly string[]): ReadonlyMap<string, string> {
  const candidates = names.map((name) => candidate(name));
  return new Map(
    entities.map((key) => [key, pick("consistent-hash", candidates, { ...occasion, key })?.name ?? "nobody"]),
  );
}

test.each([3, 5, 10])(
  "of %i upstreams each gets its share of entities, and one that leaves moves only its own",
  (n) => {
    const names = Array.from({ length: n }, (_, i) => `evaluator-${i}:9201`);
    const before = placesAmong(names);
    for (const name of names) {
      const own = [...before.values()].filter((place) => place === name).length;
      expect(own / (entities.length / n)).toBeGreaterThan(0.8);
      expect(own / (entities.length / n)).toBeLessThan(1.2);
    }
    for (const gone of names) {
      const after = placesAmong(names.filter((name) => name !== gone));
      const moved = entities.filter((key) => before.get(key) !== after.get(key));
      expect(moved.length / entities.length).toBeLessThanOrEqual(1 / n + 0.05);
      expect(moved.every((key) => before.get(key) === gone)).toBe(true);
    }
  },
);

test("a heavier upstream gets more entities", () => {
  const candidates = [candidate("a", { weight: 3 }), candidate("b")];
  const own = entities.filter(
    (key) => pick("consistent-hash", candidates, { ...occasion, key })?.name === "a",
  );
  expect(own.length / entities.length).toBeCloseTo(0.75, 1);
});
