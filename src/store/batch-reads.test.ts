import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { flagValue } from "../../test/support/flag-builders.ts";
import {
  GetEntityOverridesResponseSchema,
  GetFlagStatesResponseSchema,
  GetKillsResponseSchema,
} from "../gen/pbflagd/v1/state_pb.ts";
import { FlagType, State } from "../gen/pbflags/v1/types_pb.ts";
import type { Reached } from "../upstream/pool/upstream-pool.ts";
import { BatchReads } from "./batch-reads.ts";

const V3 = { epoch: "one", revision: 3 };
const WIRE_V3 = { epoch: "one", revision: 3n };

/** An upstream that answers these, one after the other, and notes what it was asked. */
function upstreamOf<O extends DescMessage>(schema: O, ...answers: MessageInitShape<O>[]) {
  const asked: unknown[] = [];
  const upstream: Reached = {
    name: "a",
    kind: "pbflagd",
    async call(method, request) {
      asked.push(create(method.input, request));
      const [answer] = answers.splice(0, 1);
      return create(schema, answer) as unknown as MessageShape<typeof method.output>;
    },
  };
  return { upstream, asked };
}

test("a batch is one call, whatever it brings: rows, absent ones, unknown ones, and those of another version", async () => {
  const { upstream, asked } = upstreamOf(GetFlagStatesResponseSchema, {
    version: WIRE_V3,
    ageMs: 40n,
    rows: [
      { flagId: "a/1", state: State.ENABLED, value: flagValue("x"), flagType: FlagType.STRING },
      { flagId: "a/2", state: State.KILLED, archived: true, invalid: "torn" },
    ],
    unknownFlagIds: ["a/4"],
    deviations: [{ id: "a/3", version: { epoch: "one", revision: 2n }, ageMs: 900n }],
  });
  const batch = await new BatchReads().flagStates(upstream, ["a/1", "a/2", "a/3", "a/4"], V3);
  expect(asked).toMatchObject([{ flagIds: ["a/1", "a/2", "a/3", "a/4"], minVersion: WIRE_V3 }]);
  expect(batch).toMatchObject({ version: V3, ageMs: 40 });
  expect([...batch.value.values()]).toMatchObject([
    { flagId: "a/1", mode: "enabled", type: "STRING", value: flagValue("x"), archived: false },
    { flagId: "a/2", mode: "killed", type: undefined, archived: true, invalid: "torn" },
  ]);
  expect([...(batch.untold ?? [])]).toEqual(["a/4"]);
  expect(batch.deviations?.get("a/3")).toEqual({ version: { epoch: "one", revision: 2 }, ageMs: 900 });
});

test("overrides come by entity, and an entity that has none is absent", async () => {
  const { upstream } = upstreamOf(GetEntityOverridesResponseSchema, {
    version: WIRE_V3,
    rows: [
      { flagId: "a/1", entityId: "ann", state: State.ENABLED, value: flagValue("x") },
      { flagId: "a/2", entityId: "ann", state: State.KILLED },
    ],
    unknownEntityIds: ["eve"],
  });
  const { value, untold } = await new BatchReads().overrides(upstream, ["ann", "bob", "eve"], undefined);
  expect([...value].map(([entityId, overrides]) => [entityId, [...overrides.keys()]])).toEqual([
    ["ann", ["a/1", "a/2"]],
  ]);
  expect([...(untold ?? [])]).toEqual(["eve"]);
});

test.each([
  ["a row that was not asked for", { rows: [{ flagId: "b/1", state: State.ENABLED }] }],
  ["a row without a flag", { rows: [{ flagId: "", state: State.ENABLED }] }],
  ["a version without an epoch", { version: { epoch: "", revision: 1n } }],
  ["a negative revision", { version: { epoch: "one", revision: -1n } }],
  ["a revision that no database reaches", { version: { epoch: "one", revision: 2n ** 60n } }],
  ["an epoch that never ends", { version: { epoch: "x".repeat(300), revision: 1n } }],
  [
    "two rows of one flag",
    {
      rows: [
        { flagId: "a/1", state: State.ENABLED },
        { flagId: "a/1", state: State.KILLED },
      ],
    },
  ],
  ["two versions of one row", { deviations: [{ id: "a/1" }, { id: "a/1", version: WIRE_V3 }] }],
  ["such a version of one row", { deviations: [{ id: "a/1", version: { epoch: "", revision: 1n } }] }],
])("an answer with %s is none", async (_, answer) => {
  const { upstream } = upstreamOf(GetFlagStatesResponseSchema, answer);
  // By this code the pool knows that another upstream may know better.
  await expect(new BatchReads().flagStates(upstream, ["a/1"], undefined)).rejects.toMatchObject({
    name: "UpstreamError",
    code: "answer",
    message: expect.stringContaining("got"),
  });
});

