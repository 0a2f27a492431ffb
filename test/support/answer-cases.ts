import type { FlagState, Override } from "../../src/evaluation/state.ts";
import type { Version } from "../../src/evaluation/version.ts";
import type { Version as WireVersion } from "../../src/gen/pbflagd/v1/version_pb.ts";
import type { FlagValue } from "../../src/gen/pbflags/v1/types_pb.ts";
import type { Answer, Batch, Changes, Kills, Worth } from "../../src/store/flag-store.ts";
import type { UpstreamKind } from "../../src/upstream/pool/upstream-pool.ts";
import type { AnswerRig } from "./answer-rig.ts";
import { type AnswerTo, type BadAnswer, good, parsed, type Rpc } from "./bad-answers.ts";
import type { Protocol } from "./raw-upstream.ts";

/** Those asked for. */
export const FLAG_IDS = ["a/1", "a/2", "a/3", "a/4"];
export const ENTITY_IDS = ["ann", "bob"];
const KNOWN: Version = { epoch: "one", revision: 5 };
const KILLED_BEFORE = ["a/2"];

/** How a question is put, and what may come of an answer to it. */
export interface Case<R extends Rpc, T> {
  readonly rpc: R;
  readonly kind: UpstreamKind;
  readonly ask: (rig: AnswerRig) => Promise<T>;
  /** Why a message is no answer to it; undefined: it is one. */
  readonly faultOf: (message: AnswerTo<R>) => string | undefined;
  /** What was taken, to be compared with what was said. */
  readonly show: (taken: T) => unknown;
  readonly meaningOf: (message: AnswerTo<R>) => unknown;
  /** What errors of the upstream's service mean that are answers too, by their code. */
  readonly meaningOfErrors?: Readonly<Record<string, unknown>>;
}

/** What an answer is worth to whoever asked. */
export type Verdict =
  | { readonly fault: string }
  | {
      readonly fault: undefined;
      readonly meaning: unknown;
      /** Undefined: an error that is an answer. */
      readonly message: AnswerTo<Rpc> | undefined;
      /** An answer of the pool's member, although its call has failed. */
      readonly hasFailed: boolean;
    };

export function judge(
  { rpc, kind, faultOf, meaningOf, meaningOfErrors = {} }: Case<Rpc, unknown>,
  { wire, isSpoilt }: BadAnswer,
  protocol: Protocol,
): Verdict {
  if (isSpoilt) return { fault: "made to be refused" };
  if (wire.kind === "error") {
    // gRPC has numbers: whoever means none of them says that it does not know.
    const code = protocol === "grpc" && ["teapot", ""].includes(wire.code) ? "unknown" : wire.code;
    if (!(code in meaningOfErrors)) return { fault: "an error" };
    const hasFailed = kind === "pbflagd";
    return { fault: undefined, meaning: meaningOfErrors[code], message: undefined, hasFailed };
  }
  const message = wire.kind === "message" ? parsed(rpc, wire.bytes) : undefined;
  if (message === undefined) return { fault: "no message" };
  const fault = faultOf(message);
  return fault === undefined ? { fault, meaning: meaningOf(message), message, hasFailed: false } : { fault };
}

function faultOfVersion(version: WireVersion | undefined): string | undefined {
  if (version === undefined) return undefined;
  const { epoch, revision } = version;
  if (epoch === "" || epoch.length > 200) return "an epoch that is none";
  return revision < 0n || revision >= 2n ** 53n ? "a revision that is none" : undefined;
}

type WireBatch = Pick<AnswerTo<"GetFlagStates">, "version" | "ageMs" | "deviations">;

/** `keys`: of its rows, no two of which may be the same; `ids`: what the rows are of. */
function faultOfBatch(
  { version, deviations }: WireBatch,
  { keys, ids, asked }: Readonly<Record<"keys" | "ids" | "asked", readonly string[]>>,
): string | undefined {
  if (new Set(deviations.map(({ id }) => id)).size < deviations.length) return "two deviations of one id";
  if (new Set(keys).size < keys.length) return "two rows of one key";
  if (ids.some((id) => !asked.includes(id))) return "a row that was not asked for";
  const versions = [version, ...deviations.map((each) => each.version)];
  return versions.map(faultOfVersion).find((fault) => fault !== undefined);
}

const MODES = [undefined, "enabled", "default", "killed"] as const;

/** What every row on the wire has. */
export interface WireSetting {
  readonly state: number;
  readonly value?: FlagValue | undefined;
}

/** What such a row means. A state from later than us means nothing. */
export function settingOf({ state, value }: WireSetting): Pick<Override, "mode" | "value"> {
  const mode = MODES[state];
  if (mode === undefined) return { mode: "default", value: undefined };
  return { mode, value: value?.value.case === undefined ? undefined : value };
}

