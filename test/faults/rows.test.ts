import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import { createFlagTable, type FlagDefinition, type FlagType } from "../../src/flags/definition.ts";
import { type FlagValue, FlagValueSchema } from "../../src/gen/pbflags/v1/types_pb.ts";
import type { InvalidValue } from "../../src/namespaces/invalid-value-watch.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { connectDatabase, type Database } from "../../src/store/database.ts";
import { openPostgresStore } from "../../src/store/postgres-store.ts";
import { systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import { eventually } from "../support/eventually.ts";
import { judgePause, measurePauses, measureShortest, PAUSES } from "../support/pauses.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { silentEvents } from "../support/silent-events.ts";
import { size } from "../support/size.ts";

// Fault 8 at the entrance for rows: whatever the tables take, and people or other programs may have written.

const count = size(300, 10_000);
const perFeature = 100;

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

/** Bytes in a value column, and what they say to a reader of each type: nothing, a value, or nonsense. */
interface Stored {
  readonly bytes: Uint8Array | null;
  /** Undefined: no value at all, which is no fault. */
  readonly holds: FlagValue | "nonsense" | undefined;
}

/** As it comes back from its bytes. */
const wellFormed = (value: string) => Buffer.from(value).toString();
const text = fc.oneof(fc.string({ unit: "binary", maxLength: 20 }), fc.constantFrom("", "\0", "\u{1f600}"));
const int64 = fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 0n, -1n);
const double = fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, 5e-324, Number.MAX_VALUE);
const listOf = <T>(item: fc.Arbitrary<T>) => fc.array(item, { maxLength: 3 }).map((values) => ({ values }));

/** Unusual, but a value. */
const extreme = fc
  .oneof(
    fc.boolean().map((value) => ({ case: "boolValue", value })),
    text.map((value) => ({ case: "stringValue", value: wellFormed(value) })),
    // Ten times what a value has.
    fc.constantFrom(1_000, 10_000).map((n) => ({ case: "stringValue", value: "x".repeat(n) })),
    int64.map((value) => ({ case: "int64Value", value })),
    double.map((value) => ({ case: "doubleValue", value })),
    listOf(fc.boolean()).map((value) => ({ case: "boolListValue", value })),
    listOf(text.map(wellFormed)).map((value) => ({ case: "stringListValue", value })),
    fc.constant({ case: "stringListValue", value: { values: Array(1_000).fill("x") } }),
    listOf(int64).map((value) => ({ case: "int64ListValue", value })),
    listOf(double).map((value) => ({ case: "doubleListValue", value })),
  )
  .map((value): Stored => {
    const message = create(FlagValueSchema, { value: value as FlagValue["value"] });
    return { bytes: toBinary(FlagValueSchema, message), holds: message };
  });

const nonsense = fc
  .constantFrom<Uint8Array[]>(
    Uint8Array.of(0xff),
    Uint8Array.of(0xde, 0xad, 0xbe, 0xef),
    // A text that is cut off, one that is no UTF-8, and one in a list that is not.
    Uint8Array.of(0x12, 0x05, 0x61),
    Uint8Array.of(0x12, 0x02, 0xc3, 0x28),
    Uint8Array.of(0x32, 0x04, 0x0a, 0x02, 0xff, 0xfe),
    // A varint without an end, a field of the number 0, the end of a group that never began.
    new Uint8Array(20).fill(0x80),
    Uint8Array.of(0x00, 0x01),
    Uint8Array.of(0x0c),
    // Messages that hold no value: another field, another wire type.
    new BinaryWriter().tag(99, WireType.Varint).uint32(1).finish(),
    new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(new Uint8Array(3)).finish(),
    // Groups in groups.
    new Uint8Array(10_000).fill(0x53),
  )
  .map((bytes): Stored => ({ bytes, holds: "nonsense" }));

const nothing = fc
  .constantFrom(null, new Uint8Array(0))
  .map((bytes): Stored => ({ bytes, holds: undefined }));

const stored = fc.oneof({ weight: 4, arbitrary: extreme }, { weight: 4, arbitrary: nonsense }, nothing);

