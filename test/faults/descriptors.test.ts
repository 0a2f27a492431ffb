import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { FieldDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FlagTable } from "../../src/flags/definition.ts";
import { hasType } from "../../src/flags/flag-value.ts";
import { loadDescriptors } from "../../src/flags/load-descriptors.ts";
import { DescriptorError, parseDescriptorsInSteps } from "../../src/flags/parse-descriptors.ts";
import { openDescriptorWatch, type ReloadResult } from "../../src/flags/watch-descriptors.ts";
import { FeatureOptionsSchema, FlagOptionsSchema } from "../../src/gen/pbflags/options_pb.ts";
import { systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import { runInSlices } from "../../src/system/run-in-slices.ts";
import { damage, someHarm } from "../support/damage.ts";
import { describeFlags, manyFeatures } from "../support/descriptors.ts";
import { eventually } from "../support/eventually.ts";
import {
  assertShort,
  judgePause,
  type Measured,
  measurePauses,
  measureShortest,
  PAUSES,
} from "../support/pauses.ts";
import { size } from "../support/size.ts";

// Faults 8 (poison, at the entrance for descriptors) and 9 (a set that lacks most flags).

const hugeBytes = size(8, 63) * 2 ** 20;
const good = describeFlags(manyFeatures(48, 12));

/** What damage in transit or on a disk does to a set. */
const damaged = someHarm({ harmsMax: 8, lengthMax: 200 }).map((harms) => damage(good, harms));

const text = fc.oneof(
  fc.constantFrom(
    "",
    " ",
    "on",
    "on",
    "a_b",
    "global",
    "USER",
    "a\0b",
    "a/b",
    "é",
    "x".repeat(255),
    "x".repeat(300),
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
);
const int64 = fc.oneof(
  fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
  fc.constantFrom(-(2n ** 63n), 2n ** 63n - 1n, 0n),
);
const double = fc.oneof(fc.double(), fc.constantFrom(Number.NaN, Infinity, -0));

const values = <T>(value: fc.Arbitrary<T>) => fc.record({ values: fc.array(value, { maxLength: 5 }) });
const defaultValue = fc.oneof(
  fc.record({ case: fc.constant("boolValue" as const), value: fc.record({ value: fc.boolean() }) }),
  fc.record({ case: fc.constant("stringValue" as const), value: fc.record({ value: text }) }),
  fc.record({ case: fc.constant("int64Value" as const), value: fc.record({ value: int64 }) }),
  fc.record({ case: fc.constant("doubleValue" as const), value: fc.record({ value: double }) }),
  fc.record({ case: fc.constant("boolListValue" as const), value: values(fc.boolean()) }),
  fc.record({ case: fc.constant("stringListValue" as const), value: values(text) }),
  fc.record({ case: fc.constant("int64ListValue" as const), value: values(int64) }),
  fc.record({ case: fc.constant("doubleListValue" as const), value: values(double) }),
);

const option = fc
  .record({
    layer: fc.oneof({ weight: 3, arbitrary: fc.constantFrom("", "user", "Tenant") }, text),
    description: fc.oneof({ weight: 3, arbitrary: fc.constant("What it switches.") }, text),
    default: fc.option(fc.record({ value: defaultValue }), { nil: undefined }),
  })
  .map((init) => toBinary(FlagOptionsSchema, create(FlagOptionsSchema, init)));

/** What a compiler would not write, in the shape of what it writes: wrong types, blanks, duplicates, limits. */
const twisted = fc
  .array(
    fc.record({
      feature: fc.oneof({ weight: 5, arbitrary: fc.constantFrom("f1", "f2", "f3", "f4", "f5") }, text),
      owner: text,
      fields: fc.array(
        fc.record({
          name: fc.oneof({ weight: 3, arbitrary: fc.constantFrom("a", "b", "c", "d") }, text),
          number: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 1, max: 40 }) }, fc.integer()),
          type: fc.oneof(
            { weight: 5, arbitrary: fc.constantFrom(1, 3, 8, 9, 16, 18) },
            fc.integer({ min: -1, max: 30 }),
          ),
          label: fc.oneof({ weight: 5, arbitrary: fc.constantFrom(1, 3) }, fc.integer({ min: 0, max: 9 })),
          option: fc.oneof({ weight: 9, arbitrary: option }, fc.uint8Array({ maxLength: 40 })),
        }),
        { maxLength: 4 },
      ),
    }),
    { maxLength: 4 },
  )
  .map((features) => {
    const messages = features.map(({ feature, owner, fields }, i) => {
      const featureOption = toBinary(
        FeatureOptionsSchema,
        create(FeatureOptionsSchema, { id: feature, owner }),
      );
      const parts = [part(1, Buffer.from(`M${i}`)), part(7, part(51000, featureOption))];
      for (const { option: flagOption, ...shape } of fields) {
        const field = toBinary(FieldDescriptorProtoSchema, create(FieldDescriptorProtoSchema, shape));
        parts.push(part(2, Buffer.concat([field, part(8, part(51001, flagOption))])));
      }
      return part(4, Buffer.concat(parts));
    });
    return file(Buffer.concat(messages));
  });

