import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  GetDescriptorSetResponseSchema,
  GetEntityOverridesResponseSchema,
  GetFlagStatesResponseSchema,
  GetKillsResponseSchema,
  GetStatusResponseSchema,
} from "../../src/gen/pbflagd/v1/state_pb.ts";
import {
  GetFlagStateResponseSchema,
  GetKilledFlagsResponseSchema,
  GetOverridesResponseSchema,
  HealthResponseSchema,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { damage, someHarm } from "./damage.ts";
import type { RawAnswer } from "./raw-upstream.ts";

/** What a proxy asks of an upstream, and what it should be answered with. */
export const ANSWERS = {
  GetStatus: GetStatusResponseSchema,
  GetFlagStates: GetFlagStatesResponseSchema,
  GetEntityOverrides: GetEntityOverridesResponseSchema,
  GetKills: GetKillsResponseSchema,
  GetDescriptorSet: GetDescriptorSetResponseSchema,
  Health: HealthResponseSchema,
  GetFlagState: GetFlagStateResponseSchema,
  GetOverrides: GetOverridesResponseSchema,
  GetKilledFlags: GetKilledFlagsResponseSchema,
} as const;

export type Rpc = keyof typeof ANSWERS;
export type AnswerTo<R extends Rpc> = MessageShape<(typeof ANSWERS)[R]>;

/** An answer, and whether it was made to be refused whatever else is in it. */
export interface BadAnswer {
  readonly wire: RawAnswer;
  readonly isSpoilt: boolean;
}

/** Stands for bytes that are no UTF-8, as many as it has itself. */
const SPOILT = "\uf8ff";
const SPOILT_BYTES = Buffer.from(SPOILT);
const NO_UTF8 = Uint8Array.of(0xff, 0xfe, 0xc0);

export interface Names {
  readonly flagIds: readonly string[];
  readonly entityIds: readonly string[];
}

/** Answers to an RPC about these flags and entities: some that are right, many that are nearly so, and nonsense. */
export function badAnswers(rpc: Rpc, names: Names): fc.Arbitrary<BadAnswer> {
  const all: Readonly<Record<Rpc, fc.Arbitrary<MessageInitShape<DescMessage>>>> = shapes(names);
  const messages = all[rpc].map((init) => encode(ANSWERS[rpc], init));
  const harmed = fc.tuple(messages, harms).map(([{ bytes }, harm]) => damage(bytes, harm));
  // To whoever reads it, its fields have other types and meanings.
  const foreign = fc
    .constantFrom(...(Object.keys(ANSWERS) as Rpc[]))
    .chain((name) => all[name].map((init) => encode(ANSWERS[name], init).bytes));
  const message = fc.oneof(
    { weight: 10, arbitrary: messages },
    { weight: 5, arbitrary: harmed.map((bytes) => ({ bytes, isSpoilt: false })) },
    // Ten times over: what may stand there once stands there ten times, and lists are ten times as long.
    { weight: 1, arbitrary: messages.map(({ bytes }) => ({ bytes: tenfold(bytes), isSpoilt: false })) },
    { weight: 1, arbitrary: foreign.map((bytes) => ({ bytes, isSpoilt: false })) },
    { weight: 2, arbitrary: noise.map((bytes) => ({ bytes, isSpoilt: false })) },
  );
  return fc.oneof(
    {
      weight: 14,
      arbitrary: message.map(({ bytes, isSpoilt }) => ({
        wire: { kind: "message" as const, bytes },
        isSpoilt,
      })),
    },
    { weight: 1, arbitrary: error.map((wire) => ({ wire, isSpoilt: false })) },
    { weight: 1, arbitrary: page.map((wire) => ({ wire, isSpoilt: true })) },
  );
}

/** What such bytes say to a reader; undefined if they are no such message. */
export function parsed<R extends Rpc>(rpc: R, bytes: Uint8Array): AnswerTo<R> | undefined {
  try {
    return fromBinary(ANSWERS[rpc] as DescMessage, bytes) as AnswerTo<R>;
  } catch {
    return undefined;
  }
}

/** A message where no harm is meant. */
export function good<R extends Rpc>(rpc: R, init: MessageInitShape<(typeof ANSWERS)[R]>): RawAnswer {
  const schema = ANSWERS[rpc] as DescMessage;
  return { kind: "message", bytes: toBinary(schema, create(schema, init as never)) };
}

function encode(schema: DescMessage, init: MessageInitShape<DescMessage>) {
  const bytes = Buffer.from(toBinary(schema, create(schema, init)));
  let isSpoilt = false;
  for (let at = bytes.indexOf(SPOILT_BYTES); at >= 0; at = bytes.indexOf(SPOILT_BYTES, at)) {
    bytes.set(NO_UTF8, at);
    isSpoilt = true;
  }
  return { bytes, isSpoilt };
}

/** Nothing is as large as what is that large already. */
function tenfold(bytes: Uint8Array): Uint8Array {
  return bytes.length > 10_000 ? bytes : Buffer.concat(Array.from({ length: 10 }, () => bytes));
}

const text = fc.oneof(
  fc.constantFrom("", " ", "a/01", "A/1", "a/1\0", "ann ", "é", "\u{1f600}", "x".repeat(300), SPOILT),
  fc.string({ unit: "binary", maxLength: 20 }),
);
const int64 = fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 2n ** 53n, 0n, -1n);
const double = fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, 5e-324, Number.MAX_VALUE);
const listOf = <T>(item: fc.Arbitrary<T>) => fc.array(item, { maxLength: 3 }).map((values) => ({ values }));

