import { WireType } from "@bufbuild/protobuf/wire";
import type { SupportedValues } from "../gen/pbflags/options_pb.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import { grown } from "./grown.ts";
import { WireError, WireReader } from "./wire-reader.ts";

// Values read by hand: a set of descriptors may hold twenty thousand, and setting up the library's own reader takes as
// long as a thousand of them. That one also believes that every field has the wire type of its definition.

export type Value = FlagValue["value"];

/** One of the kinds of value that a message holds one of. */
export interface Kind {
  /** Of its field. */
  readonly name: string;
  readonly wireType: WireType;
  /** Where it is a message, which may come in pieces, as protobuf allows. */
  readonly ofPieces?: (pieces: readonly WireReader[]) => Value;
  /** Where it is not: what the reader stands at. */
  readonly of?: (reader: WireReader) => Value;
}

/** By field number. */
export type Kinds = readonly (Kind | undefined)[];

export interface OneValue {
  /** The last kind that was named counts. */
  readonly value: Value;
  /** Whether there are kinds that are not known here. */
  readonly hasUnknown: boolean;
}

const LIST = WireType.LengthDelimited;
export const NO_VALUE: Value = { case: undefined };

/** The reader itself. Throws a WireError unless the field at which it stands is of the type that its definition says. */
export function fitting(reader: WireReader, field: string, wireType = LIST): WireReader {
  if (reader.wireType === wireType) return reader;
  throw new WireError(`the bytes of field ${field} do not fit its type`);
}

/** A message that holds one value of some kind. It may come in parts. Throws a WireError. */
export function readOne(parts: readonly WireReader[], kinds: Kinds): OneValue {
  let value: Value = NO_VALUE;
  let kind: Kind | undefined;
  let pieces: WireReader[] | undefined;
  let hasUnknown = false;
  for (const part of parts) {
    while (part.next()) {
      const found = kinds[part.no];
      hasUnknown ||= found === undefined;
      if (found === undefined) continue;
      if (found !== kind) {
        // Of no account any more, but it has to be right.
        if (pieces !== undefined) kind?.ofPieces?.(pieces);
        kind = found;
        pieces = undefined;
      }
      fitting(part, found.name, found.wireType);
      if (found.of !== undefined) value = found.of(part);
      else pieces = grown(pieces, part.message());
    }
  }
  if (pieces !== undefined) value = kind?.ofPieces?.(pieces) ?? value;
  return { value, hasUnknown };
}

/** A `pbflags.v1.FlagValue`. Throws a WireError. */
export function readFlagValue(bytes: Uint8Array): FlagValue {
  const { value } = readOne([new WireReader(bytes)], ofFlagValue);
  return { $typeName: "pbflags.v1.FlagValue", value };
}

/** A `pbflags.SupportedValues`, all pieces of it. Throws a WireError. */
export function readSupportedValues(pieces: readonly WireReader[]): SupportedValues {
  const stringValues: string[] = [];
  const int64Values: bigint[] = [];
  const doubleValues: number[] = [];
  for (const piece of pieces) {
    while (piece.next()) {
      if (piece.no === 1) stringValues.push(fitting(piece, "string_values").strictText());
      else if (piece.no === 2) addTo(int64Values, piece, INT64_VALUES);
      else if (piece.no === 3) addTo(doubleValues, piece, DOUBLE_VALUES);
    }
  }
  return { $typeName: "pbflags.SupportedValues", stringValues, int64Values, doubleValues };
}

/** What a list consists of. */
interface ListOf<T> {
  /** Of its field. */
  readonly name: string;
  readonly wireType: WireType;
  readonly read: (reader: WireReader) => T;
}

const readBool = (reader: WireReader) => reader.bool();
const readText = (reader: WireReader) => reader.strictText();
const readInt64 = (reader: WireReader) => reader.int64();
const readDouble = (reader: WireReader) => reader.double();

const BOOLS: ListOf<boolean> = { name: "values", wireType: WireType.Varint, read: readBool };
const TEXTS: ListOf<string> = { name: "values", wireType: WireType.LengthDelimited, read: readText };
const INT64S: ListOf<bigint> = { name: "values", wireType: WireType.Varint, read: readInt64 };
const DOUBLES: ListOf<number> = { name: "values", wireType: WireType.Bit64, read: readDouble };
const INT64_VALUES = { ...INT64S, name: "int64_values" };
const DOUBLE_VALUES = { ...DOUBLES, name: "double_values" };

/** Adds the value at which the reader stands, or all of them, where they are packed. */
function addTo<T>(list: T[], reader: WireReader, { name, wireType, read }: ListOf<T>): void {
  const isPacked = reader.wireType === LIST;
  for (const value of fitting(reader, name, isPacked ? LIST : wireType).values(wireType))
    list.push(read(value));
}

/** Of messages whose one field has the number 1. */
function listOf<T>(pieces: readonly WireReader[], of: ListOf<T>): T[] {
  const list: T[] = [];
  for (const piece of pieces) while (piece.next()) if (piece.no === 1) addTo(list, piece, of);
  return list;
}

/** The lists among the kinds, which are the same in a `FlagValue` and in a `FlagDefault`. */
const lists: Kinds = [
  {
    name: "bool_list_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "boolListValue",
      value: { $typeName: "pbflags.v1.BoolList", values: listOf(pieces, BOOLS) },
    }),
  },
  {
    name: "string_list_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "stringListValue",
      value: { $typeName: "pbflags.v1.StringList", values: listOf(pieces, TEXTS) },
    }),
  },
  {
    name: "int64_list_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "int64ListValue",
      value: { $typeName: "pbflags.v1.Int64List", values: listOf(pieces, INT64S) },
    }),
  },
  {
    name: "double_list_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "doubleListValue",
      value: { $typeName: "pbflags.v1.DoubleList", values: listOf(pieces, DOUBLES) },
    }),
  },
];

const ofFlagValue: Kinds = [
  undefined,
  { name: "bool_value", wireType: WireType.Varint, of: (at) => ({ case: "boolValue", value: at.bool() }) },
  { name: "string_value", wireType: LIST, of: (at) => ({ case: "stringValue", value: at.strictText() }) },
  { name: "int64_value", wireType: WireType.Varint, of: (at) => ({ case: "int64Value", value: at.int64() }) },
  {
    name: "double_value",
    wireType: WireType.Bit64,
    of: (at) => ({ case: "doubleValue", value: at.double() }),
  },
  ...lists,
];

/** The kinds of a `pbflags.FlagDefault`: its scalars are messages, too, each with the one field 1. */
export const ofFlagDefault: Kinds = [
  undefined,
  {
    name: "bool_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "boolValue",
      value: lastOf(pieces, WireType.Varint, readBool) ?? false,
    }),
  },
  {
    name: "string_value",
    wireType: LIST,
    ofPieces: (pieces) => ({ case: "stringValue", value: lastOf(pieces, LIST, readText) ?? "" }),
  },
  {
    name: "int64_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "int64Value",
      value: lastOf(pieces, WireType.Varint, readInt64) ?? 0n,
    }),
  },
  {
    name: "double_value",
    wireType: LIST,
    ofPieces: (pieces) => ({
      case: "doubleValue",
      value: lastOf(pieces, WireType.Bit64, readDouble) ?? 0,
    }),
  },
  ...lists,
];

function lastOf<T>(
  pieces: readonly WireReader[],
  wireType: WireType,
  read: (reader: WireReader) => T,
): T | undefined {
  let last: T | undefined;
  for (const piece of pieces)
    while (piece.next()) if (piece.no === 1) last = read(fitting(piece, "value", wireType));
  return last;
}