const poison = fc.oneof(
  { weight: 4, arbitrary: damaged },
  { weight: 4, arbitrary: twisted },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 5_000 }) },
  // Ten times the size: everything ten times over.
  { weight: 1, arbitrary: damaged.map((bytes) => Buffer.concat(Array.from({ length: 10 }, () => bytes))) },
);

let folder: string;
let path: string;
let goodTable: FlagTable;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-faults-"));
  path = join(folder, "flags.pb");
  await put(good);
  goodTable = await loadDescriptors(path);
});
afterAll(() => rm(folder, { recursive: true }));

describe("fault 8: poisoned descriptors", () => {
  test(
    `of ${size(300, 10_000)} kinds are refused whole, or are no poison, and hold nothing up`,
    PAUSES,
    async () => {
      const counts = { refused: 0, accepted: 0 };
      let longestMs = 0;
      await fc.assert(
        fc.asyncProperty(poison, async (bytes) => {
          const { result: table, pauseMs } = await measured(() => parse(bytes));
          counts[table === undefined ? "refused" : "accepted"] += 1;
          expect(table === undefined ? [] : faultsOf(table)).toEqual([]);
          assertShort(pauseMs);
          longestMs = Math.max(longestMs, pauseMs);
        }),
        { numRuns: size(300, 10_000) },
      );
      // Otherwise the generator would have lost its poison, or its resemblance to a descriptor set.
      expect(counts.refused).toBeGreaterThan(counts.accepted / 10);
      expect(counts.accepted).toBeGreaterThan(counts.refused / 10);
      judgePause(`one of ${size(300, 10_000)} poisoned descriptor sets`, longestMs);
    },
  );

  test("in the watched file leave the last good table in force, and each is counted", async () => {
    const table = new Latest(goodTable);
    const results: ReloadResult[] = [];
    await using watch = openDescriptorWatch({
      path,
      table,
      clock: systemClock,
      onReload: (result) => results.push(result),
    });
    for (const bytes of fc.sample(poison, size(30, 1_000))) {
      table.replace(goodTable);
      await put(bytes);
      const { kind } = await watch.reload();
      expect(faultsOf(table.value)).toEqual([]);
      expect(table.value === goodTable).toBe(kind !== "replaced");
      expect(results.at(-1)).toMatchObject({ kind });
    }
    await put(good);
    await watch.reload({ force: true });
    expect(table.value.flags.map(({ id }) => id)).toEqual(goodTable.flags.map(({ id }) => id));
  });

  const huge: readonly (readonly [what: string, bytes: () => Uint8Array])[] = [
    ["zeros", () => new Uint8Array(hugeBytes)],
    ["bits that say 'go on'", () => new Uint8Array(hugeBytes).fill(0xff)],
    ["files without a name", () => repeated(Uint8Array.of(0x0a, 0x00))],
    ["nameless messages", () => file(repeated(Uint8Array.of(0x22, 0x00)))],
    ["nameless fields", () => file(part(4, repeated(Uint8Array.of(0x12, 0x00))))],
    ["imports", () => file(repeated(Uint8Array.of(0x1a, 0x00)))],
    ["options", () => file(part(4, repeated(Uint8Array.of(0x3a, 0x00))))],
    ["one name", () => file(part(4, part(1, new Uint8Array(hugeBytes).fill(0x61))))],
    ["one option", () => file(part(4, part(7, repeated(Uint8Array.of(0x08, 0x00)))))],
    ["one group", () => file(repeated(Uint8Array.of(0x53, 0x54)))],
    ["groups in groups", () => file(repeated(Uint8Array.of(0x53, 0x53)))],
  ];
  test.for(huge)(
    `in the shape of ${hugeBytes / 2 ** 20} MiB of %s hold nothing up`,
    PAUSES,
    async ([what, bytes]) => {
      const poisoned = bytes();
      const { result: table, pauseMs } = await measured(() => parse(poisoned));
      expect(table?.flags ?? []).toEqual([]);
      judgePause(`a descriptor set of ${hugeBytes / 2 ** 20} MiB of ${what}`, pauseMs);
    },
  );

  test("in ten times the usual size are refused, and hold nothing up", PAUSES, async () => {
    await put(describeFlags(manyFeatures(50_000)));
    const { result, pauseMs } = await measured(() => loadDescriptors(path).catch((error: unknown) => error));
    expect(result).toBeInstanceOf(DescriptorError);
    expect(String(result)).toContain("more than 20000 features and flags");
    judgePause("a descriptor set of 50000 flags", pauseMs);
  });

  test("are refused in company, too: a large set that is right holds nothing up either", PAUSES, async () => {
    await put(describeFlags(manyFeatures(5_000)));
    const { result: table, pauseMs } = await measured(() => loadDescriptors(path));
    expect(table.flags).toHaveLength(5_000);
    expect(faultsOf(table)).toEqual([]);
    judgePause("a descriptor set of 5000 flags", pauseMs);
  });
});

