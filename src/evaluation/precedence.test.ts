import fc from "fast-check";
import { expect, test } from "vitest";
import { defineFlag, flagValue, overrideOf, stateOf } from "../../test/support/flag-builders.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import {
  decide as decideFor,
  decideForAll,
  type Evaluation,
  type KnownForAll,
  type Source,
} from "./precedence.ts";
import type { FlagState, Found, Mode, Override } from "./state.ts";

const flag = defineFlag("digest/1");
const daily = flag.defaultValue;
const weekly = flagValue("weekly");
const never = flagValue("never");
const wrongType = flagValue(true);

/** All that can be known of a flag. */
interface Known extends KnownForAll {
  readonly override: Found<Override> | undefined;
}

/** Both halves of the chain. */
function decide(known: Known): Evaluation {
  return decideFor({ ...known, forAll: decideForAll(known) });
}

const KINDS = ["fresh", "stale", "cached"] as const;
const MODES = ["enabled", "default", "killed"] as const;
const nothing: Known = {
  definition: flag,
  killed: false,
  override: undefined,
  state: { kind: "unavailable" },
};
const noRow = { kind: "fresh", value: undefined } as const;

test("every global state decides as the chain says, at every freshness", () => {
  const cases: [Partial<FlagState>, FlagValue | undefined, Source][] = [
    [{ mode: "enabled" }, weekly, "global"],
    [{ mode: "enabled", value: undefined }, daily, "default"],
    [{ mode: "enabled", value: wrongType }, daily, "default"],
    [{ mode: "default" }, daily, "default"],
    [{ mode: "killed" }, daily, "killed"],
    [{ mode: "killed", value: undefined }, daily, "killed"],
    [{ mode: "enabled", archived: true }, weekly, "archived"],
    [{ mode: "default", archived: true }, weekly, "archived"],
    [{ mode: "default", archived: true, value: undefined }, daily, "default"],
    [{ mode: "default", archived: true, value: wrongType }, daily, "default"],
    [{ mode: "killed", archived: true }, daily, "killed"],
  ];
  for (const kind of KINDS) {
    for (const [row, value, source] of cases) {
      const answer = decide({ ...nothing, state: { kind, value: stateOf("digest/1", row) } });
      expect(answer, `${kind} ${JSON.stringify(row)}`).toEqual({ value, source: aged(source, kind) });
    }
    expect(decide({ ...nothing, state: { kind, value: undefined } })).toEqual({
      value: daily,
      source: "default",
    });
  }
  expect(decide(nothing)).toEqual({ value: daily, source: "default" });
});

test("every override that is known decides, and one that is not leaves it to the global state", () => {
  const state = { kind: "fresh", value: stateOf("digest/1") } as const;
  const cases: [Partial<Override>, FlagValue | undefined, Source][] = [
    [{ mode: "enabled" }, never, "override"],
    [{ mode: "enabled", value: undefined }, daily, "default"],
    [{ mode: "enabled", value: wrongType }, daily, "default"],
    [{ mode: "default" }, daily, "default"],
    [{ mode: "killed" }, daily, "default"],
  ];
  for (const kind of KINDS) {
    for (const [row, value, source] of cases) {
      const override = { kind, value: overrideOf("digest/1", "user-1", row) };
      const answer = decide({ ...nothing, state, override });
      expect(answer, `${kind} ${JSON.stringify(row)}`).toEqual({ value, source: aged(source, kind) });
    }
  }
  const unknown: (Found<Override> | undefined)[] = [
    undefined,
    noRow,
    { kind: "cached", value: undefined },
    { kind: "unavailable" },
  ];
  for (const override of unknown) {
    expect(decide({ ...nothing, state, override })).toEqual({ value: weekly, source: "global" });
  }
});

test("an override of a flag that does not vary, or that is not defined, has no say", () => {
  const override = { kind: "fresh", value: overrideOf("digest/1", "user-1") } as const;
  const state = { kind: "fresh", value: stateOf("digest/1") } as const;
  for (const definition of [defineFlag("digest/1", { layer: "" }), undefined]) {
    expect(decide({ definition, killed: false, override, state })).toEqual({
      value: weekly,
      source: "global",
    });
  }
});