/** Reasons go into logs: they have a length that others can bear. */
function showRow({ mode, value, invalid }: FlagState | Override) {
  return { mode, value, isInvalid: invalid !== undefined, isWordy: (invalid?.length ?? 0) > 500 };
}

function meaningOfRow(row: WireSetting, invalid = "") {
  const isInvalid = invalid !== "" || MODES[row.state] === undefined;
  return { ...settingOf(row), isInvalid, isWordy: false };
}

function showWorth({ version, ageMs }: Worth) {
  return { version, ageMs };
}

const CENTURY_MS = 100n * 365n * 86_400_000n;

/** It can grow, and still be told on. */
function meaningOfAge(ms: bigint): number {
  return Number(ms < 0n ? 0n : ms >= CENTURY_MS ? CENTURY_MS : ms);
}

function meaningOfWorth({ version, ageMs }: Pick<WireBatch, "version" | "ageMs">) {
  return {
    version: version && { epoch: version.epoch, revision: Number(version.revision) },
    ageMs: meaningOfAge(ageMs),
  };
}

function showBatch<V>({ deviations = new Map<string, Worth>(), untold = new Set(), ...worth }: Batch<V>) {
  const ofKeys = new Map([...deviations].map(([key, each]) => [key, showWorth(each)]));
  return { ...showWorth(worth), deviations: ofKeys, untold };
}

function meaningOfBatch(answer: WireBatch, unknown: readonly string[]) {
  const deviations = new Map(answer.deviations.map((each) => [each.id, meaningOfWorth(each)]));
  return { ...meaningOfWorth(answer), deviations, untold: new Set(unknown) };
}

function showFlags(batch: Batch<FlagState>) {
  const rows = new Map(
    [...batch.value].map(([flagId, row]) => [flagId, { ...showRow(row), archived: row.archived }]),
  );
  return { ...showBatch(batch), rows };
}

function showOverrides(batch: Batch<ReadonlyMap<string, Override>>) {
  const rows = [...batch.value].flatMap(([entityId, overrides]) =>
    [...overrides].map(([flagId, override]) => [keyOf({ flagId, entityId }), showRow(override)] as const),
  );
  return { ...showBatch(batch), rows: new Map(rows) };
}

function keyOf({ flagId, entityId }: { readonly flagId: string; readonly entityId: string }): string {
  return JSON.stringify([flagId, entityId]);
}

function showKills({ value, ...worth }: Answer<Kills>) {
  const { overrides } = value;
  return { ...showWorth(worth), ...value, overrides: overrides?.map(keyOf) };
}

/** Of a plain evaluator. */
const UNVERSIONED = { version: undefined, ageMs: 0, deviations: new Map(), untold: new Set() };

/** What an answer means that tells of none of these keys. */
function untold(keys: readonly string[]) {
  return { ...UNVERSIONED, rows: new Map(), untold: new Set(keys) };
}

/** What errors mean by which a plain evaluator says that it can tell nothing of this one key. */
function untoldErrors(key: string): Readonly<Record<string, unknown>> {
  const meaning = untold([key]);
  return { internal: meaning, unavailable: meaning, unknown: meaning };
}

/** When each was committed counts only if it is told of each. */
function meaningOfChanges(changes: AnswerTo<"GetKills">["changes"]): Changes {
  if (changes === undefined) return { kind: "unknown" };
  const { flagIds, entityIds, flagCommittedAgoMs, entityCommittedAgoMs } = changes;
  const isTold =
    flagCommittedAgoMs.length === flagIds.length && entityCommittedAgoMs.length === entityIds.length;
  if (!isTold) return { kind: "listed", flagIds, entityIds };
  const committedAgo = {
    flagsMs: flagCommittedAgoMs.map(meaningOfAge),
    entitiesMs: entityCommittedAgoMs.map(meaningOfAge),
  };
  return { kind: "listed", flagIds, entityIds, committedAgo };
}

async function check({ pool }: AnswerRig): Promise<void> {
  if (await pool.check("a", AbortSignal.timeout(5_000))) return;
  throw new Error(pool.upstreams[0]?.lastError?.message);
}

function caseOf<R extends Rpc, T>(one: Case<R, T>): Case<R, T> {
  return one;
}

