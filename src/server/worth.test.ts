import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../../test/support/flag-builders.ts";
import { MemoryStore } from "../../test/support/memory-store.ts";
import { silentEvents } from "../../test/support/silent-events.ts";
import type { Evaluation } from "../evaluation/precedence.ts";
import { formatVersion, type Version } from "../evaluation/version.ts";
import { EvaluationSource } from "../gen/pbflags/v1/evaluator_pb.ts";
import { State } from "../gen/pbflags/v1/types_pb.ts";
import { type NamespaceOptions, openNamespace } from "../namespaces/namespace.ts";
import { Latest } from "../system/latest.ts";
import { createEvaluatorService } from "./evaluator-service.ts";
import { toWireSource } from "./to-wire.ts";
import { createWorth } from "./worth.ts";

const TIMEOUT_MS = 500;
const table = tableOf(defineFlag("a/1"), defineFlag("a/2"), defineFlag("a/3", { layer: "" }));

interface Options extends Partial<NamespaceOptions> {
  readonly prepare?: (store: MemoryStore) => void;
}

/** The evaluator's RPCs over a store in memory, as whoever calls them sees them. */
async function openService({ prepare = () => {}, ...options }: Options = {}) {
  const clock = new FakeClock();
  const store = new MemoryStore();
  store.set(stateOf("a/1"));
  store.set(stateOf("a/2", { mode: "killed" }));
  store.setOverride(overrideOf("a/1", "ann"));
  prepare(store);
  const namespace = openNamespace({
    flags: new Latest(table),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: 3_600_000,
    flagTtlMs: 3_600_000,
    overrideTtlMs: 3_600_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
    ...options,
  });
  await settle();
  const service = createEvaluatorService({
    namespace,
    evaluating: namespace,
    bulkFlagsMax: 100,
    worth: createWorth({ namespace, timeoutMs: TIMEOUT_MS, clock }),
  }) as unknown as Readonly<Record<string, (request: object, call: object) => unknown>>;

  /** What an RPC answers, or the error it fails with, and the headers of it. */
  async function call(
    method: string,
    request: object,
    { min, signal = new AbortController().signal }: { min?: string | Version; signal?: AbortSignal } = {},
  ): Promise<{ answer: unknown; headers: Readonly<Record<string, string>> }> {
    const requestHeader = new Headers();
    if (min !== undefined)
      requestHeader.set("pbflags-min-version", typeof min === "string" ? min : formatVersion(min));
    const responseHeader = new Headers();
    const answer = await Promise.resolve()
      .then(() => service[method]?.(request, { requestHeader, responseHeader, signal }))
      .catch((error: unknown) => error);
    return { answer, headers: Object.fromEntries(responseHeader) };
  }

  return {
    clock,
    store,
    namespace,
    service,
    call,
    now: () => store.versionAt(store.head),
    evaluate: async (flagId: string, entityId: string, min?: string | Version) =>
      (await call("evaluate", { flagId, entityId }, min === undefined ? {} : { min })).answer,
    [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose](),
  };
}

/** Turns the clock until a call is answered, and says how long that took. */
async function timed<T>(clock: FakeClock, call: Promise<T>): Promise<{ answer: T; tookMs: number }> {
  const beganAt = clock.now();
  const state = { isDone: false };
  void call.finally(() => {
    state.isDone = true;
  });
  await settle();
  while (!state.isDone) await clock.advance(5);
  return { answer: await call, tookMs: clock.now() - beganAt };
}

function failedPrecondition(message: string) {
  return expect.objectContaining({ code: Code.FailedPrecondition, rawMessage: message });
}

const EVERY_RPC: readonly (readonly [string, object])[] = [
  ["evaluate", { flagId: "a/1", entityId: "ann" }],
  ["bulkEvaluate", { flagIds: [], entityId: "ann" }],
  ["getFlagState", { flagId: "a/1" }],
  ["getKilledFlags", {}],
  ["getOverrides", { entityId: "ann", flagIds: [] }],
  ["health", {}],
];

