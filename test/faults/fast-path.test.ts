import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { formatVersion } from "../../src/evaluation/version.ts";
import type { FlagTable, FlagType } from "../../src/flags/definition.ts";
import {
  BoolListSchema,
  DoubleListSchema,
  type FlagValue,
  FlagValueSchema,
  Int64ListSchema,
} from "../../src/gen/pbflags/v1/types_pb.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { Latest } from "../../src/system/latest.ts";
import type { Rpc } from "../../src/telemetry/call-counts.ts";
import { type CallAnswer, openCallLine } from "../support/call-lines.ts";
import { FakeClock, settle } from "../support/fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { createCallGenerator, type GeneratedCall } from "../support/generated-calls.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { recordSpans } from "../support/recorded-spans.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { silentEvents } from "../support/silent-events.ts";
import { size } from "../support/size.ts";
import { type ServedNamespace, type ServeOptions, serveNamespace } from "../wire/serve-memory.ts";

const CALLS = size(2_000, 100_000);
const BATCH = 50;
/** Of the store, after each batch. */
const CHANGES = 3;
const KILL_TTL = 1_000;
const TTL = 3_600_000;
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

/** A namespace over a store of its own, and what it counts. */
interface World {
  readonly flags: Latest<FlagTable>;
  readonly store: MemoryStore;
  readonly namespace: Namespace;
  readonly names: readonly string[];
  /** Evaluations by source, and look-ups by tier. Of those that are made again, also which were hits. */
  readonly counts: Record<string, number>;
  /** The calls were made before: now it is no chance who finds in memory what another call had to wait for. */
  isAgain: boolean;
}

