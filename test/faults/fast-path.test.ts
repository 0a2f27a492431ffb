import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { formatVersion } from "../../src/evaluation/version.ts";
import type { FlagType } from "../../src/flags/definition.ts";
import {
  BoolListSchema,
  DoubleListSchema,
  type FlagValue,
  FlagValueSchema,
  Int64ListSchema,
} from "../../src/gen/pbflags/v1/types_pb.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { Latest } from "../../src/system/latest.ts";
import { type CallAnswer, openCallLine } from "../support/call-lines.ts";
import { FakeClock, settle } from "../support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { createCallGenerator, type GeneratedCall } from "../support/generated-calls.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { silentEvents } from "../support/silent-events.ts";
import { size } from "../support/size.ts";
import { type ServedNamespace, serveNamespace } from "../wire/serve-memory.ts";

const CALLS = size(2_000, 100_000);
const BATCH = 50;
const BYTES_MAX = 2_048;
/** Of calls that clients really make, three in four of those that are generated. */
const FAST_SHARE_MIN = 0.5;

const VALUES: readonly (readonly [type: FlagType, value: FlagValue])[] = [
  ["BOOL", flagValue(false)],
  ["STRING", flagValue("")],
  ["STRING", flagValue('with "quotes", \\, \u0001, \u2028 and 😀')],
  ["STRING", flagValue("x".repeat(1_100))],
  ["INT64", flagValue(-(2n ** 63n))],
  ["INT64", flagValue(0n)],
  ["DOUBLE", flagValue(Number.NaN)],
  ["DOUBLE", flagValue(-0)],
  ["DOUBLE", flagValue(1e300)],
  ["STRING_LIST", flagValue([])],
  ["STRING_LIST", flagValue(["", "a", "ü"])],
  ["BOOL_LIST", listOf("boolListValue")],
  ["INT64_LIST", listOf("int64ListValue")],
  ["DOUBLE_LIST", listOf("doubleListValue")],
];

function listOf(kind: "boolListValue" | "int64ListValue" | "doubleListValue"): FlagValue {
  const value: FlagValue["value"] =
    kind === "boolListValue"
      ? { case: kind, value: create(BoolListSchema, { values: [true, false] }) }
      : kind === "int64ListValue"
        ? { case: kind, value: create(Int64ListSchema, { values: [1n, -(2n ** 40n)] }) }
        : { case: kind, value: create(DoubleListSchema, { values: [0.1, Number.POSITIVE_INFINITY] }) };
  return create(FlagValueSchema, { value });
}

