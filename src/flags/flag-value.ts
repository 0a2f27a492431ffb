import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import type { FlagType } from "./definition.ts";

type ValueCase = NonNullable<FlagValue["value"]["case"]>;

/** Which case of `FlagValue` holds the values of a flag type. */
export const caseOfType: Readonly<Record<FlagType, ValueCase>> = {
  BOOL: "boolValue",
  STRING: "stringValue",
  INT64: "int64Value",
  DOUBLE: "doubleValue",
  BOOL_LIST: "boolListValue",
  STRING_LIST: "stringListValue",
  INT64_LIST: "int64ListValue",
  DOUBLE_LIST: "doubleListValue",
};

const typesByCase: ReadonlyMap<ValueCase | undefined, string> = new Map(
  Object.entries(caseOfType).map(([type, valueCase]) => [valueCase, type]),
);

/** The name of the flag type that a value is of; undefined for one that holds nothing. */
export function typeOf({ value }: FlagValue): string | undefined {
  return typesByCase.get(value.case);
}

/** Whether a value is one of the flag's type. */
export function hasType(value: FlagValue, type: FlagType): boolean {
  return value.value.case === caseOfType[type];
}

/** Whether two values are the same to whoever reads them. An empty list is not "no value". */
export function isSameValue(a: FlagValue | undefined, b: FlagValue | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.value.case === b.value.case && isSameList(contentOf(a), contentOf(b));
}

/** Whether two lists hold the same. NaN is the same as NaN, 0 is not -0. */
export function isSameList(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a.length === b.length && a.every((item, i) => Object.is(item, b[i]));
}

function contentOf({ value }: FlagValue): readonly unknown[] {
  return typeof value.value === "object" ? value.value.values : [value.value];
}
