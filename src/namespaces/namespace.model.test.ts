import fc from "fast-check";
import { expect, test } from "vitest";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import type { MemoryStore } from "../../test/support/memory-store.ts";
import { KILL_TTL, type Mood, World } from "../../test/support/namespace-world.ts";
import { size } from "../../test/support/size.ts";
import type { Mode } from "../evaluation/state.ts";
import type { FlagType } from "../flags/definition.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";

const TTL = 100_000;

const definitions = [
  defineFlag("a/1"),
  defineFlag("a/2", { layer: "" }),
  defineFlag("a/3", { defaultValue: undefined }),
  defineFlag("b/1", { type: "INT64", defaultValue: flagValue(1n) }),
  defineFlag("z/1", { defaultValue: flagValue("z") }),
];
/** z/1 comes and goes with reloads, z/2 is never defined, z/3 has no row either. */
const table = tableOf(...definitions.slice(0, 4));
const written = ["a/1", "a/2", "a/3", "b/1", "z/1", "z/2"];
const flagIds = [...written, "z/3"];
const entityIds = ["ann", "bob", "cem"];

type Run = (world: World) => unknown;

interface Move {
  readonly run: Run;
  /** For the report of a failure. */
  readonly toString: () => string;
}

function move(name: string, given: unknown, run: Run): Move {
  const shown = given === undefined ? "" : ` ${JSON.stringify(given)}`;
  return { run, toString: () => `${name}${shown}` };
}

type ValueKind = "fits" | "misfits" | "none";

const valueKind = fc.constantFrom<ValueKind>("fits", "fits", "fits", "misfits", "none");

/** A value that tells the commit it comes from. Now and then one of another type than the flag's. */
function makeValue(kind: ValueKind, id: string, commit: number): FlagValue | undefined {
  if (kind === "none") return undefined;
  return (id === "b/1") === (kind === "fits") ? flagValue(BigInt(commit)) : flagValue(`of ${commit}`);
}

function typeOf(id: string): FlagType {
  return id === "b/1" ? "INT64" : "STRING";
}

/** A kill or a revive, of a flag that need not have a row. */
function setKilled(store: MemoryStore, id: string, kills: boolean): void {
  const row = store.rowAt(id, store.head) ?? stateOf(id, { value: undefined, type: typeOf(id) });
  store.set({ ...row, mode: kills ? "killed" : "enabled" });
}

/** Who takes part in one run: of few, each meets with more. */
interface Cast {
  readonly flagIds: readonly string[];
  readonly entityIds: readonly string[];
}