/** A row of `flags`, and the same flag's row of `flag_overrides` for ann. */
const row = fc.record({
  type: fc.constantFrom(...types),
  rowType: fc.constantFrom<string[]>("", " ", "bool", "BOOL", "NO_SUCH_TYPE", "\u{1f600}", "INT64_LIST"),
  layer: fc.constantFrom("", "GLOBAL", "user", "\u0001"),
  name: fc.constantFrom("", "same", "x".repeat(255), "a/b"),
  state: fc.constantFrom("ENABLED", "DEFAULT", "KILLED", "ENABLED", "ENABLED"),
  archived: fc.boolean(),
  value: stored,
  overrideState: fc.constantFrom("ENABLED", "ENABLED", "DEFAULT", "KILLED"),
  override: stored,
});

type BadRow = (typeof row extends fc.Arbitrary<infer R> ? R : never) & { readonly id: string };

const DEFAULTS: Readonly<Record<FlagType, FlagValue["value"]>> = {
  BOOL: { case: "boolValue", value: true },
  STRING: { case: "stringValue", value: "daily" },
  INT64: { case: "int64Value", value: 5n },
  DOUBLE: { case: "doubleValue", value: 0.5 },
  BOOL_LIST: { case: "boolListValue", value: listMessage([true]) },
  STRING_LIST: { case: "stringListValue", value: listMessage(["a"]) },
  INT64_LIST: { case: "int64ListValue", value: listMessage([1n]) },
  DOUBLE_LIST: { case: "doubleListValue", value: listMessage([0.5]) },
};

function listMessage(values: readonly unknown[]): never {
  return { values } as never;
}

function defaultOf(type: FlagType): FlagValue {
  return create(FlagValueSchema, { value: DEFAULTS[type] });
}

let created: TestDatabase;
let database: Database;
let rows: readonly BadRow[];

beforeAll(async () => {
  created = await createTestDatabase();
  database = await connectDatabase({ url: created.url });
  rows = fc.sample(row, count).map((each, i) => ({
    ...each,
    id: `poison-${Math.floor(i / perFeature)}/${(i % perFeature) + 1}`,
  }));
  await plant(rows);
});

afterAll(async () => {
  await database[Symbol.asyncDispose]();
  await created[Symbol.asyncDispose]();
});

test(`${count} bad rows: each is refused by itself, told once, and holds nothing up`, {
  ...PAUSES,
  timeout: 120_000,
}, async () => {
  const learning = await measureShortest(async () => {
    await using opened = openWorld();
    return await measurePauses(() => opened.namespace.whenReady(AbortSignal.timeout(60_000)));
  });
  await using opened = openWorld();
  const { namespace, invalid } = opened;
  await namespace.whenReady(AbortSignal.timeout(60_000));

  // All at once, and ann's overrides with them.
  const ids = rows.map(({ id }) => id);
  const forAll = await namespace.evaluateMany(ids, "");
  const forAnn = await namespace.evaluateMany(ids, "ann");
  expect(shown(ids, forAll)).toEqual(rows.map((each) => `${each.id} ${rightGlobal(each)}`));
  expect(shown(ids, forAnn)).toEqual(rows.map((each) => `${each.id} ${rightForAnn(each)}`));
  expect((await namespace.evaluate("good/1", "ann")).value?.value.value).toBe("fine");

  const faults = rows.flatMap((each) => [
    ...(isFault(each, each.value) ? [`${each.id} for all`] : []),
    ...(isFault(each, each.override) ? [`${each.id} for ann`] : []),
  ]);
  expect(faults.length).toBeGreaterThan(count / 2);
  const told = () => invalid.map(({ flagId, entityId }) => `${flagId} for ${entityId ?? "all"}`);
  expect(told().toSorted()).toEqual(faults.toSorted());

  // The same again is no news.
  const again = await measureShortest(async () => {
    const before = opened.fetchCount();
    await database.query("SELECT feature_flags.new_epoch()");
    return await measurePauses(() => eventually(() => opened.fetchCount() >= before + 2));
  });
  expect(told()).toHaveLength(faults.length);

  judgePause(`learning ${count} bad rows`, learning.pauseMs);
  judgePause(`learning ${count} bad rows again`, again.pauseMs);
});

