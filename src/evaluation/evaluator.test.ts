import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { Latest } from "../system/latest.ts";
import { BulkMemory, Evaluator, type FreshFlag, type MaybeLater, type States } from "./evaluator.ts";
import { afterPoll, type KillSet } from "./kill-set.ts";
import type { FlagState, Found, Overrides } from "./state.ts";

const flags = tableOf(
  defineFlag("digest/1", { name: "frequency" }),
  defineFlag("digest/2", { layer: "", name: "limit" }),
);

test("both forms of an id name the same flag", async () => {
  const { evaluator, states } = createEvaluator();
  states.rows.set("digest/1", stateOf("digest/1"));
  const byId = await evaluator.evaluate("digest/1", "");
  expect(byId).toEqual({ value: flagValue("weekly"), source: "global" });
  expect(await evaluator.evaluate("digest.frequency", "")).toEqual(byId);
  expect(await evaluator.evaluateMany(["digest.frequency", "digest/1"], "")).toEqual([byId, byId]);
});

test("what is in memory is answered without a promise", () => {
  const { evaluator } = createEvaluator();
  expect(evaluator.evaluate("digest/1", "user-1")).not.toBeInstanceOf(Promise);
  expect(evaluator.evaluateMany(["digest/1", "digest/2"], "user-1")).not.toBeInstanceOf(Promise);
});

test("overrides are looked up once a request, and only where one can apply", async () => {
  const { evaluator, states } = createEvaluator();
  states.entities.set("user-1", new Map([["digest/1", overrideOf("digest/1", "user-1")]]));
  const answers = await evaluator.evaluateMany(["digest/1", "digest/2", "digest/1", "unknown/1"], "user-1");
  expect(answers.map(({ source }) => source)).toEqual(["override", "default", "override", "default"]);
  expect(states.askedEntities).toEqual(["user-1"]);

  states.askedEntities.length = 0;
  await evaluator.evaluate("digest/2", "user-1");
  await evaluator.evaluate("unknown/1", "user-1");
  await evaluator.evaluate("digest/1", "");
  expect(states.askedEntities).toEqual([]);
});

test("a killed flag is answered without any look-up", async () => {
  const { evaluator, states, kill } = createEvaluator();
  kill("digest/1", "archived/7");
  expect(await evaluator.evaluate("digest.frequency", "user-1")).toEqual({
    value: flagValue("daily"),
    source: "killed",
  });
  expect(await evaluator.evaluate("archived/7", "")).toEqual({ value: undefined, source: "killed" });
  expect(await evaluator.evaluateMany(["digest/1"], "user-1")).toEqual([
    { value: flagValue("daily"), source: "killed" },
  ]);
  expect([states.askedFlags, states.askedEntities]).toEqual([[], []]);
});

test("a kill that arrives while the store is asked counts", async () => {
  const { evaluator, states, kill } = createEvaluator();
  states.rows.set("digest/1", stateOf("digest/1"));
  states.later = true;
  const [one, many] = [evaluator.evaluate("digest/1", ""), evaluator.evaluateMany(["digest/1"], "")];
  kill("digest/1");
  expect((await one).source).toBe("killed");
  expect((await many)[0]?.source).toBe("killed");
});

test("a bulk that waits for the store is not confused by who asks after a kill meanwhile", async () => {
  const { evaluator, states, kill } = createEvaluator();
  states.rows.set("digest/2", stateOf("digest/2"));
  const memory = new BulkMemory();
  const ask = () => evaluator.evaluateMany(["digest/1", "digest/2"], "", memory);
  void ask();
  states.later = true;
  states.revision += 1;
  const answer = ask();
  kill("digest/1");
  void evaluator.evaluate("digest/1", "");
  void ask();
  expect((await answer).map(({ source }) => source)).toEqual(["killed", "global"]);
});

test("a kill that arrives while the store is asked for an entity counts more than an override", async () => {
  const { evaluator, states, kill } = createEvaluator();
  states.entities.set("user-1", new Map([["digest/1", overrideOf("digest/1", "user-1")]]));
  void evaluator.evaluate("digest/1", "");
  states.later = true;
  const [one, many] = [
    evaluator.evaluate("digest/1", "user-1"),
    evaluator.evaluateMany(["digest/1"], "user-1"),
  ];
  kill("digest/1");
  expect((await one).source).toBe("killed");
  expect((await many)[0]?.source).toBe("killed");
});