test.each(EVERY_RPC)("%s says at which version it answers, and how old that is", async (method, request) => {
  await using service = await openService();
  await service.clock.advance(7_400);
  const { headers } = await service.call(method, request);
  expect(headers).toEqual({
    "pbflags-version": formatVersion(service.now()),
    "pbflags-state-age-ms": "7400",
  });
});

test("the version is that of the kill set, not of what nobody has heard of yet", async () => {
  await using service = await openService();
  const before = formatVersion(service.now());
  service.store.set(stateOf("a/1", { value: flagValue("hourly") }));
  expect((await service.call("evaluate", { flagId: "a/1", entityId: "" })).headers["pbflags-version"]).toBe(
    before,
  );
  await service.clock.advance(3_600_000);
  const { headers } = await service.call("evaluate", { flagId: "a/1", entityId: "" });
  expect(headers).toEqual({ "pbflags-version": formatVersion(service.now()), "pbflags-state-age-ms": "0" });
});

test("an answer that is an error says it, too", async () => {
  await using service = await openService();
  const { answer, headers } = await service.call("getFlagState", { flagId: "ghost/1" });
  expect(answer).toMatchObject({ code: Code.NotFound });
  expect(headers["pbflags-version"]).toBe(formatVersion(service.now()));
});

test.each<[string, (store: MemoryStore) => void]>([
  ["the store has no versions", (store) => (store.versioned = false)],
  ["nothing is known", (store) => (store.away = true)],
  ["no header can carry the version", (store) => (store.epoch = "päpstlich\n")],
])("there are no headers where %s", async (_, prepare) => {
  await using service = await openService({ prepare });
  for (const [method, request] of EVERY_RPC) {
    expect((await service.call(method, request)).headers).toEqual({});
  }
});

test("who asks for no version is answered in the same turn", async () => {
  const told: string[] = [];
  const events = {
    ...silentEvents,
    onEvaluation: (_flagId: string, _entityId: string, { source }: Evaluation) => void told.push(source),
  };
  await using service = await openService({ events });
  await service.evaluate("a/1", "ann");
  const call = {
    requestHeader: new Headers(),
    responseHeader: new Headers(),
    signal: new AbortController().signal,
  };
  const answer = service.service["evaluate"]?.({ flagId: "a/1", entityId: "ann" }, call);
  expect(told).toEqual(["override", "override"]);
  await answer;
});

test("who asks for a version that is known is answered from memory", async () => {
  await using service = await openService();
  await service.evaluate("a/1", "ann");
  const calls = service.store.calls.length;
  const { answer, tookMs } = await timed(service.clock, service.evaluate("a/1", "ann", service.now()));
  expect([answer, tookMs]).toMatchObject([{ source: EvaluationSource.OVERRIDE }, 0]);
  expect(service.store.calls).toHaveLength(calls);
});

test.each([
  ["memory", {}],
  ["write-through", { flagTtlMs: 0, overrideTtlMs: 0 }],
  ["a memory for nobody", { overrideEntriesMax: 1 }],
])("with %s, who asks for his write's version gets what he wrote", async (_, options) => {
  await using service = await openService(options);
  const { store, evaluate, call, now, clock } = service;
  for (const entityId of ["ann", "bob", ""]) await evaluate("a/1", entityId);

  store.set(stateOf("a/1", { value: flagValue("hourly") }));
  expect(await evaluate("a/1", "bob", now())).toMatchObject({
    value: flagValue("hourly"),
    source: EvaluationSource.GLOBAL,
  });
  await clock.advance(1_000);
  store.setOverride(overrideOf("a/1", "ann", { value: flagValue("yearly") }));
  expect(await evaluate("a/1", "ann", now())).toMatchObject({
    value: flagValue("yearly"),
    source: EvaluationSource.OVERRIDE,
  });
  await clock.advance(1_000);
  store.removeOverride("a/1", "ann");
  expect(await evaluate("a/1", "ann", now())).toMatchObject({ value: flagValue("hourly") });
  await clock.advance(1_000);
  store.set(stateOf("a/2"));
  store.set(stateOf("a/1", { mode: "killed" }));
  const bulk = await call(
    "bulkEvaluate",
    { flagIds: ["a/1", "a.flag_2", "a/3"], entityId: "ann" },
    { min: now() },
  );
  expect(bulk.answer).toMatchObject({
    evaluations: [
      { flagId: "a/1", source: EvaluationSource.KILLED },
      { flagId: "a.flag_2", source: EvaluationSource.GLOBAL },
      { flagId: "a/3", source: EvaluationSource.DEFAULT },
    ],
  });
  expect(bulk.headers["pbflags-version"]).toBe(formatVersion(now()));
});

