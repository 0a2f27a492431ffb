import { Agent } from "node:http";
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { FlagState, Mode, Override } from "../../src/evaluation/state.ts";
import type { FlagDefinition, FlagType } from "../../src/flags/definition.ts";
import {
  type EvaluateResponse,
  EvaluationSource,
  FlagEvaluatorService,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { type FlagValue, FlagValueSchema } from "../../src/gen/pbflags/v1/types_pb.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { openHttpServer } from "../../src/server/http-server.ts";
import { createRoutes } from "../../src/server/routes.ts";
import { systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import { FakeClock, settle } from "../support/fake-clock.ts";
import { defineFlag, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { silentEvents } from "../support/silent-events.ts";
import { size } from "../support/size.ts";
import { DEFAULT_LIMITS } from "../wire/serve-memory.ts";

// Fault 10: the kill path, every type × value × killed × missing definition, over the wire.

const types: readonly FlagType[] = [
  "BOOL",
  "STRING",
  "INT64",
  "DOUBLE",
  "BOOL_LIST",
  "STRING_LIST",
  "INT64_LIST",
  "DOUBLE_LIST",
];

/** Values of each type; the first is the compiled default of those that have one. */
const valuesOf: Readonly<Record<FlagType, readonly FlagValue["value"][]>> = {
  BOOL: [true, false].map((value) => ({ case: "boolValue", value })),
  STRING: ["daily", "", "\u{1f600}\0", "x".repeat(5_000)].map((value) => ({ case: "stringValue", value })),
  INT64: [5n, 0n, -(2n ** 63n), 2n ** 63n - 1n].map((value) => ({ case: "int64Value", value })),
  DOUBLE: [0.5, 0, Number.NaN, -Infinity, 5e-324].map((value) => ({ case: "doubleValue", value })),
  BOOL_LIST: [[true], [], [false, true]].map((values) => list("boolListValue", { values })),
  STRING_LIST: [["a"], [], ["", "b"]].map((values) => list("stringListValue", { values })),
  INT64_LIST: [[1n], [], [-(2n ** 63n)]].map((values) => list("int64ListValue", { values })),
  DOUBLE_LIST: [[0.5], [], [Number.NaN, Infinity]].map((values) => list("doubleListValue", { values })),
};

function list(name: string, value: { readonly values: readonly unknown[] }): FlagValue["value"] {
  return { case: name, value } as FlagValue["value"];
}

/** One flag, with all that may be known of it. */
interface Flag {
  readonly definition: FlagDefinition | undefined;
  readonly row: FlagState | undefined;
  readonly override: Override | undefined;
}

const modes = fc.constantFrom<Mode[]>("enabled", "default", "killed");
const type = fc.constantFrom(...types);

const setting = fc
  .record({ mode: modes, type, content: fc.constantFrom("value", "none", "garbage"), pick: fc.nat(9) })
  .map(({ mode, type, content, pick }) => {
    if (content === "garbage") return { mode, value: undefined, invalid: "3 bytes that are no FlagValue" };
    return { mode, value: content === "none" ? undefined : sample(type, pick) };
  });

function sample(type: FlagType, pick: number): FlagValue {
  const values = valuesOf[type];
  return create(FlagValueSchema, { value: values[pick % values.length] ?? { case: undefined } });
}

const flag = fc
  .record({
    type,
    isDefined: fc.boolean(),
    hasDefault: fc.boolean(),
    layer: fc.constantFrom("", "user"),
    // Mostly of the flag's own type; a row may say that it is of another.
    row: fc.option(
      fc.record({ setting, own: fc.nat(3), pick: fc.nat(9), archived: fc.boolean(), rowType: type }),
      { nil: undefined },
    ),
    override: fc.option(fc.record({ setting, own: fc.nat(3), pick: fc.nat(9) }), { nil: undefined }),
  })
  .map(({ type, isDefined, hasDefault, layer, row, override }) => (n: number): Flag => {
    const id = `shop/${n}`;
    const fit = ({ setting, own, pick }: NonNullable<typeof override>) =>
      own > 0 && setting.value !== undefined ? { ...setting, value: sample(type, pick) } : setting;
    return {
      definition: isDefined
        ? defineFlag(id, { type, layer, defaultValue: hasDefault ? sample(type, 0) : undefined })
        : undefined,
      row: row && {
        flagId: id,
        archived: row.archived,
        type: row.own > 0 ? type : row.rowType,
        ...fit(row),
      },
      override: override && { flagId: id, entityId: "ann", ...fit(override) },
    };
  });

const world = fc
  .array(flag, { minLength: 1, maxLength: 8 })
  .map((makers) => makers.map((make, i) => make(i + 1)));

/** What a flag must answer; written without a look at how it is done. */
function reference({ definition, row, override }: Flag, entityId: string): Pick<Answer, "value" | "source"> {
  const fallback = definition?.defaultValue;
  const type = definition?.type ?? row?.type;
  const fits = (value: FlagValue | undefined) => value !== undefined && typeOf(value) === type;
  if (row?.mode === "killed") return { value: fallback, source: "KILLED" };
  if (entityId === "ann" && override && definition?.layer === "user") {
    const serves = override.mode === "enabled" && fits(override.value);
    return serves ? { value: override.value, source: "OVERRIDE" } : { value: fallback, source: "DEFAULT" };
  }
  if (row?.archived && fits(row.value)) return { value: row.value, source: "ARCHIVED" };
  if (row?.mode === "enabled" && fits(row.value)) return { value: row.value, source: "GLOBAL" };
  return { value: fallback, source: "DEFAULT" };
}

function typeOf({ value }: FlagValue): FlagType | undefined {
  return types.find((type) => valuesOf[type][0]?.case === value.case);
}

interface Answer {
  readonly flagId: string;
  readonly value: FlagValue | undefined;
  readonly source: keyof typeof EvaluationSource;
}

test("every flag answers what it must, killed or not, before and after", async () => {
  await using wire = await openWire();
  let killedAnswers = 0;
  await fc.assert(
    fc.asyncProperty(world, fc.infiniteStream(fc.boolean()), async (flags, flips) => {
      const clock = new FakeClock();
      const store = fill(new MemoryStore(), flags);
      await using namespace = open(store, flags, clock);
      wire.serve(namespace);
      await settle();
      await check(flags);

      // Half of them are killed, or are no longer.
      const flipped = flags.map((flag): Flag => {
        if (flag.row === undefined || !flips.next().value) return flag;
        return { ...flag, row: { ...flag.row, mode: flag.row.mode === "killed" ? "enabled" : "killed" } };
      });
      fill(store, flipped);
      await clock.advance(30_000);
      await check(flipped);

      // And so it stays, whatever becomes of the store.
      store.away = true;
      await clock.advance(150_000);
      await check(flipped, ["CACHED", "STALE"]);
    }),
    { numRuns: size(40, 1_500) },
  );
  expect(killedAnswers).toBeGreaterThan(50);

  async function check(flags: readonly Flag[], aged: readonly string[] = []): Promise<void> {
    const ids = [...flags.map((_, i) => `shop/${i + 1}`), "ghost/1"];
    const known: readonly Flag[] = [...flags, { definition: undefined, row: undefined, override: undefined }];
    for (const entityId of ["", "ann", "bob"]) {
      const expected = ids.map((flagId, i) => ({ flagId, ...reference(known[i] ?? flags[0]!, entityId) }));
      killedAnswers += expected.filter(({ source }) => source === "KILLED").length;
      for (const answers of await wire.ask(ids, entityId)) {
        expect(
          answers.map((answer, i) => {
            const wanted = expected[i]?.source ?? "";
            const isKnowledge = ["OVERRIDE", "GLOBAL", "ARCHIVED"].includes(wanted);
            const mayBeOld = isKnowledge && aged.includes(answer.source);
            return { ...answer, source: mayBeOld ? wanted : answer.source };
          }),
        ).toEqual(expected);
      }
    }
    const killed = flags.flatMap(({ row }) => (row?.mode === "killed" ? [row.flagId] : []));
    expect((await wire.killedFlags()).toSorted()).toEqual(killed.toSorted());
  }
}, 300_000);

test("a flag that is revived is known again before anybody asks, should the store go away that moment", async () => {
  const clock = new FakeClock();
  const store = new MemoryStore();
  const definition = defineFlag("shop/1");
  const killed = stateOf("shop/1", { mode: "killed" });
  store.set(killed);
  await using namespace = open(store, [{ definition, row: killed, override: undefined }], clock);
  await settle();
  expect(await namespace.evaluate("shop/1", "")).toMatchObject({ source: "killed" });

  store.set(stateOf("shop/1"));
  await clock.advance(30_000);
  store.away = true;
  expect(namespace.evaluate("shop/1", "")).toEqual({ value: stateOf("shop/1").value, source: "global" });
});

function fill(store: MemoryStore, flags: readonly Flag[]): MemoryStore {
  for (const { row, override } of flags) {
    if (row !== undefined) store.set(row);
    if (override !== undefined) store.setOverride(override);
  }
  return store;
}

function open(store: MemoryStore, flags: readonly Flag[], clock: FakeClock): Namespace {
  return openNamespace({
    flags: new Latest(tableOf(...flags.flatMap(({ definition }) => definition ?? []))),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: 20_000,
    flagTtlMs: 60_000,
    overrideTtlMs: 60_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0.2,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
}

/** The evaluator service on a port, in front of whichever namespace it is given. */
async function openWire() {
  let current: Namespace | undefined;
  // The service for followers listens from the start; nobody follows here.
  const nobodyYet = { onKnowledge: () => () => {} };
  const delegate = new Proxy({} as Namespace, {
    get: (_, name) => Reflect.get(current ?? nobodyYet, name),
  });
  const stopping = new AbortController();
  const errors: unknown[] = [];
  const server = await openHttpServer({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits: DEFAULT_LIMITS,
    drainTimeoutMs: 1_000,
    clock: systemClock,
    handle: createRoutes({
      namespace: delegate,
      upstreams: undefined,
      version: "test",
      limits: { ...DEFAULT_LIMITS, fetchTimeoutMs: 500 },
      clock: systemClock,
      tracing: undefined,
      stopping: stopping.signal,
      checks: () => [],
      metrics: async () => ({ contentType: "text/plain", body: "" }),
      onRpc: () => {},
      onInternalError: (error) => errors.push(error),
    }),
    onDrop: () => {},
    onInternalError: (error) => errors.push(error),
  });
  const agent = new Agent({ keepAlive: true });
  const port = server.address.kind === "tcp" ? server.address.port : 0;
  const [binary, json] = [true, false].map((useBinaryFormat) =>
    createClient(
      FlagEvaluatorService,
      createConnectTransport({
        baseUrl: `http://127.0.0.1:${port}`,
        httpVersion: "1.1",
        useBinaryFormat,
        nodeOptions: { agent },
      }),
    ),
  );
  if (binary === undefined || json === undefined) throw new Error("Cannot happen");

  const toAnswer = (each: EvaluateResponse): Answer => ({
    flagId: each.flagId,
    value: each.value,
    source: EvaluationSource[each.source] as keyof typeof EvaluationSource,
  });

  return {
    serve(namespace: Namespace) {
      current = namespace;
    },
    /** In every way there is: one by one, in bulk, in binary, in JSON. */
    async ask(ids: readonly string[], entityId: string): Promise<readonly (readonly Answer[])[]> {
      const one = await Promise.all(ids.map((flagId) => binary.evaluate({ flagId, entityId })));
      const bulk = await binary.bulkEvaluate({ flagIds: [...ids], entityId });
      const asJson = await json.bulkEvaluate({ flagIds: [...ids], entityId });
      expect(errors).toEqual([]);
      return [one, bulk.evaluations, asJson.evaluations].map((answers) => answers.map(toAnswer));
    },
    async killedFlags(): Promise<readonly string[]> {
      return (await binary.getKilledFlags({})).flagIds;
    },
    async [Symbol.asyncDispose]() {
      stopping.abort();
      agent.destroy();
      await server[Symbol.asyncDispose]();
    },
  };
}