/** Flags of every type and in every state: as a default, as a global value, as an override, killed, archived, untouched. */
function openWorld(clock: FakeClock): World {
  const store = new MemoryStore();
  const counts: Record<string, number> = {};
  const count = (what: string, n: number) => {
    counts[what] = (counts[what] ?? 0) + n;
  };
  const ofValues = VALUES.flatMap(([type, value], i) => [
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
  const flags = new Latest(tableOf(...ofValues, ...named));
  const namespace = openNamespace({
    flags,
    store,
    clock,
    random: () => 0.5,
    killTtlMs: KILL_TTL,
    flagTtlMs: TTL,
    overrideTtlMs: TTL,
    negativeTtlMs: TTL,
    overrideEntriesMax: 10_000,
    jitter: 0,
    events: {
      ...silentEvents,
      onEvaluations({ evaluations }) {
        for (const { source } of evaluations) count(source, 1);
      },
      onLookUps(tier, { hits, misses }) {
        count(`${tier} looked up`, hits + misses);
        if (!world.isAgain) return;
        count(`${tier} hits`, hits);
        count(`${tier} misses`, misses);
      },
    },
    traceStoreCall: (_, run) => run(),
  });
  const known = [...ofValues, ...named].flatMap(({ id, alias }) => [id, id, alias]);
  const names = [...known, "gone/1", "nobody/1", "nobody.knows"];
  const world = { flags, store, namespace, names, counts, isAgain: false };
  return world;
}

/** What operators may do. `random` gives numbers from 0 to 1. */
function createChanges(
  entities: readonly string[],
  random: () => number,
): () => (store: MemoryStore) => void {
  const below = (n: number) => Math.floor(random() * n);
  return () => {
    const i = below(VALUES.length);
    const [type, value] = VALUES[i] ?? ["STRING", flagValue("")];
    const flagId = `values/${3 * i + 1 + below(3)}`;
    const entityId = entities[below(entities.length)] ?? "";
    const what = below(6);
    return (store) => {
      if (what === 0) store.set(stateOf(flagId, { type, mode: "killed", value: undefined }));
      else if (what === 1) store.set(stateOf(flagId, { type, value }));
      else if (what === 2) store.set(stateOf(flagId, { type, mode: "default", value: undefined }));
      else if (what === 3) store.remove(flagId);
      else if (what === 4) store.setOverride(overrideOf(flagId, entityId, { value }));
      else store.removeOverride(flagId, entityId);
    };
  };
}

test(
  `answers byte for byte what Connect's implementation does, to ${CALLS} calls made twice, allowed and not`,
  async () => {
    const clock = new FakeClock();
    const worlds = [openWorld(clock), openWorld(clock)] as const;
    const [{ names, namespace }] = worlds;
    await settle();
    const limits = { bodyBytesMax: BYTES_MAX, bulkFlagsMax: 100 };
    const serveBoth = (options: readonly [ServeOptions, ServeOptions]) =>
      Promise.all([
        serveNamespace(worlds[0].namespace, { clock, limits, isFast: true, ...options[0] }),
        serveNamespace(worlds[1].namespace, { clock, limits, isFast: false, ...options[1] }),
      ]);
    const untraced = await serveBoth([{}, {}]);
    const [fastSpans, genericSpans] = [recordSpans(), recordSpans()];
    const traced = await serveBoth([fastSpans, genericSpans]);
    const random = seededRandom(20);
    const entities = ["user-1", "user-2", "user-3", "ü"];
    const generate = (versions: readonly string[]) =>
      createCallGenerator({ names, entities, versions, bytesMax: BYTES_MAX }, random);

    const half = CALLS / 2;
    const nextChange = createChanges(entities, random);
    await compareAll({
      servers: untraced,
      worlds,
      next: generate([versionOf(namespace), "nonsense", ""]),
      count: half,
      async afterBatch(sent) {
        const changes = Array.from({ length: CHANGES }, nextChange);
        for (const { store } of worlds) for (const change of changes) change(store);
        await clock.advance(KILL_TTL);
        if (sent === half / 2) for (const world of worlds) undefineSome(world);
        await settle();
      },
    });
    // What was learnt is past its time to live and cannot be learnt again: every answer says so.
    for (const { store } of worlds) store.away = true;
    await clock.advance(2 * TTL);
    for (const { namespace: lost } of worlds)
      while (lost.breaker.state !== "open") await lost.evaluate("nobody/2", "");
    await compareAll({ servers: traced, worlds, next: generate(["nonsense"]), count: half });

    expect(worlds[0].counts).toEqual(worlds[1].counts);
    expect(tallyOf(fastSpans.spans)).toEqual(tallyOf(genericSpans.spans));
    expect(fastSpans.spans.length).toBeGreaterThan(half);
    for (const [fast, generic] of [untraced, traced]) {
      expect(tallyOf(fast.rpcs.map(nameOf))).toEqual(tallyOf(generic.rpcs.map(nameOf)));
      expect([fast.internalErrors, generic.internalErrors]).toEqual([[], []]);
      expect(generic.rpcs.filter(({ isFast = false }) => isFast)).toEqual([]);
      const fastCount = fast.rpcs.filter(({ isFast = false }) => isFast).length;
      console.log(`${fastCount} of ${2 * half} calls went the fast way`);
      expect(fastCount / (2 * half)).toBeGreaterThan(FAST_SHARE_MIN);
    }

    await Promise.all([...untraced, ...traced].map((served) => served[Symbol.asyncDispose]()));
    await Promise.all(worlds.map((world) => world.namespace[Symbol.asyncDispose]()));
  },
  size(120_000, 900_000),
);

/** Every third flag. */
function undefineSome({ flags, namespace }: World): void {
  flags.replace(tableOf(...flags.value.flags.filter((_, i) => i % 3 !== 1)));
  namespace.flagsReplaced();
}

function versionOf({ killSet }: Namespace): string {
  const version = killSet.value?.stamp.version;
  if (version === undefined) throw new Error("Cannot tell the version: the kill set is not known");
  return formatVersion(version);
}

interface Comparison {
  /** The fast one first. */
  readonly servers: readonly ServedNamespace[];
  readonly worlds: readonly World[];
  readonly next: () => GeneratedCall;
  /** How many calls are made, each twice. */
  readonly count: number;
  readonly afterBatch?: (sent: number) => Promise<void>;
}

async function compareAll({ servers, worlds, next, count, afterBatch }: Comparison): Promise<void> {
  const lines = await Promise.all(servers.map(({ port }) => openCallLine(port)));
  for (let sent = 0; sent < count; sent += BATCH) {
    const calls = Array.from({ length: BATCH }, next);
    for (const isAgain of [false, true]) {
      for (const world of worlds) world.isAgain = isAgain;
      const [fast = [], generic = []] = await Promise.all(lines.map((line) => line.send(calls)));
      for (const [i, call] of calls.entries()) compare(call, fast[i], generic[i]);
    }
    await afterBatch?.(sent + BATCH);
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

function nameOf({ procedure, protocol, code }: Rpc): string {
  return `${procedure} ${protocol} ${code}`;
}

/** How often each stands among them. */
function tallyOf(names: readonly string[]): Readonly<Record<string, number>> {
  const tally: Record<string, number> = {};
  for (const name of names) tally[name] = (tally[name] ?? 0) + 1;
  return tally;
}