const value = fc.oneof(
  fc.constant(undefined),
  fc.constant({}),
  ...[
    fc.boolean().map((boolean) => ({ case: "boolValue", value: boolean })),
    text.map((string) => ({ case: "stringValue", value: string })),
    fc.constant({ case: "stringValue", value: "x".repeat(10_000) }),
    int64.map((number) => ({ case: "int64Value", value: number })),
    double.map((number) => ({ case: "doubleValue", value: number })),
    listOf(fc.boolean()).map((list) => ({ case: "boolListValue", value: list })),
    listOf(text).map((list) => ({ case: "stringListValue", value: list })),
    listOf(int64).map((list) => ({ case: "int64ListValue", value: list })),
    listOf(double).map((list) => ({ case: "doubleListValue", value: list })),
  ].map((oneof) => (oneof as fc.Arbitrary<unknown>).map((set) => ({ value: set }))),
);

const epoch = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom("one", "two") },
  fc.constantFrom("", "x".repeat(200), "x".repeat(201), SPOILT),
);
const revision = fc.oneof({ weight: 8, arbitrary: fc.constantFrom(0n, 4n, 5n, 6n, 2n ** 53n - 1n) }, int64);
const version = fc.option(fc.record({ epoch, revision }), { nil: undefined, freq: 4 });
const ageMs = fc.oneof(fc.constantFrom(0n, 40n, 60_000n), int64);
/** Enums of later, or of nobody. */
const state = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(1, 2, 3) },
  fc.constantFrom(0, 4, -1, 2 ** 31 - 1),
);
const flagType = fc.integer({ min: -1, max: 9 });
const invalid = fc.oneof(
  { weight: 4, arbitrary: fc.constant("") },
  fc.constantFrom("torn", "x".repeat(10_000), SPOILT),
);
const hash = fc.oneof(fc.constantFrom("", "0".repeat(64), "x".repeat(10_000), SPOILT), text);

