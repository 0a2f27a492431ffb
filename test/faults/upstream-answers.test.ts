import { createHash } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { FlagState, Override } from "../../src/evaluation/state.ts";
import { createFlagTable, type FlagTable } from "../../src/flags/definition.ts";
import { openDescriptorFollower } from "../../src/flags/follow-descriptors.ts";
import {
  GetEntityOverridesRequestSchema,
  GetFlagStatesRequestSchema,
} from "../../src/gen/pbflagd/v1/state_pb.ts";
import {
  EvaluatorStatus,
  GetFlagStateRequestSchema,
  GetOverridesRequestSchema,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { type FlagValue, State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { fetchDescriptorSet } from "../../src/store/upstream-descriptors.ts";
import { systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import type { UpstreamKind } from "../../src/upstream/pool/upstream-pool.ts";
import { ANSWER_CASES, type Case, ENTITY_IDS, FLAG_IDS, judge, settingOf } from "../support/answer-cases.ts";
import { type AnswerRig, openAnswerRig } from "../support/answer-rig.ts";
import { type AnswerTo, badAnswers, good, parsed, type Rpc } from "../support/bad-answers.ts";
import { reference } from "../support/chain-reference.ts";
import { describeFlags, manyFeatures } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { judgePause, type Measured, measurePauses, measureShortest, PAUSES } from "../support/pauses.ts";
import type { Protocol, RawAnswer } from "../support/raw-upstream.ts";
import { silentEvents } from "../support/silent-events.ts";
import { size } from "../support/size.ts";

// Fault 8 at the entrance for what upstreams answer.

/** For each RPC and protocol. */
const COUNT = size(50, 625);
/** For each RPC, with a whole namespace behind. */
const SERVED_COUNT = size(20, 400);
const SEED = 8;
const NAMES = { flagIds: FLAG_IDS, entityIds: ENTITY_IDS };

/** What came of asking, in words that can be compared. */
interface Outcome {
  readonly refused: boolean;
  /** Calls that were counted as failures. */
  readonly failures: number;
  /** As it is shown to be compared with what was said. */
  readonly taken?: unknown;
}

/** Longer ones do not help whoever reads the log. */
const REASON_CHARACTERS_MAX = 1_500;

async function outcomeOf(one: Case<Rpc, unknown>, rig: AnswerRig): Promise<Outcome> {
  const before = rig.failures.length;
  const counted = () => rig.failures.length - before;
  try {
    const taken = await one.ask(rig);
    return { refused: false, failures: counted(), taken: one.show(taken) };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (reason.length > REASON_CHARACTERS_MAX)
      throw new Error(`Too many words: ${reason.length}`, { cause: error });
    return { refused: true, failures: counted() };
  }
}

describe.each<Protocol>(["connect", "grpc"])("over %s", (protocol) => {
  test.each(ANSWER_CASES)(
    `${COUNT} bad answers to $rpc are refused whole and counted, or are answers`,
    { ...PAUSES, timeout: 120_000 },
    async (one) => {
      await using rig = await openAnswerRig(protocol, one.kind);
      // Checks have a score of their own.
      const failures = one.rpc === "GetStatus" || one.rpc === "Health" ? 0 : 1;
      const faults = new Map<string, number>();
      let longestMs = 0;
      for (const answer of fc.sample(badAnswers(one.rpc, NAMES), { numRuns: COUNT, seed: SEED })) {
        const { result: outcome, pauseMs } = await measured(() => {
          rig.upstream.answer = () => answer.wire;
          return outcomeOf(one, rig);
        });
        longestMs = Math.max(longestMs, pauseMs);
        const verdict = judge(one, answer, protocol);
        const expected: Outcome =
          verdict.fault === undefined
            ? { refused: false, failures: Number(verdict.hasFailed), taken: verdict.meaning }
            : { refused: true, failures };
        const fault = verdict.fault ?? "none";
        expect(outcome, `${fault}: ${describeAnswer(answer.wire)}`).toEqual(expected);
        faults.set(fault, (faults.get(fault) ?? 0) + 1);
      }
      // Otherwise the generator would have lost its poison, or its likeness to answers.
      expect(faults.get("none")).toBeGreaterThan(COUNT / 10);
      expect(faults.get("none")).toBeLessThan(COUNT * 0.9);
      judgePause(`one of ${COUNT} bad answers to ${one.rpc} over ${protocol}`, longestMs);
    },
  );
});

const table = tableOf(
  defineFlag("a/1"),
  defineFlag("a/2", { type: "BOOL", defaultValue: flagValue(false) }),
  defineFlag("a/3", { type: "INT64", layer: "", defaultValue: undefined }),
  defineFlag("a/4", { layer: "" }),
);
const ROWS: readonly FlagState[] = [
  stateOf("a/1"),
  stateOf("a/2", { value: flagValue(true), type: "BOOL" }),
  stateOf("a/3", { value: flagValue(7n), type: "INT64" }),
  stateOf("a/4", { mode: "killed" }),
];
const OVERRIDES: readonly Override[] = [
  overrideOf("a/1", "ann"),
  overrideOf("a/2", "ann", { value: flagValue(false) }),
];
const WIRE_STATE = { enabled: State.ENABLED, default: State.DEFAULT, killed: State.KILLED };

function toWire<R extends FlagState | Override>({ mode, value, ...rest }: R) {
  return { ...rest, state: WIRE_STATE[mode], ...(value === undefined ? {} : { value }) };
}

/** What an upstream of each kind says that is well. */
function goodAnswer(method: string, request: Uint8Array): RawAnswer {
  const worth = { version: { epoch: "one", revision: 5n }, ageMs: 0n };
  const rows = ROWS.map(({ flagId, mode, value, archived }) =>
    toWire({ flagId, mode, value, archived, type: undefined }),
  );
  switch (method) {
    case "GetFlagStates": {
      const { flagIds } = fromBinary(GetFlagStatesRequestSchema, request);
      return good(method, { ...worth, rows: rows.filter(({ flagId }) => flagIds.includes(flagId)) });
    }
    case "GetEntityOverrides": {
      const { entityIds } = fromBinary(GetEntityOverridesRequestSchema, request);
      const own = OVERRIDES.filter(({ entityId }) => entityIds.includes(entityId));
      return good(method, { ...worth, rows: own.map(toWire) });
    }
    case "GetKills":
      return good(method, { ...worth, flagIds: ["a/4"] });
    case "GetFlagState": {
      const { flagId } = fromBinary(GetFlagStateRequestSchema, request);
      const row = rows.find((each) => each.flagId === flagId);
      if (row === undefined) return { kind: "error", code: "not_found", message: "no such flag" };
      return good(method, { flag: row, archived: row.archived });
    }
    case "GetOverrides": {
      const { entityId } = fromBinary(GetOverridesRequestSchema, request);
      return good(method, { overrides: OVERRIDES.filter((each) => each.entityId === entityId).map(toWire) });
    }
    case "GetKilledFlags":
      return good(method, { flagIds: ["a/4"] });
    case "Health":
      return good(method, { status: EvaluatorStatus.SERVING });
    default:
      return good("GetStatus", { status: EvaluatorStatus.SERVING, ...worth });
  }
}

/** Whether a question is the one that is answered badly; a plain evaluator is asked for flags and entities one by one. */
function isAbout(rpc: Rpc, method: string, request: Uint8Array): boolean {
  if (method !== rpc) return false;
  if (rpc === "GetFlagState") return fromBinary(GetFlagStateRequestSchema, request).flagId === "a/1";
  return rpc !== "GetOverrides" || fromBinary(GetOverridesRequestSchema, request).entityId === "ann";
}

/** A namespace that asks for everything all the time, before an upstream that answers well until it is told otherwise. */
interface World extends AsyncDisposable {
  readonly namespace: Namespace;
  /** Answers one RPC like this; undefined: all of them well. */
  poison: { readonly rpc: Rpc; readonly wire: RawAnswer } | undefined;
  /** Resolves when a poll that set out after this has been taken in. */
  polled(): Promise<void>;
}

async function openWorld(kind: UpstreamKind): Promise<World> {
  const rig = await openAnswerRig("connect", kind);
  let polls = 0;
  /** By the number of the poll that is waited for. */
  const waiting = new Map<number, () => void>();
  const world: { poison: World["poison"] } = { poison: undefined };
  rig.upstream.answer = (method, request) => {
    const { poison } = world;
    if (method === "GetKills" || method === "GetKilledFlags") {
      polls += 1;
      waiting.get(polls)?.();
      waiting.delete(polls);
    }
    return poison !== undefined && isAbout(poison.rpc, method, request)
      ? poison.wire
      : goodAnswer(method, request);
  };
  const namespace = openNamespace({
    flags: new Latest(table),
    store: rig.store,
    clock: systemClock,
    random: () => 0.5,
    killTtlMs: 1,
    flagTtlMs: 0,
    overrideTtlMs: 0,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 100,
    jitter: 0,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
  await namespace.whenReady(AbortSignal.timeout(10_000));
  const opened: World = Object.assign(world, {
    namespace,
    polled() {
      // One may be under way, the next is asked now, and with the one after that it has been taken in.
      const enough = polls + 3;
      return new Promise<void>((resolve) => waiting.set(enough, resolve));
    },
    async [Symbol.asyncDispose]() {
      await namespace[Symbol.asyncDispose]();
      await rig.upstream[Symbol.asyncDispose]();
    },
  });
  expect(await answersOf(opened)).toEqual(RIGHT);
  return opened;
}

const ENTITIES = ["", ...ENTITY_IDS];
const KNOWN_SOURCES = new Set(["default", "global", "override", "killed", "cached", "archived", "stale"]);

/** What is answered for each flag and entity, by both. */
async function answersOf({ namespace }: World): Promise<Readonly<Record<string, string>>> {
  const answers: Record<string, string> = {};
  for (const entityId of ENTITIES) {
    const evaluations = await namespace.evaluateMany(FLAG_IDS, entityId);
    for (const [i, { value, source }] of evaluations.entries()) {
      expect(KNOWN_SOURCES).toContain(source);
      answers[`${FLAG_IDS[i]} ${entityId}`] = show(value);
    }
  }
  return answers;
}

function show(value: FlagValue | undefined): string {
  const shown: unknown = value?.value.value;
  return shown === undefined
    ? "nothing"
    : JSON.stringify(shown, (_, each: unknown) =>
        typeof each === "bigint" || typeof each === "number" ? String(each) : each,
      );
}

const RIGHT: Readonly<Record<string, string>> = {
  "a/1 ": '"weekly"',
  "a/1 ann": '"never"',
  "a/1 bob": '"weekly"',
  "a/2 ": "true",
  "a/2 ann": "false",
  "a/2 bob": "true",
  "a/3 ": '"7"',
  "a/3 ann": '"7"',
  "a/3 bob": '"7"',
  "a/4 ": '"daily"',
  "a/4 ann": '"daily"',
  "a/4 bob": '"daily"',
};

const RIGHT_ALONE = Object.fromEntries(
  Object.entries(RIGHT).map(([question, answer]) => [question, new Set([answer])]),
);

/** All that may be answered when this was taken for an answer: what was known, what it says, or the default of a kill. */
function possible(rpc: Rpc, message: AnswerTo<Rpc> | undefined): Allowed {
  const rows = rowsIn(rpc, message);
  const overrides = overridesIn(rpc, message);
  return Object.fromEntries(
    FLAG_IDS.flatMap((flagId) =>
      ENTITIES.map((entityId) => {
        const definition = table.find(flagId);
        const ofFlag = [ROWS.find((row) => row.flagId === flagId), ...rows(flagId)];
        const ofEntity =
          entityId === ""
            ? [undefined]
            : [
                OVERRIDES.find((each) => each.flagId === flagId && each.entityId === entityId),
                ...overrides(flagId, entityId),
              ];
        const answers = ofFlag.flatMap((row) =>
          ofEntity.map((override) => show(reference(definition, override, row).value)),
        );
        const isKilled =
          rpc === "GetKills" || rpc === "GetKilledFlags" || ofFlag.some((row) => row?.mode === "killed");
        return [
          `${flagId} ${entityId}`,
          new Set(isKilled ? [...answers, show(definition?.defaultValue)] : answers),
        ];
      }),
    ),
  );
}

/** What it says of a flag: as a list, because it may not say anything. */
function rowsIn(
  rpc: Rpc,
  message: AnswerTo<Rpc> | undefined,
): (flagId: string) => readonly (FlagState | undefined)[] {
  if (rpc === "GetFlagStates") {
    // Without a message it was not told this time.
    if (message === undefined) return () => [];
    const { rows } = message as AnswerTo<"GetFlagStates">;
    return (flagId) => {
      const row = rows.find((each) => each.flagId === flagId);
      return [
        row === undefined
          ? undefined
          : { flagId, archived: row.archived, type: undefined, ...settingOf(row) },
      ];
    };
  }
  if (rpc !== "GetFlagState") return () => [];
  const { flag, archived } = (message ?? {}) as Partial<AnswerTo<"GetFlagState">>;
  return (flagId) => {
    if (flagId !== "a/1") return [];
    if (flag === undefined) return [undefined];
    return [{ flagId, archived: archived === true, type: undefined, ...settingOf(flag) }];
  };
}

function overridesIn(
  rpc: Rpc,
  message: AnswerTo<Rpc> | undefined,
): (flagId: string, entityId: string) => readonly (Override | undefined)[] {
  // Without a message it was not told this time: what was known stays.
  if (message === undefined || (rpc !== "GetEntityOverrides" && rpc !== "GetOverrides")) return () => [];
  const said =
    rpc === "GetOverrides"
      ? (message as AnswerTo<"GetOverrides">).overrides
      : (message as AnswerTo<"GetEntityOverrides">).rows;
  return (flagId, entityId) => {
    const one = said.find((each) => each.flagId === flagId && each.entityId === entityId);
    return [one === undefined ? undefined : { flagId, entityId, ...settingOf(one) }];
  };
}

const served = ANSWER_CASES.filter(({ rpc }) => rpc !== "GetStatus" && rpc !== "Health");

test.each(served)(
  `${SERVED_COUNT} bad answers to $rpc change no evaluation, or those they are answers to, and none fails`,
  { ...PAUSES, timeout: 180_000 },
  async (one) => {
    let world = await openWorld(one.kind);
    const seen = { refused: 0, taken: 0 };
    let longestMs = 0;
    try {
      for (const answer of fc.sample(badAnswers(one.rpc, NAMES), { numRuns: SERVED_COUNT, seed: SEED + 1 })) {
        const verdict = judge(one, answer, "connect");
        const { result: answers, pauseMs } = await measured(async () => {
          world.poison = { rpc: one.rpc, wire: answer.wire };
          await world.polled();
          const given = await answersOf(world);
          world.poison = undefined;
          return given;
        });
        longestMs = Math.max(longestMs, pauseMs);
        const right = verdict.fault === undefined ? possible(one.rpc, verdict.message) : RIGHT_ALONE;
        expect(wrongAmong(answers, right), describeAnswer(answer.wire)).toEqual({});
        if (verdict.fault === undefined) {
          seen.taken += 1;
          // What it said may be of a version that nothing good comes after.
          await world[Symbol.asyncDispose]();
          world = await openWorld(one.kind);
        } else {
          seen.refused += 1;
          await world.polled();
        }
        // It answers well again, and is believed.
        expect(await answersOf(world)).toEqual(RIGHT);
        expect(await sourcesOf(world)).toEqual(["override", "global"]);
      }
    } finally {
      await world[Symbol.asyncDispose]();
    }
    expect(Math.min(seen.refused, seen.taken)).toBeGreaterThan(SERVED_COUNT / 10);
    judgePause(`one of ${SERVED_COUNT} bad answers to ${one.rpc} behind a namespace`, longestMs);
  },
);

type Allowed = Readonly<Record<string, ReadonlySet<string>>>;

/** Answers that are none of those allowed, by their questions. */
function wrongAmong(
  answers: Readonly<Record<string, string>>,
  allowed: Allowed,
): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(answers).filter(([question, given]) => allowed[question]?.has(given) !== true),
  );
}

async function sourcesOf({ namespace }: World): Promise<readonly string[]> {
  const [forAnn, forAll] = await Promise.all([
    namespace.evaluate("a/1", "ann"),
    namespace.evaluate("a/3", ""),
  ]);
  return [forAnn.source, forAll.source];
}

test(
  "a kill of every flag, and of many that nobody knows, is in force at once and over at once",
  PAUSES,
  async () => {
    await using world = await openWorld("pbflagd");
    let revision = 5n;
    const tell = async (flagIds: readonly string[]) => {
      revision += 1n;
      const wire = good("GetKills", { version: { epoch: "one", revision }, flagIds: [...flagIds] });
      world.poison = { rpc: "GetKills", wire };
      await world.polled();
    };
    const strangers = ["", " ", ...Array.from({ length: 20_000 }, (_, i) => `feature-${i}/1`)];
    const { pauseMs } = await measured(async () => {
      await tell([...strangers, ...FLAG_IDS]);
      for (const flagId of [...FLAG_IDS, "feature-7/1"]) {
        expect(await world.namespace.evaluate(flagId, "ann")).toEqual({
          value: table.find(flagId)?.defaultValue,
          source: "killed",
        });
      }
      await tell(["a/4"]);
      expect(await answersOf(world)).toEqual(RIGHT);
      expect(await sourcesOf(world), "its rows are of a version before the kill set's").toEqual([
        "stale",
        "stale",
      ]);
    });
    judgePause(
      `an upstream that says ${strangers.length + FLAG_IDS.length} flags are killed, and then 1`,
      pauseMs,
    );
  },
);

test(`${COUNT} bad answers to GetDescriptorSet leave the last good set in force, unless they hold another`, {
  ...PAUSES,
  timeout: 120_000,
}, async () => {
  await using rig = await openAnswerRig("connect", "pbflagd");
  const right = describeFlags(manyFeatures(30));
  const rightHash = sha256(right);
  const whole = { hash: rightHash, descriptorSet: right, totalBytes: BigInt(right.length) };
  const inForce = new Latest<FlagTable>(createFlagTable([], []));
  rig.upstream.answer = () => good("GetDescriptorSet", whole);
  await using follower = openDescriptorFollower({
    table: inForce,
    fetch: (knownHash, signal) =>
      fetchDescriptorSet(rig.pool, { knownHash, timeoutMs: 5_000, clock: systemClock, signal }),
    clock: systemClock,
    random: () => 0.5,
    pollMs: 3_600_000,
    onReload: () => {},
  });
  await eventually(() => inForce.value.flags.length === 30);
  /** The right bytes with one turned, in part, or under another name; what was made for any RPC; a set of nothing. */
  const nearly = fc
    .record({
      hash: fc.constantFrom(rightHash, rightHash.toUpperCase(), "", "0".repeat(64), sha256(new Uint8Array())),
      descriptorSet: fc.oneof(
        fc.constantFrom(right, right.subarray(1), new Uint8Array(), Buffer.concat([right, right])),
        fc.nat(right.length - 1).map((at) => right.map((byte, i) => (i === at ? byte ^ 1 : byte))),
      ),
      totalBytes: fc.constantFrom(
        BigInt(right.length),
        0n,
        1n,
        -1n,
        10n * BigInt(right.length),
        2n ** 26n + 1n,
        2n ** 63n - 1n,
      ),
    })
    .map((init) => ({ wire: good("GetDescriptorSet", init), isSpoilt: false }));
  const poison = fc.oneof({ weight: 2, arbitrary: nearly }, badAnswers("GetDescriptorSet", NAMES));
  const seen = { refused: 0, taken: 0 };
  let longestMs = 0;
  for (const answer of fc.sample(poison, { numRuns: COUNT, seed: SEED })) {
    const before = inForce.value;
    const { result, pauseMs } = await measured(() => {
      rig.upstream.answer = () => answer.wire;
      return follower.reload();
    });
    longestMs = Math.max(longestMs, pauseMs);
    const message =
      answer.wire.kind === "message" ? parsed("GetDescriptorSet", answer.wire.bytes) : undefined;
    // That nothing has changed is an answer, and needs no bytes.
    const isKnown = message?.hash === rightHash && !answer.isSpoilt;
    expect(inForce.value, describeAnswer(answer.wire)).toBe(before);
    expect(isKnown ? ["unchanged", "rejected"] : ["rejected"], describeAnswer(answer.wire)).toContain(
      result.kind,
    );
    const reason = "reason" in result ? result.reason : "";
    expect(reason.length).toBeLessThan(REASON_CHARACTERS_MAX);
    seen[result.kind === "rejected" ? "refused" : "taken"] += 1;
  }
  const next = describeFlags(manyFeatures(31));
  rig.upstream.answer = () =>
    good("GetDescriptorSet", { hash: sha256(next), descriptorSet: next, totalBytes: BigInt(next.length) });
  expect(await follower.reload()).toMatchObject({ kind: "replaced" });
  expect(inForce.value.flags).toHaveLength(31);
  expect(Math.min(seen.refused, seen.taken)).toBeGreaterThan(COUNT / 20);
  judgePause(`one of ${COUNT} bad answers to GetDescriptorSet`, longestMs);
});

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function measured<T>(run: () => Promise<T>): Promise<Measured<T>> {
  return measureShortest(() => measurePauses(run));
}

function describeAnswer(wire: RawAnswer): string {
  if (wire.kind === "message") return Buffer.from(wire.bytes).subarray(0, 500).toString("hex");
  return wire.kind === "error" ? wire.code : `${wire.status} ${wire.contentType}`;
}