test("the state RPCs wait as evaluations do", async () => {
  await using service = await openService();
  const { store, call, now, clock } = service;
  await call("getOverrides", { entityId: "ann", flagIds: [] });
  store.set(stateOf("a/1", { mode: "killed" }));
  expect((await call("getFlagState", { flagId: "a.flag_1" }, { min: now() })).answer).toMatchObject({
    flag: { state: State.KILLED },
  });
  await clock.advance(1_000);
  store.set(stateOf("a/2"));
  expect((await call("getKilledFlags", {}, { min: now() })).answer).toMatchObject({ flagIds: ["a/1"] });
  await clock.advance(1_000);
  store.removeOverride("a/1", "ann");
  const overrides = await call("getOverrides", { entityId: "ann", flagIds: [] }, { min: now() });
  expect(overrides.answer).toMatchObject({ overrides: [] });
});

test("health waits for nothing: it is about the store, not of it", async () => {
  await using service = await openService();
  const { answer } = await service.call("health", {}, { min: "elsewhere:7" });
  expect(answer).not.toBeInstanceOf(ConnectError);
});

test("a replica that lags is asked again until it has the version", async () => {
  await using service = await openService();
  const { store, clock, now, evaluate } = service;
  store.set(stateOf("a/1", { value: flagValue("hourly") }));
  store.plan = () => (clock.now() < 240 ? { commitsBehind: 1 } : {});
  const { answer, tookMs } = await timed(clock, evaluate("a/1", "", now()));
  expect(answer).toMatchObject({ value: flagValue("hourly"), source: EvaluationSource.GLOBAL });
  expect(tookMs).toBeGreaterThanOrEqual(240);
  expect(tookMs).toBeLessThan(TIMEOUT_MS);
});

test.each([
  ["a flag", "flagStates", ""],
  ["an entity", "overrides", "ann"],
] as const)(
  "the rows of %s are waited for, too: a kill poll may be ahead of them",
  async (_, operation, entityId) => {
    await using service = await openService();
    const { store, clock, now, evaluate } = service;
    await evaluate("a/1", "ann");
    store.set(stateOf("a/1", { value: flagValue("hourly") }));
    store.setOverride(overrideOf("a/1", "ann", { value: flagValue("yearly") }));
    store.plan = (call) => (call.operation === operation && clock.now() < 200 ? { commitsBehind: 2 } : {});
    const { answer, tookMs } = await timed(clock, evaluate("a/1", entityId, now()));
    expect(answer).toMatchObject({ value: flagValue(entityId === "" ? "hourly" : "yearly") });
    expect(tookMs).toBeGreaterThanOrEqual(200);
  },
);

test("a replica that lags does not bring back what is known to be removed", async () => {
  await using service = await openService({ overrideEntriesMax: 1 });
  const { store, now, evaluate, clock } = service;
  // The memory is full of somebody else: who has no overrides is forgotten at once.
  store.setOverride(overrideOf("a/1", "zoe"));
  await evaluate("a/1", "zoe");
  store.removeOverride("a/1", "ann");
  let asked = 0;
  store.plan = ({ keys }) => (keys.includes("ann") && ++asked > 1 ? { commitsBehind: 1 } : {});
  const { answer } = await timed(clock, evaluate("a/1", "ann", now()));
  expect(answer).toMatchObject({
    value: flagValue("weekly"),
    source: EvaluationSource.GLOBAL,
  });
});

test("a killed flag waits for no row", async () => {
  await using service = await openService();
  const { store, now, evaluate } = service;
  store.set(stateOf("a/1", { mode: "killed" }));
  store.plan = ({ operation }) => ({ fails: operation !== "kills" });
  expect(await evaluate("a/1", "ann", now())).toMatchObject({ source: EvaluationSource.KILLED });
});