function shapes({ flagIds, entityIds }: Names) {
  const flagId = fc.constantFrom(...flagIds);
  const entityId = fc.constantFrom(...entityIds);
  const anyFlag = fc.oneof({ weight: 30, arbitrary: flagId }, text);
  const anyEntity = fc.oneof({ weight: 30, arbitrary: entityId }, text);
  const ids = (id: fc.Arbitrary<string>) =>
    fc.oneof(
      { weight: 8, arbitrary: fc.array(id, { maxLength: 4 }) },
      // What nobody knows; and more than anybody has.
      fc.array(text, { maxLength: 3 }),
      fc.constant(Array.from({ length: 10_000 }, (_, i) => `feature-${i}/1`)),
    );
  const deviations = (id: fc.Arbitrary<string>) =>
    fc.array(fc.record({ id, version, ageMs }), { maxLength: 2 });
  const setting = { state, value };
  const flagRow = fc.record({ flagId: anyFlag, ...setting, archived: fc.boolean(), flagType, invalid });
  const overrideRow = fc.record({ flagId: anyFlag, entityId: anyEntity, ...setting, invalid });
  const override = fc.record({ flagId: anyFlag, entityId: anyEntity, ...setting });
  const killed = fc.array(fc.record({ flagId: anyFlag, entityId: anyEntity }), { maxLength: 3 });
  /** Mostly one of each, as it should be. */
  const rows = <R extends { readonly flagId: string; readonly entityId?: string }>(row: fc.Arbitrary<R>) => {
    const distinct = fc.uniqueArray(row, {
      maxLength: 6,
      selector: (each) => `${each.flagId}\n${each.entityId ?? ""}`,
    });
    return fc.oneof(
      { weight: 12, arbitrary: distinct },
      { weight: 2, arbitrary: fc.array(row, { maxLength: 6 }) },
      // As many as ten full answers have.
      row.map((each) =>
        Array.from({ length: 5_000 }, (_, i) => ({ ...each, ...small, flagId: `feature-${i}/1` })),
      ),
    );
  };
  return {
    GetStatus: fc.record({ status: state, version, descriptorHash: hash, serverVersion: text }),
    GetFlagStates: fc.record({
      version,
      ageMs,
      rows: rows(flagRow),
      unknownFlagIds: ids(anyFlag),
      deviations: deviations(anyFlag),
    }),
    GetEntityOverrides: fc.record({
      version,
      ageMs,
      rows: rows(overrideRow),
      unknownEntityIds: ids(anyEntity),
      deviations: deviations(anyEntity),
    }),
    GetKills: fc.record({
      version,
      ageMs,
      committedAgoMs: fc.option(ageMs, { nil: undefined }),
      flagIds: ids(anyFlag),
      killedOverrides: killed,
      unchanged: fc.boolean(),
      overridesUnchanged: fc.boolean(),
      changes: fc.option(fc.record({ flagIds: ids(anyFlag), entityIds: ids(anyEntity) }), { nil: undefined }),
    }),
    GetDescriptorSet: fc.record({
      hash,
      descriptorSet: fc.uint8Array({ maxLength: 100 }),
      totalBytes: fc.oneof(fc.nat(100).map(BigInt), int64),
    }),
    Health: fc.record({
      status: state,
      secondsSinceServerContact: int64,
      cachedFlagCount: fc.integer(),
      consecutiveFailures: fc.integer(),
    }),
    GetFlagState: fc.record({
      flag: fc.option(
        fc.record({
          flagId: fc.oneof({ weight: 8, arbitrary: fc.constant(flagIds[0] ?? "") }, anyFlag),
          ...setting,
        }),
        {
          nil: undefined,
          freq: 8,
        },
      ),
      archived: fc.boolean(),
    }),
    GetOverrides: fc.record({
      overrides: rows(
        fc.oneof(
          { weight: 8, arbitrary: override.map((each) => ({ ...each, entityId: entityIds[0] ?? "" })) },
          override,
        ),
      ),
    }),
    GetKilledFlags: fc.record({ flagIds: ids(anyFlag), killedOverrides: killed }),
  } satisfies Readonly<Record<Rpc, unknown>>;
}

const small = { value: { value: { case: "stringValue", value: "weekly" } }, invalid: "" } as const;

/** What happens to bytes on their way. */
const harms = someHarm({ harmsMax: 4, lengthMax: 50 });

const noise = fc.oneof(
  fc.uint8Array({ maxLength: 200 }),
  fc.constantFrom(
    new Uint8Array(20).fill(0x80),
    Uint8Array.of(0x00, 0x01),
    Uint8Array.of(0x0c),
    new Uint8Array(10_000).fill(0x53),
    new Uint8Array(100_000).fill(0xff),
  ),
);

const error = fc.record({
  kind: fc.constant("error" as const),
  code: fc.constantFrom(
    "not_found",
    "internal",
    "unavailable",
    "unknown",
    "unauthenticated",
    "ok",
    "teapot",
    "",
  ),
  message: fc.oneof(text, fc.constant("x".repeat(10_000))).map((each) => each.replaceAll(SPOILT, "")),
});

const page = fc.record({
  kind: fc.constant("page" as const),
  status: fc.constantFrom(200, 201, 401, 404, 418, 500, 503),
  contentType: fc.constantFrom(
    "text/html",
    "text/plain; charset=utf-8",
    "application/octet-stream",
    "application/grpc-web",
  ),
  bytes: fc.oneof(fc.constant(Buffer.from("<html>It works!</html>")), fc.uint8Array({ maxLength: 50 })),
});
