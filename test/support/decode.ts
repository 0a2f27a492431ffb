import {
  type DescField,
  type DescMessage,
  fromBinary,
  type MessageShape,
  ScalarType,
} from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { WireError, WireReader } from "../../src/flags/wire-reader.ts";

/**
 * Reads a small message strictly, as those do that are written by hand. The library's own reader believes that every field has the wire type of its
 * definition and lets an inner message run past its end; bytes that break these rules are refused here first. Throws a
 * WireError.
 */
export function decode<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  checkWireTypes(schema, new WireReader(bytes), 0);
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw toWireError(error);
  }
}

function checkWireTypes(desc: DescMessage, reader: WireReader, depth: number): void {
  // The messages read this way nest four deep; the limit is for definitions yet to come.
  if (depth > 10) throw new WireError(`${desc.typeName} is nested too deeply`);
  while (reader.next()) {
    const field = desc.fields.find((known) => known.number === reader.no);
    if (field === undefined) continue;
    const expected = wireTypeOf(field);
    const packed =
      field.fieldKind === "list" &&
      reader.wireType === WireType.LengthDelimited &&
      reader.wireType !== expected;
    if (packed ? !isPacked(reader.bytes(), expected) : reader.wireType !== expected) {
      throw new WireError(`the bytes of field ${field.name} do not fit its type`);
    }
    if (field.message !== undefined) checkWireTypes(field.message, reader.message(), depth + 1);
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