test("a flag that is revived while others are waited for is waited for as well", async () => {
  await using service = await openService();
  const { store, clock, now, call, evaluate } = service;
  store.set(stateOf("a/1", { value: flagValue("hourly") }));
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  // What a replica tells of a/2 is that it is killed.
  store.plan = ({ operation, keys }) => {
    if (keys.includes("a/1")) return { after: held };
    return operation === "flagStates" && clock.now() < 300 ? { commitsBehind: 1 } : {};
  };
  const asked = call("bulkEvaluate", { flagIds: ["a/1", "a/2"], entityId: "" }, { min: now() });
  await clock.advance(100);
  store.set(stateOf("a/2", { value: flagValue("revived") }));
  const other = evaluate("a/2", "", now());
  await clock.advance(100);
  expect(service.namespace.killSet.value?.flagIds).toEqual(new Set());
  letGo();
  expect((await timed(clock, asked)).answer.answer).toMatchObject({
    evaluations: [{ value: flagValue("hourly") }, { value: flagValue("revived") }],
  });
  expect(await other).toMatchObject({ value: flagValue("revived") });
});

test("ids that no database can hold are not looked up", async () => {
  await using service = await openService();
  const calls = service.store.calls.length;
  for (const id of ["line\nbreak", "x".repeat(600)]) {
    expect(await service.evaluate(id, "ann", service.now())).toMatchObject({ flagId: id });
    expect(await service.evaluate("a/1", id, service.now())).toMatchObject({ value: flagValue("weekly") });
  }
  const { answer } = await service.call("getFlagState", { flagId: "\0" }, { min: service.now() });
  expect(answer).toMatchObject({ code: Code.NotFound });
  expect(service.store.calls).toHaveLength(calls);
});

test("what is remembered while the store is away answers whoever asks for no more, and says so", async () => {
  await using service = await openService();
  const { store, clock, now, evaluate } = service;
  store.away = true;
  await clock.advance(3 * 3_600_000);
  expect(await evaluate("a/1", "", now())).toMatchObject({ source: toWireSource.cached });
});

test("a version that nobody has is refused once the time is up, with what is known", async () => {
  await using service = await openService();
  const { epoch, revision } = service.now();
  const call = service.call(
    "evaluate",
    { flagId: "a/1", entityId: "" },
    { min: { epoch, revision: revision + 5 } },
  );
  const { answer, tookMs } = await timed(service.clock, call);
  expect(tookMs).toBe(TIMEOUT_MS);
  expect(answer.answer).toEqual(
    failedPrecondition(
      `Cannot answer at version ${epoch}:${revision + 5} or later: this daemon is at ${epoch}:${revision}`,
    ),
  );
  expect(answer.headers["pbflags-version"]).toBe(`${epoch}:${revision}`);
  // One poll each 50 ms, however many wait.
  expect(service.store.countCalls("kills")).toBeLessThanOrEqual(13);
});

test.each<[string, Options, string]>([
  [
    "the kill set is not heard of",
    { prepare: (store) => (store.away = true) },
    "nothing is known of the store yet",
  ],
  [
    "the rows cannot be read",
    { prepare: (store) => (store.plan = ({ operation }) => ({ fails: operation !== "kills" })) },
    "this daemon is at epoch-1:3, but has not read yet what changed",
  ],
])("no answer comes later than the timeout where %s", async (_, options, reason) => {
  await using service = await openService(options);
  const { answer, tookMs } = await timed(service.clock, service.evaluate("a/1", "ann", "epoch-1:3"));
  expect(answer).toEqual(failedPrecondition(`Cannot answer at version epoch-1:3 or later: ${reason}`));
  expect(tookMs).toBe(TIMEOUT_MS);
});

