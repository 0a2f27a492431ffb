import { create, toBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FlagValueSchema, StringListSchema } from "../gen/pbflags/v1/types_pb.ts";
import { type FlagsRow, toFlagState, toFlagStates, toOverride } from "./postgres-rows.ts";

const anyText = fc.option(
  fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("ENABLED", "KILLED", "BOOL")),
);
const anyBytes = fc.option(fc.uint8Array({ maxLength: 64 }));

test("whatever a row holds, it becomes a state, and what cannot be read is told and not served", () => {
  fc.assert(
    fc.property(anyText, anyText, anyBytes, fc.boolean(), (state, flagType, value, archived) => {
      const found = toFlagState({ flag_id: "a/1", state, flag_type: flagType, value, archived });
      const isEmpty = value === null || value.length === 0;
      const isKnown = state === "ENABLED" || state === "DEFAULT" || state === "KILLED";
      expect(found.mode).toBe(isKnown ? state.toLowerCase() : "default");
      expect(found.value === undefined || found.value.value.case !== undefined).toBe(true);
      expect(found.invalid !== undefined).toBe(!isKnown || (found.value === undefined && !isEmpty));
      expect(toOverride({ flag_id: "a/1", entity_id: "ann", state, value })).toMatchObject({
        mode: found.mode,
        value: found.value,
      });
    }),
    { numRuns: 2_000 },
  );
});

test("flags that have something in common are each as if it stood alone, and one that cannot be read spoils no other", () => {
  const common = { state: "ENABLED", flag_type: "BOOL", archived: false };
  const flags: FlagsRow["flags"] = [
    ["a/1", "0801"],
    ["a/2", null],
    ["a/3", "ff"],
    ['b"/1', "0800"],
  ];
  const alone = flags.flatMap((flag) => [...toFlagStates({ ...common, flags: [flag] })]);
  expect([...toFlagStates({ ...common, flags })]).toEqual(alone);
  expect(alone).toMatchObject([
    { flagId: "a/1", value: { value: { value: true } } },
    { flagId: "a/2", value: undefined },
    { flagId: "a/3", value: undefined, invalid: expect.stringContaining("1 bytes") },
    { flagId: 'b"/1', mode: "enabled", value: { value: { value: false } } },
  ]);
});

test("a value comes through as it was stored, at the limits of its type as well", () => {
  const values = [
    { case: "int64Value", value: 2n ** 63n - 1n },
    { case: "int64Value", value: -(2n ** 63n) },
    { case: "doubleValue", value: Number.NaN },
    { case: "doubleValue", value: -0 },
    { case: "boolValue", value: false },
    { case: "stringValue", value: "" },
    { case: "stringListValue", value: create(StringListSchema) },
  ] as const;
  for (const value of values) {
    const message = create(FlagValueSchema, { value });
    const row = {
      flag_id: "a/1",
      entity_id: "ann",
      state: "ENABLED",
      value: toBinary(FlagValueSchema, message),
    };
    expect(toOverride(row)).toEqual({ flagId: "a/1", entityId: "ann", mode: "enabled", value: message });
  }
});

test("text that is not UTF-8 is told, not served with its letters replaced", () => {
  const row = { flag_id: "a/1", entity_id: "ann", state: "ENABLED", value: Buffer.from("1202fffe", "hex") };
  expect(toOverride(row)).toMatchObject({ value: undefined, invalid: expect.stringContaining("4 bytes") });
});
