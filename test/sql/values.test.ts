import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { FlagType } from "../../src/flags/definition.ts";
import { caseOfType } from "../../src/flags/flag-value.ts";
import { type FlagValue, FlagValueSchema } from "../../src/gen/pbflags/v1/types_pb.ts";
import { openFlagsDatabase } from "./flags-database.ts";

/** A value, and how it looks in JSON. */
interface Sample {
  readonly type: FlagType;
  readonly bytes: Uint8Array;
  readonly json: string;
}

// Postgres' texts hold no NUL, and its JSON numbers no negative zero; NaN is refused on the way in.
const texts = fc.string({ unit: "binary" }).map((text) => text.replaceAll("\0", ""));
const ints = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const doubles = fc.double({ noNaN: true }).map((number) => (number === 0 ? 0 : number));

function samples(values: { readonly texts: fc.Arbitrary<string> }): fc.Arbitrary<Sample> {
  const list = { maxLength: 20 };
  return fc.oneof(
    fc.boolean().map((value) => sample("BOOL", value, `${value}`)),
    values.texts.map((value) => sample("STRING", value, JSON.stringify(value))),
    ints.map((value) => sample("INT64", value, `${value}`)),
    doubles.map((value) => sample("DOUBLE", value, doubleJson(value))),
    fc.array(fc.boolean(), list).map((all) => sample("BOOL_LIST", { values: all }, JSON.stringify(all))),
    fc.array(values.texts, list).map((all) => sample("STRING_LIST", { values: all }, JSON.stringify(all))),
    fc.array(ints, list).map((all) => sample("INT64_LIST", { values: all }, `[${all.join(",")}]`)),
    fc
      .array(doubles, list)
      .map((all) => sample("DOUBLE_LIST", { values: all }, `[${all.map(doubleJson).join(",")}]`)),
  );
}

function sample(type: FlagType, value: unknown, json: string): Sample {
  const message = create(FlagValueSchema, { value: { case: caseOfType[type], value } as FlagValue["value"] });
  return { type, bytes: toBinary(FlagValueSchema, message), json };
}