/** Flags of every type and in every state: as a default, as a global value, as an override, killed, archived, untouched. */
function openWorld(clock: FakeClock): { store: MemoryStore; namespace: Namespace; names: readonly string[] } {
  const store = new MemoryStore();
  const flags = VALUES.flatMap(([type, value], i) => [
    defineFlag(`values/${3 * i + 1}`, { type, defaultValue: value }),
    defineFlag(`values/${3 * i + 2}`, { type, defaultValue: undefined, layer: "" }),
    defineFlag(`values/${3 * i + 3}`, { type, defaultValue: value }),
  ]);
  for (const [i, [type, value]] of VALUES.entries()) {
    store.set(stateOf(`values/${3 * i + 2}`, { type, value }));
    store.setOverride(overrideOf(`values/${3 * i + 3}`, "user-1", { value }));
    store.setOverride(overrideOf(`values/${3 * i + 3}`, "user-2", { mode: "killed", value: undefined }));
  }
  const named = [
    defineFlag("notifications/1", { name: "email" }),
    defineFlag("notifications/2", { name: "push", type: "BOOL", defaultValue: flagValue(true) }),
  ];
  store.set(stateOf("notifications/1"));
  store.set(stateOf("notifications/2", { mode: "killed", value: undefined, type: "BOOL" }));
  store.set(stateOf("gone/1", { archived: true, value: flagValue("kept") }));
  store.setOverride(overrideOf("notifications/1", "user-1"));
  const namespace = openNamespace({
    flags: new Latest(tableOf(...flags, ...named)),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: 3_600_000,
    flagTtlMs: 300_000,
    overrideTtlMs: 300_000,
    negativeTtlMs: 300_000,
    overrideEntriesMax: 10_000,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  const known = [...flags, ...named].flatMap(({ id, alias }) => [id, id, alias]);
  return { store, namespace, names: [...known, "gone/1", "nobody/1", "nobody.knows"] };
}

test(
  `answers byte for byte what Connect's implementation does, to ${CALLS} calls, allowed and not`,
  async () => {
    const clock = new FakeClock();
    const { store, namespace, names } = openWorld(clock);
    await settle();
    const limits = { bodyBytesMax: BYTES_MAX, bulkFlagsMax: 100 };
    const [fast, generic] = await Promise.all(
      [true, false].map((isFast) => serveNamespace(namespace, { clock, limits, isFast })),
    );
    if (fast === undefined || generic === undefined) throw new Error("Cannot serve");
    const random = seededRandom(20);
    const entities = ["user-1", "user-2", "user-3", "ü"];
    const generate = (versions: readonly string[]) =>
      createCallGenerator({ names, entities, versions, bytesMax: BYTES_MAX }, random);

    const half = CALLS / 2;
    await compareAll([fast, generic], generate([versionOf(namespace), "nonsense", ""]), half);
    // What was learnt is past its time to live and cannot be learnt again: every answer says so.
    store.away = true;
    await clock.advance(700_000);
    while (namespace.breaker.state !== "open") await namespace.evaluate("nobody/2", "");
    await compareAll([fast, generic], generate(["nonsense"]), half);

    expect(tallyOf(fast)).toEqual(tallyOf(generic));
    expect([fast.internalErrors, generic.internalErrors]).toEqual([[], []]);
    expect(generic.rpcs.filter(({ isFast = false }) => isFast)).toEqual([]);
    const fastCount = fast.rpcs.filter(({ isFast = false }) => isFast).length;
    console.log(`${fastCount} of ${CALLS} calls went the fast way`);
    expect(fastCount / CALLS).toBeGreaterThan(FAST_SHARE_MIN);

    await Promise.all([fast, generic].map((served) => served[Symbol.asyncDispose]()));
    await namespace[Symbol.asyncDispose]();
  },
  size(120_000, 900_000),
);

function versionOf({ killSet }: Namespace): string {
  const version = killSet.value?.stamp.version;
  if (version === undefined) throw new Error("Cannot tell the version: the kill set is not known");
  return formatVersion(version);
}

async function compareAll(
  servers: readonly ServedNamespace[],
  next: () => GeneratedCall,
  count: number,
): Promise<void> {
  const lines = await Promise.all(servers.map(({ port }) => openCallLine(port)));
  for (let sent = 0; sent < count; sent += BATCH) {
    const calls = Array.from({ length: BATCH }, next);
    const [fast = [], generic = []] = await Promise.all(lines.map((line) => line.send(calls)));
    for (const [i, call] of calls.entries()) compare(call, fast[i], generic[i]);
  }
  for (const line of lines) line[Symbol.dispose]();
}

/** Cheaper than `toEqual`, which is asked only to describe a difference. */
function compare(call: GeneratedCall, fast: CallAnswer | undefined, generic: CallAnswer | undefined): void {
  if (generic?.status !== 0 && textOf(fast) === textOf(generic)) return;
  expect({ call, answer: fast }).toEqual({ call, answer: generic });
  throw new Error(`No answer to ${JSON.stringify(call)}`);
}

function textOf(answer: CallAnswer | undefined): string {
  if (answer === undefined) return "";
  const { status, headers, body, trailers } = answer;
  return JSON.stringify([status, sorted(headers), body, sorted(trailers)]);
}

function sorted(headers: CallAnswer["headers"]): readonly string[] {
  return Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}`)
    .toSorted();
}

/** How often each outcome was counted. */
function tallyOf({ rpcs }: ServedNamespace): Readonly<Record<string, number>> {
  const tally: Record<string, number> = {};
  for (const { procedure, protocol, code } of rpcs) {
    const key = `${procedure} ${protocol} ${code}`;
    tally[key] = (tally[key] ?? 0) + 1;
  }
  return tally;
}
