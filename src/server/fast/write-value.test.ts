import { create, type MessageInitShape, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { FlagValueSchema } from "../../gen/pbflags/v1/types_pb.ts";
import { bytesOfText } from "../byte-text.ts";
import { writeJsonValue, writeValue } from "./write-value.ts";

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const double = fc.oneof(fc.double(), fc.constantFrom(-0, 1e21, 5e-324, Number.NaN, Infinity, -Infinity));
const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 5 }),
  fc.constant("x".repeat(300)),
  fc.constantFrom('"\\\n', "\u2028"),
);
const kinds = {
  boolValue: fc.boolean(),
  stringValue: text,
  int64Value: int64,
  doubleValue: double,
  boolListValue: fc.array(fc.boolean()).map((values) => ({ values })),
  stringListValue: fc.array(text).map((values) => ({ values })),
  int64ListValue: fc.array(int64).map((values) => ({ values })),
  doubleListValue: fc.array(double).map((values) => ({ values })),
};
const unknown = fc.constantFrom(undefined, [{ no: 9, wireType: 0, data: new Uint8Array([1]) }]);
const anyValue = fc
  .tuple(
    fc.oneof(
      fc.constant({}),
      ...Object.entries(kinds).map(([kind, of]) =>
        (of as fc.Arbitrary<unknown>).map((value) => ({ value: { case: kind, value } })),
      ),
    ),
    unknown,
  )
  .map(([init, $unknown]) => {
    const value = create(FlagValueSchema, init as MessageInitShape<typeof FlagValueSchema>);
    return $unknown === undefined ? value : { ...value, $unknown: [...$unknown] };
  });

test("a value is written as the library writes it, as bytes and as JSON", () => {
  fc.assert(
    fc.property(anyValue, (value) => {
      expect(bytesOfText(writeValue(value))).toEqual(Buffer.from(toBinary(FlagValueSchema, value)));
      expect(writeJsonValue(value)).toBe(toJsonString(FlagValueSchema, value));
    }),
    { numRuns: 1_000 },
  );
});