test("a kill of every flag, and of some that nobody knows, is in force at once and is over at once", {
  ...PAUSES,
  timeout: 300_000,
}, async () => {
  await using opened = openWorld();
  const { namespace } = opened;
  await namespace.whenReady(AbortSignal.timeout(60_000));
  const ids = rows.map(({ id }) => id);
  const before = shown(ids, await namespace.evaluateMany(ids, "ann"));

  const killedBefore = rows.filter(({ state }) => state === "KILLED").length + strays.length;
  await database.query("CREATE TEMPORARY TABLE kept AS SELECT flag_id, state FROM feature_flags.flags");

  /** Changes rows, and measures until all that changed has been learnt. */
  const measureChange = (statement: string, killedAfter: number) => {
    const fetches = opened.fetchCount();
    const isLearnt = () =>
      namespace.killSet.value?.flagIds.size === killedAfter && opened.fetchCount() > fetches;
    return measurePauses(async () => {
      await database.query(statement);
      await eventually(isLearnt);
    });
  };

  const { pauseMs } = await measureShortest(async () => {
    const killing = await measureChange(
      "UPDATE feature_flags.flags SET state = 'KILLED'",
      count + strays.length + 1,
    );
    expect(shown(ids, await namespace.evaluateMany(ids, "ann"))).toEqual(
      rows.map(({ id, type }) => `${id} ${show(defaultOf(type))} killed`),
    );
    expect(await namespace.evaluate(strays[0] ?? "", "")).toEqual({ value: undefined, source: "killed" });

    const reviving = await measureChange(
      "UPDATE feature_flags.flags AS f SET state = k.state FROM kept AS k WHERE k.flag_id = f.flag_id",
      killedBefore,
    );
    await eventually(
      async () => shown(ids, await namespace.evaluateMany(ids, "ann")).join() === before.join(),
      // 10,000 rows of one entity are read, while all of them are asked for over and over.
      { timeoutMs: 90_000 },
    );
    return { pauseMs: Math.max(killing.pauseMs, reviving.pauseMs) };
  });
  judgePause(`killing and reviving ${count} flags`, pauseMs);
});

/** Rows that no descriptor defines: blank, look-alikes of others, endless. All of them are killed. */
const strays = ["", " ", "GOOD/1", "good/1 ", "good/01", "good.alias", `long/${"9".repeat(500)}`, "no-slash"];

async function plant(bad: readonly BadRow[]): Promise<void> {
  const features = [...new Set(bad.map(({ id }) => id.split("/")[0] ?? "")), "good", ""];
  await database.query(
    "INSERT INTO feature_flags.features (feature_id, display_name) SELECT f, '' FROM unnest($1::text[]) AS f",
    [features],
  );
  const good = { value: { case: "stringValue", value: "fine" } } as const;
  await insertFlags(
    [
      ...bad.map((each) => ({ ...each, bytes: each.value.bytes, archived: each.archived })),
      ...strays.map((id) => ({
        id,
        rowType: "BOOL",
        layer: "user",
        name: "alias",
        state: "KILLED",
        archived: false,
        bytes: null,
      })),
      {
        id: "good/1",
        rowType: "STRING",
        layer: "user",
        name: "alias",
        state: "ENABLED",
        archived: false,
        bytes: toBinary(FlagValueSchema, create(FlagValueSchema, good)),
      },
    ],
    "poison",
  );
  await database.query(
    `INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, state, value)
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])`,
    [
      bad.map(({ id }) => id),
      bad.map(() => "ann"),
      bad.map(({ overrideState }) => overrideState),
      bad.map(({ override }) => toBuffer(override.bytes)),
    ],
  );
  // Nobody is called so, but the tables take it.
  await database.query(
    "INSERT INTO feature_flags.flag_overrides (flag_id, entity_id, value) VALUES ('good/1', '', '\\xff'), ('good/1', ' ', '\\xff')",
  );
}

interface FlagInsert {
  readonly id: string;
  readonly rowType: string;
  readonly layer: string;
  readonly name: string;
  readonly state: string;
  readonly archived: boolean;
  readonly bytes: Uint8Array | null;
}