test("an id that cannot exist is answered without a look-up, and harms nobody in a bulk", async () => {
  const { evaluator, states } = createEvaluator();
  states.rows.set("digest/1", stateOf("digest/1"));
  const impossible = ["x".repeat(513), "a\u0000b", "line\nbreak", "\u007f", ""];
  for (const flagId of impossible) {
    expect(await evaluator.evaluate(flagId, ""), JSON.stringify(flagId)).toEqual({
      value: undefined,
      source: "default",
    });
  }
  const bulk = await evaluator.evaluateMany([...impossible, "digest/1"], "");
  expect(bulk.map(({ source }) => source)).toEqual([...impossible.map(() => "default"), "global"]);
  expect(new Set(states.askedFlags)).toEqual(new Set(["digest/1"]));
});

test("an override look-up that failed leaves the answer to the global state", async () => {
  const { evaluator, states } = createEvaluator();
  states.rows.set("digest/1", stateOf("digest/1"));
  states.entitiesAway = true;
  expect((await evaluator.evaluate("digest/1", "user-1")).source).toBe("global");
  states.away = true;
  states.revision += 1;
  expect(await evaluator.evaluate("digest/1", "user-1")).toEqual({
    value: flagValue("daily"),
    source: "default",
  });
});

test("what was decided for all is decided again only once something has changed", async () => {
  const { evaluator, states, kill, told } = createEvaluator();
  states.entities.set("user-1", new Map([["digest/1", overrideOf("digest/1", "user-1")]]));
  const memory = new BulkMemory();
  const ask = async (entityId: string) => {
    states.askedFlags.length = 0;
    const evaluations = await evaluator.evaluateMany(["digest.frequency", "digest/2"], entityId, memory);
    return { evaluations, isNew: states.askedFlags.length > 0 };
  };
  const first = await ask("");
  expect(first.isNew).toBe(true);
  for (const entityId of ["", "user-2"]) expect(await ask(entityId)).toEqual({ ...first, isNew: false });
  expect(states.hits, "each time both of them").toBe(6);
  expect(told).toHaveLength(3);

  // Whoever has overrides is another matter, and changes nothing for the others.
  expect((await ask("user-1")).evaluations.map(({ source }) => source)).toEqual(["override", "default"]);
  expect((await ask("user-3")).evaluations).toBe(first.evaluations);

  states.rows.set("digest/1", stateOf("digest/1"));
  states.revision += 1;
  expect((await ask("")).evaluations.map(({ source }) => source)).toEqual(["global", "default"]);
  states.until = 0;
  expect((await ask("")).isNew).toBe(false);
  states.revision += 1;
  expect([(await ask("")).isNew, (await ask("")).isNew]).toEqual([true, true]);
  states.until = Infinity;
  await ask("");
  kill("digest/2");
  expect((await ask("")).evaluations.map(({ source }) => source)).toEqual(["global", "killed"]);
});

test("what one call decided of a flag holds for all others until something has changed", async () => {
  const { evaluator, states, kill, table } = createEvaluator();
  states.rows.set("digest/1", stateOf("digest/1"));
  states.entities.set("user-1", new Map([["digest/1", overrideOf("digest/1", "user-1")]]));
  const ask = async (flagId: string, entityId = "") => {
    states.askedFlags.length = 0;
    const { source } = await evaluator.evaluate(flagId, entityId);
    return `${source}${states.askedFlags.length > 0 ? " anew" : ""}`;
  };
  expect([await ask("digest/1", "user-1"), await ask("digest/1")]).toEqual(["override anew", "global"]);
  expect([await ask("digest/1", "user-1"), await ask("digest/1", "user-2")]).toEqual(["override", "global"]);
  expect(await ask("digest/2")).toBe("default anew");
  expect(states.hits, "counted as look-ups all the same").toBe(5);

  states.askedFlags.length = 0;
  const forUser = await evaluator.evaluateMany(["digest/2", "digest/1"], "user-1");
  const forAll = await evaluator.evaluateMany(["digest/2", "digest/1"], "");
  expect(forUser.map(({ source }) => source)).toEqual(["default", "override"]);
  expect(forAll.map(({ source }) => source)).toEqual(["default", "global"]);
  expect([states.askedFlags, states.hits]).toEqual([[], 9]);

  states.rows.delete("digest/1");
  states.revision += 1;
  expect([await ask("digest/1"), await ask("digest/1")]).toEqual(["default anew", "default"]);
  expect(await ask("digest/2")).toBe("default anew");
  kill("digest/1");
  expect([await ask("digest/1"), await ask("digest/2")]).toEqual(["killed", "default"]);
  kill();
  expect([await ask("digest/1"), await ask("digest/2")]).toEqual(["default anew", "default"]);
  table.replace(tableOf(defineFlag("digest/1", { layer: "" })));
  expect([await ask("digest/1", "user-1"), await ask("digest/2")]).toEqual(["default anew", "default anew"]);
});

