import { toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import { toWireVersion } from "../evaluation/wire-version.ts";
import type { FlagTable } from "../flags/definition.ts";
import {
  type FlagRow,
  type GetEntityOverridesResponse,
  type GetFlagStatesResponse,
  GetFlagStatesResponseSchema,
} from "../gen/pbflagd/v1/state_pb.ts";
import { State, FlagType as WireType } from "../gen/pbflags/v1/types_pb.ts";
import { openNamespace } from "../namespaces/namespace.ts";
import { Latest } from "../system/latest.ts";
import { createStateService } from "./state-service.ts";

const table = tableOf(defineFlag("a/1"), defineFlag("a/2"));

async function openService(prepare: (store: MemoryStore) => void = () => {}, flags: FlagTable = table) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  store.set(stateOf("a/1"));
  store.set(stateOf("a/2", { mode: "killed" }));
  store.setOverride(overrideOf("a/1", "ann"));
  prepare(store);
  const namespace = openNamespace({
    flags: new Latest(flags),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: 30_000,
    flagTtlMs: 300_000,
    overrideTtlMs: 300_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  await settle();
  const service = createStateService({ namespace, catchUpTimeoutMs: 500, version: "1.2.3", clock });
  const caller = { signal: new AbortController().signal, timeoutMs: () => undefined } as never;
  const { getStatus, getFlagStates, getEntityOverrides, getKills, getDescriptorSet } = service as {
    readonly [K in keyof typeof service]: (request: object, context: never) => Promise<unknown>;
  };
  return {
    clock,
    store,
    version: () => toWireVersion(store.versionAt(store.head)),
    status: () => getStatus({}, caller),
    flagStates: async (request: object) => getFlagStates(request, caller),
    overrides: async (request: object) => getEntityOverrides(request, caller),
    kills: async (request: object) => getKills(request, caller),
    descriptorSet: async (request: object) => getDescriptorSet(request, caller),
    [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose](),
  };
}

test("says how its store does, and what it knows", async () => {
  await using service = await openService();
  expect(await service.status()).toMatchObject({
    status: 2,
    version: service.version(),
    descriptorHash: "",
    serverVersion: "1.2.3",
  });
});

test("tells rows with the version they hold at, and how old they are; absent ones are left out", async () => {
  await using service = await openService();
  await service.clock.advance(7_000);
  expect(await service.flagStates({ flagIds: ["a/1", "ghost/1"] })).toMatchObject({
    version: service.version(),
    ageMs: 7_000n,
    rows: [{ flagId: "a/1", state: State.ENABLED, flagType: WireType.STRING, value: flagValue("weekly") }],
    unknownFlagIds: [],
  });
});

test("what cannot be told is unknown, not absent, and if nothing can be told there is no answer", async () => {
  await using service = await openService();
  await service.overrides({ entityIds: ["ann"] });
  service.store.away = true;
  expect(await service.overrides({ entityIds: ["ann", "stranger"] })).toMatchObject({
    rows: [{ flagId: "a/1", entityId: "ann" }],
    unknownEntityIds: ["stranger"],
  });
  await expect(service.overrides({ entityIds: ["stranger"] })).rejects.toMatchObject({
    code: Code.Unavailable,
  });
});

test("what is too much for one answer is told by and by, and what would be so alone comes without its value", async () => {
  const mebibytes = (count: number) => flagValue("x".repeat(count * 1024 * 1024));
  await using service = await openService((store) => {
    store.set(stateOf("a/1", { value: mebibytes(3) }));
    store.set(stateOf("a/2", { value: mebibytes(5) }));
    store.set(stateOf("a/3", { value: mebibytes(9), mode: "killed" }));
    for (const entityId of ["ann", "bob"])
      for (const flagId of ["a/1", "a/2", "a/3"])
        store.setOverride(overrideOf(flagId, entityId, { value: mebibytes(1) }));
    store.setOverride(overrideOf("a/1", "eve", { value: mebibytes(4) }));
    store.setOverride(overrideOf("a/2", "eve", { value: mebibytes(4) }));
  });
  const told: string[] = [];
  const rows: FlagRow[] = [];
  let left = ["a/1", "a/2", "a/3", "ghost/1"];
  while (left.length > 0) {
    const answer = (await service.flagStates({ flagIds: left })) as GetFlagStatesResponse;
    expect(toBinary(GetFlagStatesResponseSchema, answer).length).toBeLessThan(6 * 1024 * 1024);
    expect(answer.unknownFlagIds.length).toBeLessThan(left.length);
    told.push(answer.rows.map(({ flagId }) => flagId).join(" "));
    left = answer.unknownFlagIds;
    rows.push(...answer.rows);
  }
  // The large one was not to be had beside others: whoever asks for it first gets it.
  expect(told).toEqual(["a/1 a/3", "a/2"]);
  const [, tooLarge] = rows;
  expect(tooLarge?.value).toBeUndefined();
  expect(tooLarge).toMatchObject({
    state: State.KILLED,
    invalid: expect.stringMatching(/^expected at most \d+ bytes to hand on, got \d+$/),
  });

  // An entity's overrides are told all together.
  const some = (await service.overrides({ entityIds: ["ann", "bob", "eve"] })) as GetEntityOverridesResponse;
  expect(some.rows.map(({ entityId }) => entityId)).toEqual(["ann", "ann", "ann", "eve", "eve"]);
  expect(some.rows.slice(3).every(({ value, invalid }) => value === undefined && invalid !== "")).toBe(true);
  expect(some.unknownEntityIds).toEqual(["bob"]);
});

test("the kill set is told whole, or as unchanged to whoever has it, with what changed since", async () => {
  await using service = await openService();
  const first = service.version();
  expect(await service.kills({})).toMatchObject({ version: first, unchanged: false, flagIds: ["a/2"] });
  expect(await service.kills({ since: first })).toMatchObject({ unchanged: true, flagIds: [] });

  service.store.set(stateOf("a/1", { mode: "killed" }));
  await service.clock.advance(30_000);
  expect(await service.kills({ since: first })).toMatchObject({
    unchanged: false,
    flagIds: ["a/1", "a/2"],
    overridesUnchanged: true,
    changes: { flagIds: ["a/1"], entityIds: [] },
  });

  service.store.setOverride(overrideOf("a/1", "ann", { mode: "killed" }));
  await service.clock.advance(30_000);
  const killedOverrides = [{ flagId: "a/1", entityId: "ann" }];
  expect(await service.kills({ since: first })).toMatchObject({
    overridesUnchanged: false,
    killedOverrides,
    changes: { flagIds: ["a/1"], entityIds: ["ann"] },
  });
  expect(await service.kills({})).toMatchObject({ overridesUnchanged: false, killedOverrides });
  const foreign = { epoch: "another", revision: 1n };
  const told = await service.kills({ since: foreign });
  expect(told).toMatchObject({ unchanged: false, flagIds: ["a/1", "a/2"] });
  expect(told).not.toHaveProperty("changes.flagIds");
});

test("who knows of a newer version gets that one, without waiting for the next poll", async () => {
  await using service = await openService();
  service.store.set(stateOf("a/1", { value: flagValue("hourly") }));
  const asked = service.flagStates({ flagIds: ["a/1"], minVersion: service.version() });
  await service.clock.advance(400);
  expect(await asked).toMatchObject({
    version: service.version(),
    rows: [{ value: flagValue("hourly") }],
  });
});

test("a version that cannot be had is answered with what there is, in time", async () => {
  await using service = await openService();
  const { revision, epoch } = service.version();
  let answered = false;
  const asked = service.kills({ minVersion: { epoch, revision: revision + 5n } }).finally(() => {
    answered = true;
  });
  await service.clock.advance(500);
  expect(answered).toBe(true);
  expect(await asked).toMatchObject({ version: { epoch, revision } });
});

test.each([
  ["too many ids", { flagIds: Array.from({ length: 1_001 }, (_, i) => `a/${i}`) }, "at most 1000 flag_ids"],
  ["an empty id", { flagIds: ["a/1", ""] }, "one of flag_ids is empty"],
  [
    "a version without epoch",
    { flagIds: ["a/1"], minVersion: { epoch: "", revision: 1n } },
    "its epoch must have 1 to 200 characters, got 0",
  ],
  [
    "a negative revision",
    { flagIds: ["a/1"], minVersion: { epoch: "one", revision: -1n } },
    "its revision must be from 0",
  ],
])("%s is the caller's mistake", async (_, request, message) => {
  await using service = await openService();
  const failure = await service.flagStates(request).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: Code.InvalidArgument });
  expect(String(failure)).toContain(message);
});