function doubleJson(value: number): string {
  return Number.isFinite(value) ? JSON.stringify(value) : JSON.stringify(String(value));
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

test("values of every type are the same bytes in SQL and in protobuf, both ways", async () => {
  await using opened = await openFlagsDatabase();
  await fc.assert(
    fc.asyncProperty(fc.array(samples({ texts }), { minLength: 1, maxLength: 60 }), async (all) => {
      const { rows } = await opened.database.query<{ bytes: string; same: boolean; type: string }>(
        `SELECT encode(feature_flags.encode_value(type, json::jsonb), 'hex') AS bytes,
           -- A double may be written in more than one way: Postgres and JavaScript choose differently.
           CASE WHEN type LIKE 'DOUBLE%'
             THEN feature_flags.encode_value(type, feature_flags.decode_value(decode(bytes, 'hex'))) = decode(bytes, 'hex')
             ELSE feature_flags.decode_value(decode(bytes, 'hex')) = json::jsonb END AS same,
           (feature_flags.read_value(decode(bytes, 'hex'))).flag_type AS type
         FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS given (type, json, bytes, position) ORDER BY position`,
        [all.map(({ type }) => type), all.map(({ json }) => json), all.map(({ bytes }) => hex(bytes))],
      );
      expect(rows).toEqual(all.map(({ bytes, type }) => ({ bytes: hex(bytes), same: true, type })));
    }),
    { numRuns: 30 },
  );
});

test("the ends of every range survive", async () => {
  await using opened = await openFlagsDatabase();
  const numbers = [
    0,
    1,
    -1,
    0.1,
    2 ** -1074,
    -(2 ** -1074),
    2 ** -1022,
    2 ** -1022 - 2 ** -1074,
    Number.MAX_VALUE,
    -Number.MAX_VALUE,
    2 ** 53,
    Number.EPSILON,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
  ];
  for (const number of numbers) {
    const { bytes, json } = sample("DOUBLE", number, doubleJson(number));
    expect(await opened.one("SELECT feature_flags.encode_value('DOUBLE', $1::jsonb)", [json])).toEqual(
      Buffer.from(bytes),
    );
    expect(await opened.one("SELECT feature_flags.decode_value($1) = $2::jsonb", [bytes, json]), json).toBe(
      true,
    );
  }
  for (const int of [2n ** 63n - 1n, -(2n ** 63n), 0n, -1n, 127n, 128n]) {
    const { bytes } = sample("INT64", int, "");
    expect(await opened.one("SELECT feature_flags.encode_value('INT64', $1::jsonb)", [`${int}`])).toEqual(
      Buffer.from(bytes),
    );
    expect(await opened.one("SELECT feature_flags.decode_value($1)::text", [bytes])).toBe(`${int}`);
  }
});

test("what protobuf allows beside the usual form is read as well", async () => {
  await using opened = await openFlagsDatabase();
  const decode = (bytes: Uint8Array): Promise<unknown> =>
    opened.one("SELECT feature_flags.decode_value($1)::text", [bytes]);
  const inList = (field: number, list: BinaryWriter): Uint8Array =>
    new BinaryWriter().tag(field, WireType.LengthDelimited).bytes(list.finish()).finish();

  const unpackedInts = new BinaryWriter()
    .tag(1, WireType.Varint)
    .int64(-7n)
    .tag(1, WireType.Varint)
    .int64(8n);
  expect(await decode(inList(7, unpackedInts))).toBe("[-7, 8]");
  const unpackedBools = new BinaryWriter()
    .tag(1, WireType.Varint)
    .bool(true)
    .tag(1, WireType.Varint)
    .bool(false);
  expect(await decode(inList(5, unpackedBools))).toBe("[true, false]");
  const unpackedDoubles = new BinaryWriter()
    .tag(1, WireType.Bit64)
    .double(0.5)
    .tag(1, WireType.Bit64)
    .double(2);
  expect(await decode(inList(8, unpackedDoubles))).toBe("[0.5, 2]");

  const unknownFields = new BinaryWriter()
    .tag(99, WireType.Varint)
    .int64(1n)
    .tag(98, WireType.Bit32)
    .fixed32(1)
    .tag(97, WireType.Bit64)
    .double(1)
    .tag(96, WireType.LengthDelimited)
    .string("new")
    .tag(2, WireType.LengthDelimited)
    .string("weekly");
  expect(await decode(unknownFields.finish())).toBe('"weekly"');

  const twice = new BinaryWriter()
    .tag(2, WireType.LengthDelimited)
    .string("weekly")
    .tag(1, WireType.Varint)
    .bool(true);
  expect(await decode(twice.finish())).toBe("true");
  const list = inList(7, new BinaryWriter().tag(1, WireType.Varint).int64(3n));
  expect(await decode(new BinaryWriter().raw(list).raw(list).finish())).toBe("[3, 3]");
  expect(await decode(new Uint8Array([0x2a, 0]))).toBe("[]");
});

test("bytes that are no value are NULL, never an error", async () => {
  await using opened = await openFlagsDatabase();
  const broken = samples({ texts }).chain(({ bytes }) =>
    fc.oneof(
      fc.nat({ max: bytes.length }).map((length) => bytes.subarray(0, length)),
      fc.tuple(fc.nat({ max: bytes.length - 1 }), fc.integer({ min: 1, max: 255 })).map(([at, flip]) => {
        const copy = Uint8Array.from(bytes);
        copy[at] = (copy[at] ?? 0) ^ flip;
        return copy;
      }),
      fc.uint8Array({ maxLength: 40 }),
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(broken, { minLength: 1, maxLength: 60 }), async (all) => {
      const { rowCount } = await opened.database.query(
        "SELECT feature_flags.decode_value(decode(bytes, 'hex')) FROM unnest($1::text[]) AS given (bytes)",
        [all.map(hex)],
      );
      expect(rowCount).toBe(all.length);
    }),
    { numRuns: 30 },
  );
  const hopeless = [
    "ff",
    "0a",
    "1205616263",
    "1202c328",
    "08ffffffffffffffffffffff01",
    "21000000",
    "4203010203",
    "0b0c",
    "00",
  ];
  for (const bytes of hopeless) {
    expect(
      await opened.one("SELECT feature_flags.decode_value(decode($1, 'hex'))", [bytes]),
      bytes,
    ).toBeNull();
  }
  expect(await opened.one("SELECT feature_flags.decode_value(''::bytea)")).toBeNull();
  expect(await opened.one("SELECT feature_flags.decode_value(NULL)")).toBeNull();
});