async function insertFlags(flags: readonly FlagInsert[], noise: string): Promise<void> {
  await database.query(
    `INSERT INTO feature_flags.flags
       (flag_id, feature_id, field_number, flag_type, layer, display_name, state, value, archived_at, default_value, description)
     SELECT f.id, CASE WHEN strpos(f.id, 'poison') = 1 THEN split_part(f.id, '/', 1) ELSE 'good' END, f.number,
       f.type, f.layer, f.name, f.state, f.value, CASE WHEN f.archived THEN now() END, '\\xff', $8
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::boolean[]) WITH ORDINALITY
       AS f (id, type, layer, name, state, value, archived, number)`,
    [
      flags.map(({ id }) => id),
      flags.map(({ rowType }) => rowType),
      flags.map(({ layer }) => layer),
      flags.map(({ name }) => name),
      flags.map(({ state }) => state),
      flags.map(({ bytes }) => toBuffer(bytes)),
      flags.map(({ archived }) => archived),
      noise,
    ],
  );
}

function toBuffer(bytes: Uint8Array | null): Buffer | null {
  return bytes === null ? null : Buffer.from(bytes);
}

/** Right is: never a value that does not fit, and otherwise as the chain says. */
function rightGlobal({ type, state, archived, value }: BadRow): string {
  const fallback = show(defaultOf(type));
  if (state === "KILLED") return `${fallback} killed`;
  const served = fitting(type, value);
  if (served !== undefined && archived) return `${show(served)} archived`;
  if (served !== undefined && state === "ENABLED") return `${show(served)} global`;
  return `${fallback} default`;
}

function rightForAnn(each: BadRow): string {
  const { type, state, overrideState, override } = each;
  if (state === "KILLED") return rightGlobal(each);
  const served = overrideState === "ENABLED" ? fitting(type, override) : undefined;
  return served === undefined ? `${show(defaultOf(type))} default` : `${show(served)} override`;
}

function fitting(type: FlagType, { holds }: Stored): FlagValue | undefined {
  if (holds === undefined || holds === "nonsense") return undefined;
  return holds.value.case === DEFAULTS[type].case ? holds : undefined;
}

function isFault({ type }: BadRow, content: Stored): boolean {
  return content.holds !== undefined && fitting(type, content) === undefined;
}

function show(value: FlagValue | undefined): string {
  return value === undefined ? "" : Buffer.from(toBinary(FlagValueSchema, value)).toString("base64");
}

function shown(ids: readonly string[], evaluations: readonly Evaluation[]): readonly string[] {
  return evaluations.map(({ value, source }, i) => `${ids[i]} ${show(value)} ${source}`);
}

interface World extends AsyncDisposable {
  readonly namespace: Namespace;
  readonly invalid: readonly InvalidValue[];
  /** How often the store was asked for flags or overrides. */
  fetchCount(): number;
}

/** A namespace over the real store, which polls kills all the time. */
function openWorld(): World {
  const definitions = rows.map(({ id, type }) => define(id, type));
  const features = [...new Set(definitions.map(({ featureId }) => featureId))].map((id) => ({
    id,
    displayName: id,
    description: "",
    owner: "",
  }));
  const table = createFlagTable(features, [...definitions, define("good/1", "STRING")]);
  const invalid: InvalidValue[] = [];
  let fetchCount = 0;
  const namespace = openNamespace({
    flags: new Latest(table),
    store: openPostgresStore({
      url: created.url,
      poolSize: 4,
      preparedStatements: "auto",
      fetchTimeoutMs: 10_000,
      clock: systemClock,
    }),
    clock: systemClock,
    random: Math.random,
    killTtlMs: 200,
    flagTtlMs: 600_000,
    overrideTtlMs: 600_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 10_000,
    jitter: 0.2,
    events: {
      ...silentEvents,
      onStoreCall: (operation) => {
        if (operation !== "killed_flags") fetchCount += 1;
      },
      onInvalidValue: (value) => invalid.push(value),
    },
    traceStoreCall: (_, run) => run(),
  });
  return {
    namespace,
    invalid,
    fetchCount: () => fetchCount,
    [Symbol.asyncDispose]: () => namespace[Symbol.asyncDispose](),
  };
}

function define(id: string, type: FlagType): FlagDefinition {
  const [featureId = "", number = ""] = id.split("/");
  return {
    id,
    alias: `${featureId}.flag_${number}`,
    featureId,
    fieldNumber: Number(number),
    name: `flag_${number}`,
    type,
    layer: "user",
    description: "",
    defaultValue: defaultOf(type),
    supportedValues: undefined,
  };
}