test("ids that cannot exist are absent: nobody is asked, and nothing is remembered", async () => {
  await using service = await openService();
  service.store.calls.length = 0;
  const long = "x".repeat(1_000);
  const told = await service.flagStates({ flagIds: [long, "a/1", "a\n/1"] });
  expect(told).toMatchObject({ rows: [{ flagId: "a/1" }], unknownFlagIds: [], deviations: [] });
  expect(await service.overrides({ entityIds: [long] })).toMatchObject({ rows: [], unknownEntityIds: [] });
  expect(service.store.calls).toEqual([]);
});

test("before the store has been heard, the kill set is unavailable and never empty", async () => {
  await using service = await openService((store) => {
    store.away = true;
  });
  await expect(service.kills({})).rejects.toMatchObject({ code: Code.Unavailable });
  await expect(service.descriptorSet({})).rejects.toMatchObject({ code: Code.Unavailable });
  expect(await service.status()).not.toHaveProperty("version.epoch");
});

test("a descriptor set comes in parts, and none to whoever has it", async () => {
  const bytes = new Uint8Array(5 * 1024 * 1024).fill(7);
  await using service = await openService(() => {}, { ...table, descriptorSet: { bytes, hash: "abc" } });
  const first = (await service.descriptorSet({ knownHash: "", offset: 0n })) as { descriptorSet: Uint8Array };
  expect(first).toMatchObject({ hash: "abc", totalBytes: BigInt(bytes.length) });
  const offset = BigInt(first.descriptorSet.length);
  const rest = (await service.descriptorSet({ knownHash: "", offset })) as { descriptorSet: Uint8Array };
  expect(first.descriptorSet.length + rest.descriptorSet.length).toBe(bytes.length);
  expect(await service.descriptorSet({ knownHash: "abc", offset: 0n })).toMatchObject({
    hash: "abc",
    descriptorSet: new Uint8Array(),
  });
  const beyond = await service.descriptorSet({ offset: 10n ** 9n }).catch((error: unknown) => error);
  expect(beyond).toMatchObject({ code: Code.InvalidArgument });
  expect((await service.status()) as object).toMatchObject({ descriptorHash: "abc" });
});