test("what is not fresh, arrived late or is of a flag that nobody defined is decided each time", async () => {
  const { evaluator, states } = createEvaluator();
  const asksAgain = async (flagId: string) => {
    await evaluator.evaluate(flagId, "");
    states.askedFlags.length = 0;
    await evaluator.evaluate(flagId, "");
    return states.askedFlags.length > 0;
  };
  expect(await asksAgain("unknown/1")).toBe(true);
  states.until = -1;
  expect(await asksAgain("digest/1"), "its time is over").toBe(true);
  states.until = Infinity;
  states.later = true;
  expect(await asksAgain("digest/1"), "something newer may have arrived meanwhile").toBe(true);
  states.later = false;
  states.away = true;
  expect(await asksAgain("digest/1"), "unavailable").toBe(true);
});

test("the same row is answered by how fresh it is", async () => {
  const { evaluator, states } = createEvaluator();
  states.rows.set("digest/1", stateOf("digest/1"));
  const fresh = await evaluator.evaluate("digest/1", "");
  expect(fresh.source).toBe("global");
  for (const kind of ["stale", "cached", "stale"] as const) {
    states.kind = kind;
    states.revision += 1;
    for (let i = 0; i < 2; i++) {
      expect(await evaluator.evaluate("digest/1", "")).toEqual({ ...fresh, source: kind });
      expect(await evaluator.evaluateMany(["digest/1"], "")).toEqual([{ ...fresh, source: kind }]);
    }
  }
  states.kind = "fresh";
  expect(await evaluator.evaluate("digest/1", "")).toEqual(fresh);
});

test("the flags that a call decided are told once, together and with their own ids", async () => {
  const { evaluator, told } = createEvaluator();
  await evaluator.evaluate("digest.frequency", "user-1");
  await evaluator.evaluateMany(["digest/2", "unknown/1"], "");
  expect(told).toEqual(["digest/1 default", "digest/2 default,unknown/1 default"]);
});

/** Rows in a test's hands. */
class HandStates implements States {
  readonly rows = new Map<string, FlagState>();
  readonly entities = new Map<string, Overrides>();
  readonly askedFlags: string[] = [];
  readonly askedEntities: string[] = [];
  kind: "fresh" | "stale" | "cached" = "fresh";
  revision = 0;
  until = Infinity;
  hits = 0;
  later = false;
  away = false;
  entitiesAway = false;

  flagState(flagId: string): MaybeLater<Found<FlagState>> {
    return this.#soon(this.#find(flagId));
  }

  flagStates(flagIds: readonly string[]): MaybeLater<readonly Found<FlagState>[]> {
    return this.#soon(flagIds.map((flagId) => this.#find(flagId)));
  }

  overrides(entityId: string): MaybeLater<Found<Overrides>> {
    this.askedEntities.push(entityId);
    const away = this.away || this.entitiesAway;
    return this.#soon(away ? { kind: "unavailable" } : { kind: "fresh", value: this.entities.get(entityId) });
  }

  get flagsRevision(): number {
    return this.revision;
  }

  freshFlag(flagId: string, now: number): FreshFlag | undefined {
    if (this.later || this.away || this.kind !== "fresh" || now >= this.until) return undefined;
    this.askedFlags.push(flagId);
    return { value: this.rows.get(flagId), freshUntil: this.until };
  }

  countHits(count: number): void {
    this.hits += count;
  }

  #find(flagId: string): Found<FlagState> {
    this.askedFlags.push(flagId);
    return this.away ? { kind: "unavailable" } : { kind: this.kind, value: this.rows.get(flagId) };
  }

  #soon<T>(value: T): MaybeLater<T> {
    return this.later ? Promise.resolve(value) : value;
  }
}

function createEvaluator() {
  const states = new HandStates();
  const killSet = new Latest<KillSet | undefined>(undefined);
  const told: string[] = [];
  const table = new Latest(flags);
  const evaluator = new Evaluator({
    flags: table,
    killSet,
    states,
    clock: new FakeClock(),
    onDecidedOne: (flagId, _, { source }) => told.push(`${flagId} ${source}`),
    onDecided: ({ flags: decided, evaluations }) =>
      told.push(decided.map(({ id }, i) => `${id} ${evaluations[i]?.source}`).join()),
  });
  const kill = (...flagIds: string[]) => {
    const stamp = { version: undefined, askedAt: 0 };
    killSet.replace(afterPoll(undefined, { flagIds: new Set(flagIds), overrides: [], stamp, readAt: 0 }));
  };
  return { evaluator, states, told, kill, table };
}