test.each<[string, keyof NamespaceOptions | undefined, "kills" | "flagStates" | "overrides"]>([
  ["poll", undefined, "kills"],
  ["row", undefined, "flagStates"],
  ["entity", undefined, "overrides"],
  ["second read of write-through", "flagTtlMs", "flagStates"],
])("no answer comes later than the timeout where a %s hangs", async (_, zero, operation) => {
  await using service = await openService(zero === undefined ? {} : { [zero]: 0 });
  const { store, clock, now, evaluate } = service;
  store.set(stateOf("a/1", { value: flagValue("hourly") }));
  store.setOverride(overrideOf("a/1", "ann", { value: flagValue("yearly") }));
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let skipped = zero === undefined ? 0 : 1;
  store.plan = (call) => (call.operation === operation && skipped-- <= 0 ? { before: held } : {});
  const { answer, tookMs } = await timed(clock, evaluate("a/1", "ann", now()));
  letGo();
  expect(answer).toMatchObject({ code: Code.FailedPrecondition });
  expect(tookMs).toBe(TIMEOUT_MS);
});

test("another epoch, and a store without versions, are refused as soon as the store has been asked", async () => {
  await using service = await openService();
  const { epoch, revision } = service.now();
  const elsewhere = await timed(service.clock, service.evaluate("a/1", "", `elsewhere:${revision}`));
  expect(elsewhere.tookMs).toBeLessThan(100);
  expect(elsewhere.answer).toEqual(
    failedPrecondition(
      `Cannot answer at version elsewhere:${revision} or later: the store is of another epoch, at ${epoch}:${revision}`,
    ),
  );
  await using plain = await openService({ prepare: (store) => (store.versioned = false) });
  const { answer, tookMs } = await timed(plain.clock, plain.evaluate("a/1", "", "elsewhere:1"));
  expect(tookMs).toBeLessThan(100);
  expect(answer).toEqual(
    failedPrecondition("Cannot answer at version elsewhere:1 or later: the store has no versions"),
  );
});

test.each([0, 1])(
  "a new epoch that this daemon has not heard of yet is caught up with, %d polls lost",
  async (lost) => {
    await using service = await openService();
    const { store, clock, now, evaluate } = service;
    await clock.advance(1_000);
    let polls = 0;
    store.plan = ({ operation }) => ({ fails: operation === "kills" && ++polls <= lost });
    store.restore("epoch-2", 2);
    store.set(stateOf("a/1", { value: flagValue("restored") }));
    const { answer, tookMs } = await timed(clock, evaluate("a/1", "", now()));
    expect(answer).toMatchObject({ value: flagValue("restored") });
    expect(tookMs).toBeLessThan(TIMEOUT_MS);
  },
);

test("a caller who leaves is waited for no longer", async () => {
  await using service = await openService();
  service.store.away = true;
  const left = new AbortController();
  const { epoch, revision } = service.now();
  const call = service.call(
    "evaluate",
    { flagId: "a/1", entityId: "" },
    { min: { epoch, revision: revision + 1 }, signal: left.signal },
  );
  await settle();
  const sleepers = service.clock.sleeperCount;
  left.abort(new ConnectError("the client left", Code.Canceled));
  expect((await call).answer).toMatchObject({ code: Code.Canceled });
  expect(service.clock.sleeperCount).toBeLessThan(sleepers);
  const late = await service.call(
    "evaluate",
    { flagId: "a/1", entityId: "" },
    { min: { epoch, revision: revision + 1 }, signal: left.signal },
  );
  expect(late.answer).toMatchObject({ code: Code.Canceled });
});

test.each([
  "",
  "7",
  ":7",
  "epoch:",
  "epoch:-1",
  "epoch:1.5",
  "epoch:1234567890123456",
  `${"e".repeat(201)}:1`,
  "two words:1",
  "a:1, a:2",
])("%j is no version", async (min) => {
  await using service = await openService();
  const answer = await service.evaluate("a/1", "", min);
  expect(answer).toMatchObject({ code: Code.InvalidArgument });
  const shown = min.length > 100 ? `${min.slice(0, 100)}…` : min;
  expect(answer).toMatchObject({
    rawMessage: `Cannot use pbflags-min-version: expected epoch:revision as feature_flags.version() tells it, got ${JSON.stringify(shown)}`,
  });
});
