import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decode } from "../../test/support/decode.ts";
import {
  type FlagDefault,
  FlagDefaultSchema,
  FlagOptionsSchema,
  type SupportedValues,
} from "../gen/pbflags/options_pb.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import { type FlagOption, readFlagOption } from "./read-flag-option.ts";
import { WireReader } from "./wire-reader.ts";

type DefaultInit = MessageInitShape<typeof FlagDefaultSchema>;

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const text = fc.string({ unit: "binary", maxLength: 5 });
const kinds = {
  boolValue: fc.boolean().map((value) => ({ value })),
  stringValue: text.map((value) => ({ value })),
  int64Value: int64.map((value) => ({ value })),
  doubleValue: fc.double().map((value) => ({ value })),
  boolListValue: fc.array(fc.boolean(), { maxLength: 3 }).map((values) => ({ values })),
  stringListValue: fc.array(text, { maxLength: 3 }).map((values) => ({ values })),
  int64ListValue: fc.array(int64, { maxLength: 3 }).map((values) => ({ values })),
  doubleListValue: fc.array(fc.double(), { maxLength: 3 }).map((values) => ({ values })),
};
const anyDefault = fc.oneof(
  fc.constant<DefaultInit | undefined>(undefined),
  fc.constant<DefaultInit>({}),
  ...Object.entries(kinds).map(([kind, value]) =>
    (value as fc.Arbitrary<unknown>).map((value) => ({ value: { case: kind, value } }) as DefaultInit),
  ),
);
const option = fc
  .record({
    description: text,
    layer: text,
    default: anyDefault,
    supportedValues: fc.option(
      fc.record({
        stringValues: fc.array(text, { maxLength: 2 }),
        int64Values: fc.array(int64, { maxLength: 2 }),
      }),
      {
        nil: undefined,
      },
    ),
  })
  .map((given) => toBinary(FlagOptionsSchema, create(FlagOptionsSchema, given)));
/** Several strung together are one, merged. */
const options = fc
  .array(option, { minLength: 1, maxLength: 2 })
  .map((parts) => new Uint8Array(Buffer.concat(parts)));

test("an option is read as the library reads it, in however many parts it comes", () => {
  fc.assert(
    fc.property(options, (bytes) => {
      expect(readFlagOption(new WireReader(bytes))).toEqual(asLibrary(bytes));
    }),
    { numRuns: 300 },
  );
});

test("bytes that were damaged are refused, or read as the library reads them", () => {
  fc.assert(
    fc.property(options, fc.nat(), fc.integer({ min: 1, max: 255 }), (whole, at, change) => {
      const bytes = whole.map((byte, i) => (i === at % whole.length ? byte ^ change : byte));
      expect(outcomeOf(() => readFlagOption(new WireReader(bytes)))).toEqual(
        outcomeOf(() => asLibrary(bytes)),
      );
    }),
    { numRuns: 500 },
  );
});

function asLibrary(bytes: Uint8Array): Omit<FlagOption, "oldLayer"> & { oldLayer: unknown } {
  const read = decode(FlagOptionsSchema, bytes);
  return {
    description: read.description,
    layer: read.layer,
    oldLayer: read.$unknown
      ?.findLast(({ no, wireType }) => no === 3 && wireType === WireType.Varint)
      ?.data.at(-1),
    defaultValue: toValue(read.default),
    supportedValues: known(read.supportedValues),
  };
}

/** Without the fields that only a newer version knows. */
function known(read: SupportedValues | undefined): SupportedValues | undefined {
  if (read === undefined) return undefined;
  const { $unknown: _, ...values } = read;
  return values;
}

function toValue(read: FlagDefault | undefined): FlagOption["defaultValue"] {
  if (read?.value.case === undefined) {
    return { case: read?.$unknown === undefined ? undefined : "a field unknown here" };
  }
  const { case: kind, value } = read.value;
  if ("value" in value) return { case: kind, value: value.value } as FlagValue["value"];
  const $typeName = value.$typeName.replace("FlagDefault", "v1.");
  return { case: kind, value: { $typeName, values: value.values } } as FlagValue["value"];
}

function outcomeOf<T>(read: () => T): T | "refused" {
  try {
    return read();
  } catch {
    return "refused";
  }
}
