import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decode } from "../../test/support/decode.ts";
import { type FlagValue, FlagValueSchema } from "../gen/pbflags/v1/types_pb.ts";
import { readFlagValue } from "./read-values.ts";

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const text = fc.string({ unit: "binary", maxLength: 5 });
const kinds = {
  boolValue: fc.boolean(),
  stringValue: text,
  int64Value: int64,
  doubleValue: fc.double(),
  boolListValue: fc.array(fc.boolean(), { maxLength: 3 }).map((values) => ({ values })),
  stringListValue: fc.array(text, { maxLength: 3 }).map((values) => ({ values })),
  int64ListValue: fc.array(int64, { maxLength: 3 }).map((values) => ({ values })),
  doubleListValue: fc.array(fc.double(), { maxLength: 3 }).map((values) => ({ values })),
};
const value = fc.oneof(
  fc.constant<MessageInitShape<typeof FlagValueSchema>>({}),
  ...Object.entries(kinds).map(([kind, of]) =>
    (of as fc.Arbitrary<unknown>).map(
      (content) => ({ value: { case: kind, value: content } }) as MessageInitShape<typeof FlagValueSchema>,
    ),
  ),
);
/** Several strung together are one, merged. */
const values = fc
  .array(value, { minLength: 1, maxLength: 3 })
  .map(
    (parts) =>
      new Uint8Array(
        Buffer.concat(parts.map((part) => toBinary(FlagValueSchema, create(FlagValueSchema, part)))),
      ),
  );

test("a value is read as the library reads it, in however many parts it comes", () => {
  fc.assert(
    fc.property(values, (bytes) => {
      expect(readFlagValue(bytes)).toEqual(asLibrary(bytes));
    }),
    { numRuns: 500 },
  );
});

test("bytes that were damaged are refused, or read as the library reads them", () => {
  const damaged = fc
    .tuple(values, fc.nat(), fc.integer({ min: 1, max: 255 }))
    .map(([bytes, at, change]) => bytes.map((byte, i) => (i === at % bytes.length ? byte ^ change : byte)));
  fc.assert(
    fc.property(damaged, (bytes) => {
      expect(outcomeOf(() => readFlagValue(bytes))).toEqual(outcomeOf(() => asLibrary(bytes)));
    }),
    { numRuns: 1_000 },
  );
});

/** Without the fields that only a newer version knows. */
function asLibrary(bytes: Uint8Array): FlagValue {
  const { $typeName, value: read } = decode(FlagValueSchema, bytes);
  if (typeof read.value !== "object") return { $typeName, value: read };
  const { $unknown: _, ...list } = read.value;
  return { $typeName, value: { case: read.case, value: list } as FlagValue["value"] };
}

function outcomeOf<T>(read: () => T): T | "refused" {
  try {
    return read();
  } catch {
    return "refused";
  }
}