describe("fault 9: a change that removes more than half of 20 or more flags", () => {
  test("is held and alarmed, survives further looks, and is taken up when it is forced", async () => {
    await put(good);
    const table = new Latest(goodTable);
    const alarms: ReloadResult[] = [];
    await using watch = openDescriptorWatch({
      path,
      table,
      clock: systemClock,
      pollMs: 50,
      retryMs: 50,
      onReload: (result) => {
        if (result.kind === "held") alarms.push(result);
      },
    });
    await eventually(() => watch.lastResult?.kind === "unchanged");

    await put(describeFlags(manyFeatures(23, 12)));
    await eventually(() => alarms.length > 0);
    expect(alarms[0]).toMatchObject({ reason: expect.stringContaining("got 25 of 48 removed") });
    expect(table.value).toBe(goodTable);
    expect(watch.lastResult).toBe(alarms.at(-1));

    expect(await watch.reload()).toMatchObject({ kind: "held" });
    expect(table.value).toBe(goodTable);

    expect(await watch.reload({ force: true })).toMatchObject({ kind: "replaced" });
    expect(table.value.flags).toHaveLength(23);
    expect(watch.lastResult).toMatchObject({ kind: "replaced" });
  });

  test("is never an empty set: that cannot be forced", async () => {
    await put(describeFlags([]));
    const table = new Latest(goodTable);
    await using watch = openDescriptorWatch({ path, table, clock: systemClock, onReload: () => {} });
    expect(await watch.reload({ force: true })).toMatchObject({ kind: "rejected" });
    expect(table.value).toBe(goodTable);
  });
});

/** Undefined: refused. Any error but a DescriptorError fails the test. */
async function parse(bytes: Uint8Array): Promise<FlagTable | undefined> {
  try {
    return await runInSlices(parseDescriptorsInSteps([{ name: "poison.pb", bytes }]));
  } catch (error) {
    if (error instanceof DescriptorError && error.problems.length > 0 && error.message.length < 200_000)
      return undefined;
    throw error;
  }
}

function measured<T>(run: () => Promise<T>): Promise<Measured<T>> {
  return measureShortest(() => measurePauses(run));
}

/** Everything about a table that no descriptor set may bring about. */
function faultsOf(table: FlagTable): readonly string[] {
  const features = new Set(table.features.map(({ id }) => id));
  const names = new Set(table.flags.flatMap(({ id, alias }) => [id, alias]));
  const rules: readonly (readonly [rule: string, kept: boolean])[] = [
    ["features are unique", features.size === table.features.length],
    [
      "feature ids can be stored",
      [...features].every((id) => id === id.trim() && /^\P{Cc}{1,255}$/u.test(id)),
    ],
    ["ids and aliases are unique", names.size === table.flags.length * 2],
    ...table.flags.flatMap((flag): readonly (readonly [string, boolean])[] => [
      [`${flag.id} has a feature`, features.has(flag.featureId)],
      [`${flag.id} is its id`, flag.id === `${flag.featureId}/${flag.fieldNumber}` && flag.fieldNumber > 0],
      [
        `${flag.alias} is its alias`,
        flag.alias === `${flag.featureId}.${flag.name}` && /^\w{1,255}$/.test(flag.name),
      ],
      [
        `the layer of ${flag.id} can be stored`,
        /^[a-z0-9_.-]{0,50}$/.test(flag.layer) && flag.layer !== "global",
      ],
      [`the description of ${flag.id} can be stored`, !flag.description.includes("\0")],
      [`${flag.id} has a default of its type`, !flag.defaultValue || hasType(flag.defaultValue, flag.type)],
      [`${flag.id} is found`, table.find(flag.id) === flag && table.find(flag.alias) === flag],
    ]),
  ];
  return rules.filter(([, kept]) => !kept).map(([rule]) => rule);
}

async function put(bytes: Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, bytes);
  await rename(`${path}.new`, path);
}

function part(no: number, bytes: Uint8Array): Uint8Array {
  return new BinaryWriter().tag(no, WireType.LengthDelimited).bytes(bytes).finish();
}

/** A set of one file that has a name, and then this. */
function file(rest: Uint8Array): Uint8Array {
  return part(1, Buffer.concat([part(1, Buffer.from("huge.proto")), rest]));
}

function repeated(pattern: Uint8Array): Uint8Array {
  return Buffer.alloc(hugeBytes, pattern);
}
