import { toBinary, toJsonString } from "@bufbuild/protobuf";
import { type FlagValue, FlagValueSchema } from "../../gen/pbflags/v1/types_pb.ts";
import { type ByteText, byteText, utf8 } from "../byte-text.ts";
import { field } from "./write-field.ts";

// By hand, and not because it takes long: setting up the library's messages does, and the first caller would wait for it.

// Fields of `FlagValue` with their wire types.
const BOOL = "\u0008";
const STRING = "\u0012";
const INT64 = "\u0018";
const DOUBLE = "\u0021";
const BOOL_LIST = "\u002a";
const STRING_LIST = "\u0032";
const INT64_LIST = "\u003a";
const DOUBLE_LIST = "\u0042";
/** The one field of each list. */
const VALUES = "\u000a";

/** A `FlagValue` as bytes. */
export function writeValue(message: FlagValue): ByteText {
  const { value } = message;
  if (hasUnknown(message)) return byteText(toBinary(FlagValueSchema, message));
  switch (value.case) {
    case "boolValue":
      return BOOL + bool(value.value);
    case "stringValue":
      return field(STRING, utf8(value.value));
    case "int64Value":
      return INT64 + int64(value.value);
    case "doubleValue":
      return DOUBLE + double(value.value);
    case "boolListValue":
      return field(BOOL_LIST, packed(value.value.values.map(bool)));
    case "stringListValue":
      return field(STRING_LIST, value.value.values.map((text) => field(VALUES, utf8(text))).join(""));
    case "int64ListValue":
      return field(INT64_LIST, packed(value.value.values.map(int64)));
    case "doubleListValue":
      return field(DOUBLE_LIST, packed(value.value.values.map(double)));
    case undefined:
    default:
      return "";
  }
}

/** The same in proto3's JSON, as text. */
export function writeJsonValue(message: FlagValue): string {
  const { value } = message;
  if (hasUnknown(message)) return toJsonString(FlagValueSchema, message);
  switch (value.case) {
    case "boolValue":
      return `{"boolValue":${value.value}}`;
    case "stringValue":
      return `{"stringValue":${JSON.stringify(value.value)}}`;
    case "int64Value":
      return `{"int64Value":"${value.value}"}`;
    case "doubleValue":
      return `{"doubleValue":${jsonDouble(value.value)}}`;
    case "boolListValue":
      return jsonList(value.case, value.value.values.map(String));
    case "stringListValue":
      return jsonList(
        value.case,
        value.value.values.map((text) => JSON.stringify(text)),
      );
    case "int64ListValue":
      return jsonList(
        value.case,
        value.value.values.map((number) => `"${number}"`),
      );
    case "doubleListValue":
      return jsonList(value.case, value.value.values.map(jsonDouble));
    case undefined:
    default:
      return "{}";
  }
}

/** Fields that a newer upstream has sent: the library hands them on. */
function hasUnknown({ $unknown, value: { value } }: FlagValue): boolean {
  return $unknown !== undefined || (typeof value === "object" && value.$unknown !== undefined);
}

function packed(values: readonly ByteText[]): ByteText {
  return values.length === 0 ? "" : field(VALUES, values.join(""));
}

function bool(value: boolean): ByteText {
  return value ? "\u0001" : "\u0000";
}

function int64(value: bigint): ByteText {
  let text = "";
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 0x80n; rest >>= 7n) text += String.fromCharCode(Number(rest & 0x7fn) | 0x80);
  return text + String.fromCharCode(Number(rest));
}

function double(value: number): ByteText {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return byteText(bytes);
}

function jsonDouble(value: number): string {
  return Number.isFinite(value) ? JSON.stringify(value) : `"${value}"`;
}

function jsonList(name: string, values: readonly string[]): string {
  return `{"${name}":{${values.length === 0 ? "" : `"values":[${values.join()}]`}}}`;
}