function movesOf(cast: Cast): fc.Arbitrary<Move> {
  const flagId = fc.constantFrom(...cast.flagIds);
  const askedFlagId = fc.oneof(
    { arbitrary: flagId, weight: 6 },
    fc.constantFrom(...flagIds, "a.flag_1", "", "x".repeat(513)),
  );
  const entityId = fc.constantFrom(...cast.entityIds);
  const askedEntityId = fc.oneof(
    { arbitrary: fc.constantFrom("", ...cast.entityIds), weight: 6 },
    fc.constantFrom(...entityIds, "e".repeat(256)),
  );
  const mode = fc.constantFrom<Mode>("enabled", "enabled", "default", "killed");

  const write = fc.record({ id: flagId, mode, kind: valueKind, archived: fc.boolean() }).map((given) =>
    move("write", given, (world) =>
      world.commit((store) =>
        store.set(
          stateOf(given.id, {
            mode: given.mode,
            value: makeValue(given.kind, given.id, store.head + 1),
            archived: given.archived && given.id.startsWith("z/"),
            type: typeOf(given.id),
          }),
        ),
      ),
    ),
  );
  const killOrRevive = fc
    .record({ id: flagId, kills: fc.boolean() })
    .map((given) =>
      move(given.kills ? "kill" : "revive", given.id, (world) =>
        world.commit((store) => setKilled(store, given.id, given.kills)),
      ),
    );
  const remove = flagId.map((id) => move("remove", id, (world) => world.commit((store) => store.remove(id))));
  const override = fc.record({ id: flagId, entity: entityId, mode, kind: valueKind }).map((given) =>
    move("override", given, (world) =>
      world.commit((store) => {
        const value = makeValue(given.kind, given.id, store.head + 1);
        store.setOverride(overrideOf(given.id, given.entity, { mode: given.mode, value }));
      }),
    ),
  );
  const removeOverride = fc
    .record({ id: flagId, entity: entityId })
    .map((given) =>
      move("remove override", given, (world) =>
        world.commit((store) => store.removeOverride(given.id, given.entity)),
      ),
    );

  const evaluate = fc
    .record({ id: askedFlagId, entity: askedEntityId })
    .map((given) => move("evaluate", given, (world) => world.evaluate(given.id, given.entity)));
  const evaluateMany = fc
    .record({
      // A program asks for the same flags over and over.
      ids: fc.oneof(fc.array(askedFlagId, { maxLength: 6 }), fc.constant(cast.flagIds)),
      entity: askedEntityId,
    })
    .map((given) => move("evaluate many", given, (world) => world.evaluateMany(given.ids, given.entity)));
  const flagState = askedFlagId.map((id) => move("flag state", id, (world) => world.flagState(id)));
  const overrides = askedEntityId.map((entity) =>
    move("overrides", entity, (world) => world.overrides(entity)),
  );

  const wait = fc
    .constantFrom(0, 1, 60, 60, 150, 150, 600, 1_100, KILL_TTL * 1.25, 1.3 * TTL, 2.5 * TTL)
    .map((ms) => move("wait", ms, (world) => world.wait(ms)));
  const poll = fc.constant(move("poll", undefined, (world) => world.wait(KILL_TTL * 1.25)));
  const waitForHeld = fc.constant(
    move("wait for a call that is held", undefined, (world) => world.waitForHeld()),
  );
  const mood = fc
    .constantFrom<Mood>(
      {},
      {},
      { away: true },
      { holds: "before" },
      { holds: "after" },
      { holds: "before", of: ["kills"] },
      { holds: "after", of: ["kills"] },
      { holds: "after", of: ["flagStates", "overrides"] },
      { commitsBehind: 1 },
      { commitsBehind: 3 },
      { commitsBehind: 1, of: ["flagStates", "overrides"] },
      { commitsBehind: 3, of: ["flagStates", "overrides"] },
      { commitsBehind: 2, holds: "after" },
      { fails: true, of: ["kills"] },
      { fails: true, of: ["flagStates"] },
      { fails: true, of: ["overrides"] },
      { fails: true, of: ["flagStates", "overrides"] },
      { forgetsChanges: true },
    )
    .map((given) => move("become", given, (world) => world.become(given)));
  const deliver = fc.nat(5).map((index) => move("deliver", index, (world) => world.deliver(index)));
  const restore = fc.nat(6).map((back) => move("restore", back, (world) => world.restore(back)));
  const reload = fc.subarray(definitions).map((flags) =>
    move(
      "reload",
      flags.map(({ id }) => id),
      (world) => world.reload(tableOf(...flags)),
    ),
  );
  /** A poll that was read before a change, and arrives after somebody has read the row that it made. */
  const overtakenPoll = fc.record({ id: flagId, kills: fc.boolean() }).map((given) =>
    move("overtaken poll", given, async (world) => {
      world.become({ holds: "after", of: ["kills"] });
      await world.commit((store) => setKilled(store, given.id, given.kills));
      await world.waitForHeld();
      await world.commit((store) => setKilled(store, given.id, !given.kills));
      world.evaluate(given.id, "");
      await world.quiet();
      await world.deliver(0);
      world.become({});
    }),
  );
  /** A row and overrides that were read before a change, and arrive after a poll, or another read, has told of it. */
  const overtakenRows = fc
    .record({ id: flagId, entity: entityId, kills: fc.boolean(), polls: fc.boolean() })
    .map((given) =>
      move("overtaken rows", given, async (world) => {
        await world.commit((store) => setKilled(store, given.id, !given.kills));
        world.become({ holds: "after", of: ["flagStates", "overrides"] });
        world.evaluate(given.id, given.entity);
        await world.quiet();
        world.become({});
        await world.commit((store) => setKilled(store, given.id, given.kills));
        await world.commit((store) => store.setOverride(overrideOf(given.id, given.entity)));
        if (given.polls) await world.wait(KILL_TTL * 1.25);
        world.evaluate(given.id, given.entity);
        await world.quiet();
        await world.deliver(0);
        await world.deliver(0);
      }),
    );
  const settle = fc.constant(move("settle", undefined, (world) => world.settle()));

  return fc.oneof(
    { arbitrary: write, weight: 8 },
    { arbitrary: killOrRevive, weight: 8 },
    { arbitrary: remove, weight: 2 },
    { arbitrary: override, weight: 5 },
    { arbitrary: removeOverride, weight: 2 },
    { arbitrary: evaluate, weight: 14 },
    { arbitrary: evaluateMany, weight: 6 },
    { arbitrary: flagState, weight: 4 },
    { arbitrary: overrides, weight: 4 },
    { arbitrary: wait, weight: 8 },
    { arbitrary: poll, weight: 4 },
    { arbitrary: waitForHeld, weight: 5 },
    { arbitrary: mood, weight: 10 },
    { arbitrary: deliver, weight: 10 },
    { arbitrary: restore, weight: 1 },
    { arbitrary: reload, weight: 2 },
    { arbitrary: overtakenPoll, weight: 2 },
    { arbitrary: overtakenRows, weight: 2 },
    { arbitrary: settle, weight: 1 },
  );
}

const moves = fc
  .record({
    flagIds: fc.subarray(written, { minLength: 1 }),
    entityIds: fc.subarray(entityIds, { minLength: 1 }),
  })
  .chain((cast) => fc.array(movesOf(cast), { minLength: 5, maxLength: 50, size: "max" }));

const options = fc.record({
  versioned: fc.constantFrom(true, true, true, false),
  ttls: fc.constantFrom([TTL, TTL], [TTL, TTL], [TTL, TTL], [0, 0], [TTL, 0]),
  overrideEntriesMax: fc.constantFrom(100, 100, 2),
  jitter: fc.constantFrom(0, 0.2),
  seed: fc.nat(),
  endsQuietly: fc.constantFrom(true, false, false, false, false, false),
});

test("whatever happens, in whatever order, every answer is one that the chain allows", async () => {
  await fc.assert(
    fc.asyncProperty(
      options,
      moves,
      async (
        {
          versioned,
          ttls: [flagTtlMs = TTL, overrideTtlMs = TTL],
          overrideEntriesMax,
          jitter,
          seed,
          endsQuietly,
        },
        moves,
      ) => {
        await using world = new World({
          table,
          flagIds,
          entityIds,
          versioned,
          flagTtlMs,
          overrideTtlMs,
          overrideEntriesMax,
          jitter,
          random: randomFrom(seed),
        });
        for (const move of moves) await move.run(world);
        await world.settle();
        if (endsQuietly) await world.quietHour();
        expect(world.namespace.ready).toBe(true);
      },
    ),
    { numRuns: size(300, 6_000) },
  );
}, 600_000);

/** Numbers from 0 to 1 that only look like chance. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
