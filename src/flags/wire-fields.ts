import {
  type DescField,
  type DescMessage,
  fromBinary,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";

/** One field of a message as it stands in the bytes, its content not yet looked at. */
export interface WireField {
  readonly no: number;
  readonly wireType: WireType;
  /** Of a varint: its low 32 bits, signed. Otherwise 0. */
  readonly number: number;
  /** Of a length-delimited field: its content. Otherwise empty. */
  readonly bytes: Uint8Array;
}

/** The bytes are no protobuf, or none of the kind expected. */
export class WireError extends Error {
  override readonly name = "WireError";
}

const nothing = new Uint8Array(0);
const groupFieldsMax = 1_000;

/** The fields of a message, one at a time, so that bytes of any size can be walked in small steps. Throws a WireError. */
export function* wireFields(bytes: Uint8Array): Generator<WireField, void> {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) yield nextField(reader);
}

/**
 * Reads a small message strictly. The library's own reader believes that every field has the wire type of its
 * definition and lets an inner message run past its end; bytes that break these rules are refused here first.
 */
export function decode<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  checkWireTypes(schema, bytes, 0);
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw toWireError(error);
  }
}

/** The content of a length-delimited field. Throws a WireError if it is another kind. */
export function bytesOf(field: WireField): Uint8Array {
  if (field.wireType === WireType.LengthDelimited) return field.bytes;
  throw new WireError(`field ${field.no} has wire type ${field.wireType}, not ${WireType.LengthDelimited}`);
}

/** The value of a varint field. Throws a WireError if it is another kind. */
export function numberOf(field: WireField): number {
  if (field.wireType === WireType.Varint) return field.number;
  throw new WireError(`field ${field.no} has wire type ${field.wireType}, not ${WireType.Varint}`);
}

/** The text, with U+FFFD for what is not UTF-8. */
export function toText(bytes: Uint8Array): string {
  return utf8.decode(bytes);
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

function nextField(reader: BinaryReader): WireField {
  try {
    const [no, wireType] = reader.tag();
    if (wireType === WireType.Varint) return { no, wireType, number: reader.int32(), bytes: nothing };
    if (wireType === WireType.LengthDelimited) return { no, wireType, number: 0, bytes: reader.bytes() };
    skip(reader, wireType);
    return { no, wireType, number: 0, bytes: nothing };
  } catch (error) {
    throw toWireError(error);
  }
}

function skip(reader: BinaryReader, wireType: WireType): void {
  if (wireType === WireType.EndGroup) throw new WireError("a group ends that never began");
  if (wireType === WireType.StartGroup) skipGroup(reader);
  else reader.skip(wireType);
}

/** Without recursion, and never for long: a hostile group costs neither stack nor time. */
function skipGroup(reader: BinaryReader): void {
  let depth = 1;
  for (let i = 0; i < groupFieldsMax; i++) {
    const [, wireType] = reader.tag();
    if (wireType === WireType.StartGroup) depth += 1;
    else if (wireType === WireType.EndGroup) depth -= 1;
    else if (wireType === WireType.Varint) reader.int32();
    else reader.skip(wireType);
    if (depth === 0) return;
  }
  throw new WireError(`a group has more than ${groupFieldsMax} fields`);
}

function checkWireTypes(desc: DescMessage, bytes: Uint8Array, depth: number): void {
  // The messages read this way nest four deep; the limit is for definitions yet to come.
  if (depth > 10) throw new WireError(`${desc.typeName} is nested too deeply`);
  for (const { no, wireType, bytes: inner } of wireFields(bytes)) {
    const field = desc.fields.find((known) => known.number === no);
    if (field === undefined) continue;
    const expected = wireTypeOf(field);
    const packed =
      field.fieldKind === "list" && wireType === WireType.LengthDelimited && wireType !== expected;
    if (packed ? !isPacked(inner, expected) : wireType !== expected) {
      throw new WireError(`the bytes of field ${field.name} do not fit its type`);
    }
    if (field.message !== undefined) checkWireTypes(field.message, inner, depth + 1);
  }
}

/** Whether the last value of a packed list ends where the list does. */
function isPacked(bytes: Uint8Array, wireType: WireType): boolean {
  if (wireType === WireType.Bit64) return bytes.length % 8 === 0;
  if (wireType === WireType.Bit32) return bytes.length % 4 === 0;
  return (bytes.at(-1) ?? 0) < 0x80;
}

function wireTypeOf(field: DescField): WireType {
  if (field.message !== undefined || field.fieldKind === "map") return WireType.LengthDelimited;
  return (field.scalar !== undefined && wireTypes.get(field.scalar)) || WireType.Varint;
}

/** Of the scalars that are no varints. */
const wireTypes: ReadonlyMap<ScalarType, WireType> = new Map([
  [ScalarType.STRING, WireType.LengthDelimited],
  [ScalarType.BYTES, WireType.LengthDelimited],
  [ScalarType.DOUBLE, WireType.Bit64],
  [ScalarType.FIXED64, WireType.Bit64],
  [ScalarType.SFIXED64, WireType.Bit64],
  [ScalarType.FLOAT, WireType.Bit32],
  [ScalarType.FIXED32, WireType.Bit32],
  [ScalarType.SFIXED32, WireType.Bit32],
]);

/** Everything the reader may throw becomes one class, so that our own mistakes are not taken for bad bytes. */
function toWireError(error: unknown): WireError {
  if (error instanceof WireError) return error;
  return new WireError(error instanceof Error ? error.message : String(error), { cause: error });
}