test("a flag in the kill set answers its default whatever else is known", () => {
  for (const kind of KINDS) {
    for (const mode of MODES) {
      const state = { kind, value: stateOf("digest/1", { mode, archived: mode === "default" }) };
      const override = { kind, value: overrideOf("digest/1", "user-1", { mode }) };
      expect(decide({ definition: flag, killed: true, state, override })).toEqual({
        value: daily,
        source: "killed",
      });
    }
  }
});

test("a flag without a compiled default answers no value", () => {
  const definition = defineFlag("digest/2", { defaultValue: undefined });
  expect(decide({ ...nothing, definition })).toEqual({ value: undefined, source: "default" });
  expect(decide({ ...nothing, definition, killed: true })).toEqual({ value: undefined, source: "killed" });
});

test("a row without a definition is served if its value has the row's own type", () => {
  const served = (row: Partial<FlagState>) =>
    decide({ ...nothing, definition: undefined, state: { kind: "fresh", value: stateOf("old/1", row) } });
  expect(served({})).toEqual({ value: weekly, source: "global" });
  expect(served({ archived: true })).toEqual({ value: weekly, source: "archived" });
  expect(served({ type: "BOOL" })).toEqual({ value: undefined, source: "default" });
  expect(served({ type: undefined })).toEqual({ value: weekly, source: "global" });
  expect(served({ mode: "killed" })).toEqual({ value: undefined, source: "killed" });
});

test("decide() agrees with a short reference for everything that can be known", () => {
  fc.assert(
    fc.property(knowledge, (known) => {
      expect(decide(known)).toEqual(reference(known));
    }),
    { numRuns: 5_000 },
  );
});

/** The chain of the documentation, read line by line. */
function reference({ definition, killed, override, state }: Known) {
  const byDefault = (source: Source) => ({ value: definition?.defaultValue, source });
  const type = definition?.type ?? known(state)?.type;
  const right = (value: FlagValue | undefined, of = type) =>
    value !== undefined && (of === undefined || (value.value.case === "stringValue") === (of === "STRING"));
  if (killed) return byDefault("killed");
  const row = known(override);
  if (definition !== undefined && definition.layer !== "" && row !== undefined) {
    if (row.mode !== "enabled" || !right(row.value, definition.type)) return byDefault("default");
    return { value: row.value, source: aged("override", kindOf(override)) };
  }
  const global = known(state);
  if (global?.mode === "killed") return byDefault("killed");
  if (global?.archived && right(global.value))
    return { value: global.value, source: aged("archived", kindOf(state)) };
  if (global?.mode === "enabled" && right(global.value)) {
    return { value: global.value, source: aged("global", kindOf(state)) };
  }
  return byDefault("default");
}

function known<T>(found: Found<T> | undefined): T | undefined {
  return found === undefined || found.kind === "unavailable" ? undefined : found.value;
}

function kindOf(found: Found<unknown> | undefined): (typeof KINDS)[number] {
  return found === undefined || found.kind === "unavailable" ? "fresh" : found.kind;
}

function aged(source: Source, kind: (typeof KINDS)[number]): Source {
  const isValue = source === "global" || source === "override" || source === "archived";
  return isValue && kind !== "fresh" ? kind : source;
}

const anyMode = fc.constantFrom<Mode>(...MODES);
const anyValue = fc.constantFrom<FlagValue | undefined>(undefined, weekly, never, wrongType);
const anyDefinition = fc.constantFrom(
  undefined,
  flag,
  defineFlag("digest/1", { defaultValue: undefined }),
  defineFlag("digest/1", { layer: "" }),
);

function found<T>(value: fc.Arbitrary<T>): fc.Arbitrary<Found<T>> {
  return fc.oneof(
    fc.record({ kind: fc.constantFrom(...KINDS), value: fc.option(value, { nil: undefined }) }),
    fc.constant({ kind: "unavailable" } as const),
  );
}

const anyState = fc
  .record({
    mode: anyMode,
    value: anyValue,
    archived: fc.boolean(),
    type: fc.constantFrom("STRING" as const, "BOOL" as const, undefined),
  })
  .map((row) => stateOf("digest/1", row));
const anyOverride = fc
  .record({ mode: anyMode, value: anyValue })
  .map((row) => overrideOf("digest/1", "user-1", row));

const knowledge: fc.Arbitrary<Known> = fc.record({
  definition: anyDefinition,
  killed: fc.boolean(),
  override: fc.option(found(anyOverride), { nil: undefined }),
  state: found(anyState),
});