test("two overrides of one flag for one entity are no answer; of two entities they are one", async () => {
  const row = { flagId: "a/1", entityId: "ann", state: State.ENABLED };
  const { upstream } = upstreamOf(
    GetEntityOverridesResponseSchema,
    { rows: [row, { ...row, state: State.KILLED }] },
    { rows: [row, { ...row, entityId: "bob" }] },
  );
  const ask = () => new BatchReads().overrides(upstream, ["ann", "bob"], undefined);
  await expect(ask()).rejects.toThrow('"a/1" must be there once, got twice');
  expect((await ask()).value.size).toBe(2);
});

test("an age and a reason that never end are cut to what others can be told", async () => {
  const { upstream } = upstreamOf(GetFlagStatesResponseSchema, {
    ageMs: 2n ** 63n - 1n,
    rows: [{ flagId: "a/1", state: State.DEFAULT, invalid: "x".repeat(10_000) }],
  });
  const { ageMs, value } = await new BatchReads().flagStates(upstream, ["a/1"], undefined);
  expect(ageMs).toBe(100 * 365 * 86_400_000);
  expect(value.get("a/1")?.invalid).toHaveLength(500);
});

test("who says that nothing changed, and is of another database, is not believed", async () => {
  const reads = new BatchReads();
  const { upstream } = upstreamOf(
    GetKillsResponseSchema,
    { version: WIRE_V3, flagIds: ["a/1"] },
    { version: { epoch: "two", revision: 3n }, unchanged: true, changes: {} },
    { unchanged: true, changes: {} },
  );
  await reads.kills(upstream, undefined, undefined);
  for (const got of ['"two:3"', "none"])
    await expect(reads.kills(upstream, V3, undefined)).rejects.toMatchObject({
      code: "answer",
      message: expect.stringContaining(`of the known version or a later one, got ${got}`),
    });
});

test("a kill set that has not changed is the one that was told last", async () => {
  const reads = new BatchReads();
  const { upstream, asked } = upstreamOf(
    GetKillsResponseSchema,
    { version: WIRE_V3, flagIds: ["a/1"], killedOverrides: [{ flagId: "a/2", entityId: "ann" }] },
    { version: WIRE_V3, unchanged: true, changes: {} },
  );
  const first = await reads.kills(upstream, undefined, undefined);
  expect(first.value.changes).toEqual({ kind: "unknown" });
  const second = await reads.kills(upstream, V3, undefined);
  expect(asked).toMatchObject([{}, { since: WIRE_V3 }]);
  expect([...second.value.flagIds]).toEqual(["a/1"]);
  expect(second.value.overrides).toBeUndefined();
  expect(second.value.changes).toMatchObject({ kind: "listed", flagIds: [], entityIds: [] });
});

test("killed overrides that are as they were are not sent again", async () => {
  const { upstream } = upstreamOf(GetKillsResponseSchema, {
    version: { ...WIRE_V3, revision: 4n },
    flagIds: ["a/1"],
    overridesUnchanged: true,
    changes: { flagIds: ["a/1"] },
  });
  const { value } = await new BatchReads().kills(upstream, V3, undefined);
  expect([...value.flagIds]).toEqual(["a/1"]);
  expect(value.overrides).toBeUndefined();
});

test("who says that nothing changed since a version that was never told here is asked for all of it", async () => {
  const { upstream, asked } = upstreamOf(
    GetKillsResponseSchema,
    { version: WIRE_V3, unchanged: true, changes: {} },
    { version: WIRE_V3, flagIds: ["a/7"] },
  );
  const { value } = await new BatchReads().kills(upstream, V3, undefined);
  expect(asked).toHaveLength(2);
  expect([...value.flagIds]).toEqual(["a/7"]);
  expect(value.overrides).toEqual([]);
});
