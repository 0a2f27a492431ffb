import { WireType } from "@bufbuild/protobuf/wire";
import { type SupportedValues, SupportedValuesSchema } from "../gen/pbflags/options_pb.ts";
import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import { decode } from "./decode.ts";
import { WireError, type WireReader } from "./wire-reader.ts";

/** What `pbflags.FlagOptions` says, read by hand: a set may hold twenty thousand of them. */
export interface FlagOption {
  readonly description: string;
  readonly layer: string;
  /** Field 3: where pbflags v0.4 and v0.5 kept the layer, as an enum. */
  readonly oldLayer: number | undefined;
  readonly defaultValue: FlagValue["value"] | { readonly case: typeof unknownKind };
  readonly supportedValues: SupportedValues | undefined;
}

/** Stands for a kind of value that is not known here. */
export const unknownKind = "a field unknown here";

/** Throws a WireError. */
export function readFlagOption(option: WireReader): FlagOption {
  let description = "";
  let layer = "";
  let oldLayer: number | undefined;
  const defaults: WireReader[] = [];
  const supported: Uint8Array[] = [];
  while (option.next()) {
    if (option.no === 1) description = fitting(option, "description").strictText();
    else if (option.no === 2) defaults.push(fitting(option, "default").message());
    else if (option.no === 3 && option.wireType === WireType.Varint) oldLayer = option.int32();
    else if (option.no === 4) supported.push(fitting(option, "supported_values").bytes());
    else if (option.no === 5) layer = fitting(option, "layer").strictText();
  }
  return {
    description,
    layer,
    oldLayer,
    defaultValue: readDefault(defaults),
    supportedValues:
      supported.length === 0
        ? undefined
        : decode(SupportedValuesSchema, new Uint8Array(Buffer.concat(supported))),
  };
}

/** One `pbflags.FlagDefault`, which may come in parts, as protobuf allows. The last kind of value it names counts. */
function readDefault(parts: readonly WireReader[]): FlagOption["defaultValue"] {
  let kind: Kind | undefined;
  let pieces: WireReader[] = [];
  let hasUnknown = false;
  for (const part of parts) {
    while (part.next()) {
      const found = kinds[part.no];
      hasUnknown ||= found === undefined;
      if (found === undefined) continue;
      if (found !== kind) {
        // Of no account any more, but it has to be right.
        kind?.read(pieces);
        pieces = [];
      }
      kind = found;
      pieces.push(fitting(part, found.name).message());
    }
  }
  if (kind !== undefined) return kind.read(pieces);
  return { case: hasUnknown ? unknownKind : undefined };
}

interface Kind {
  readonly name: string;
  readonly read: (pieces: readonly WireReader[]) => FlagValue["value"];
}

const readBool = (reader: WireReader) => reader.bool();
const readText = (reader: WireReader) => reader.strictText();
const readInt64 = (reader: WireReader) => reader.int64();
const readDouble = (reader: WireReader) => reader.double();

/** By field number. Each of these messages has one field, with the number 1: its value, or its values. */
const kinds: readonly (Kind | undefined)[] = [
  undefined,
  {
    name: "bool_value",
    read: (pieces) => ({ case: "boolValue", value: lastOf(pieces, WireType.Varint, readBool) ?? false }),
  },
  {
    name: "string_value",
    read: (pieces) => ({
      case: "stringValue",
      value: lastOf(pieces, WireType.LengthDelimited, readText) ?? "",
    }),
  },
  {
    name: "int64_value",
    read: (pieces) => ({ case: "int64Value", value: lastOf(pieces, WireType.Varint, readInt64) ?? 0n }),
  },
  {
    name: "double_value",
    read: (pieces) => ({ case: "doubleValue", value: lastOf(pieces, WireType.Bit64, readDouble) ?? 0 }),
  },
  {
    name: "bool_list_value",
    read: (pieces) => ({
      case: "boolListValue",
      value: { $typeName: "pbflags.v1.BoolList", values: listOf(pieces, WireType.Varint, readBool) },
    }),
  },
  {
    name: "string_list_value",
    read: (pieces) => ({
      case: "stringListValue",
      value: {
        $typeName: "pbflags.v1.StringList",
        values: listOf(pieces, WireType.LengthDelimited, readText),
      },
    }),
  },
  {
    name: "int64_list_value",
    read: (pieces) => ({
      case: "int64ListValue",
      value: { $typeName: "pbflags.v1.Int64List", values: listOf(pieces, WireType.Varint, readInt64) },
    }),
  },
  {
    name: "double_list_value",
    read: (pieces) => ({
      case: "doubleListValue",
      value: { $typeName: "pbflags.v1.DoubleList", values: listOf(pieces, WireType.Bit64, readDouble) },
    }),
  },
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

function listOf<T>(pieces: readonly WireReader[], wireType: WireType, read: (reader: WireReader) => T): T[] {
  const list: T[] = [];
  for (const piece of pieces) {
    while (piece.next()) {
      if (piece.no !== 1) continue;
      const isPacked = piece.wireType === WireType.LengthDelimited;
      for (const value of fitting(piece, "values", isPacked ? piece.wireType : wireType).values(wireType))
        list.push(read(value));
    }
  }
  return list;
}

/** The reader itself. Throws unless the field at which it stands is of the type that its definition says. */
function fitting(reader: WireReader, field: string, wireType = WireType.LengthDelimited): WireReader {
  if (reader.wireType === wireType) return reader;
  throw new WireError(`the bytes of field ${field} do not fit its type`);
}