/** All that a proxy asks, but for descriptors: neither Evaluate nor BulkEvaluate is among it. */
export const ANSWER_CASES = [
  caseOf({
    rpc: "GetStatus",
    kind: "pbflagd",
    ask: check,
    faultOf: ({ version }) => faultOfVersion(version),
    show: () => "is well",
    meaningOf: () => "is well",
  }),
  caseOf({
    rpc: "GetFlagStates",
    kind: "pbflagd",
    ask: ({ store }) => store.flagStates(FLAG_IDS, KNOWN),
    faultOf: (answer) => {
      const ids = answer.rows.map(({ flagId }) => flagId);
      return faultOfBatch(answer, { keys: ids, ids, asked: FLAG_IDS });
    },
    show: showFlags,
    meaningOf: (answer) => ({
      ...meaningOfBatch(answer, answer.unknownFlagIds),
      rows: new Map(
        answer.rows.map((row) => [row.flagId, { ...meaningOfRow(row, row.invalid), archived: row.archived }]),
      ),
    }),
    // Its own store is away.
    meaningOfErrors: { unavailable: untold(FLAG_IDS) },
  }),
  caseOf({
    rpc: "GetEntityOverrides",
    kind: "pbflagd",
    ask: ({ store }) => store.overrides(ENTITY_IDS, KNOWN),
    faultOf: (answer) => {
      const ids = answer.rows.map(({ entityId }) => entityId);
      return faultOfBatch(answer, { keys: answer.rows.map(keyOf), ids, asked: ENTITY_IDS });
    },
    show: showOverrides,
    meaningOf: (answer) => ({
      ...meaningOfBatch(answer, answer.unknownEntityIds),
      rows: new Map(answer.rows.map((row) => [keyOf(row), meaningOfRow(row, row.invalid)])),
    }),
    meaningOfErrors: { unavailable: untold(ENTITY_IDS) },
  }),
  caseOf({
    rpc: "GetKills",
    kind: "pbflagd",
    async ask({ store, upstream }) {
      const poison = upstream.answer;
      upstream.answer = () =>
        good("GetKills", {
          version: { epoch: KNOWN.epoch, revision: BigInt(KNOWN.revision) },
          flagIds: KILLED_BEFORE,
        });
      await store.kills(undefined);
      upstream.answer = poison;
      return store.kills(KNOWN);
    },
    faultOf: ({ version, unchanged }) => {
      const isLater = version?.epoch === KNOWN.epoch && version.revision >= BigInt(KNOWN.revision);
      return (
        faultOfVersion(version) ?? (unchanged && !isLater ? "no change since something else" : undefined)
      );
    },
    show: showKills,
    meaningOf: ({
      unchanged,
      flagIds,
      overridesUnchanged,
      killedOverrides,
      changes,
      committedAgoMs,
      ...worth
    }) => ({
      ...meaningOfWorth(worth),
      flagIds: new Set(unchanged ? KILLED_BEFORE : flagIds),
      overrides: unchanged || overridesUnchanged ? undefined : killedOverrides.map(keyOf),
      changes: meaningOfChanges(changes),
      committedAgoMs: committedAgoMs === undefined ? undefined : meaningOfAge(committedAgoMs),
    }),
  }),
  caseOf({
    rpc: "Health",
    kind: "pbflags",
    ask: check,
    faultOf: () => undefined,
    show: () => "is well",
    meaningOf: () => "is well",
  }),
  caseOf({
    rpc: "GetFlagState",
    kind: "pbflags",
    ask: ({ store }) => store.flagStates(["a/1"]),
    faultOf: ({ flag }) => (flag?.flagId === "a/1" ? undefined : "another flag, or none"),
    show: showFlags,
    meaningOf: ({ flag, archived }) => ({
      ...UNVERSIONED,
      rows: new Map([["a/1", { ...meaningOfRow(flag ?? { state: 0 }), archived }]]),
    }),
    meaningOfErrors: {
      not_found: { ...UNVERSIONED, rows: new Map() },
      ...untoldErrors("a/1"),
    },
  }),
  caseOf({
    rpc: "GetOverrides",
    kind: "pbflags",
    ask: ({ store }) => store.overrides(["ann"]),
    faultOf: ({ overrides }) => {
      if (overrides.some(({ entityId }) => entityId !== "ann")) return "somebody else's override";
      const ids = new Set(overrides.map(({ flagId }) => flagId));
      return ids.size < overrides.length ? "two overrides of one flag" : undefined;
    },
    show: showOverrides,
    meaningOf: ({ overrides }) => ({
      ...UNVERSIONED,
      rows: new Map(overrides.map((each) => [keyOf(each), meaningOfRow(each)])),
    }),
    meaningOfErrors: untoldErrors("ann"),
  }),
  caseOf({
    rpc: "GetKilledFlags",
    kind: "pbflags",
    ask: ({ store }) => store.kills(undefined),
    faultOf: () => undefined,
    show: showKills,
    meaningOf: ({ flagIds, killedOverrides }) => ({
      version: undefined,
      ageMs: 0,
      flagIds: new Set(flagIds),
      overrides: killedOverrides.map(keyOf),
      changes: { kind: "unknown" },
      committedAgoMs: undefined,
    }),
  }),
] as unknown as readonly Case<Rpc, unknown>[];
