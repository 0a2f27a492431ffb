import type { FlagType } from "./definition.ts";
import { WireReader } from "./wire-reader.ts";

/** A field of a message, as far as flags are concerned. */
export interface FieldShape {
  readonly name: string;
  readonly number: number;
  /** What it holds, as a .proto file writes it, for example `repeated int64`. */
  readonly kind: string;
  /** Undefined for a kind that no flag can have. */
  readonly flagType: FlagType | undefined;
  /** The option `(pbflags.flag)`. Undefined: the field is no flag. */
  readonly flagOption: WireReader | undefined;
}

const flagOptionNumber = 51001;
const labelRepeated = 3;

/** Reads a `google.protobuf.FieldDescriptorProto`. Throws a WireError. */
export function readField(field: WireReader): FieldShape {
  let name = "";
  let number = 0;
  let label = 0;
  let type = 0;
  let typeName = "";
  const options: WireReader[] = [];
  while (field.next()) {
    if (field.no === 1) name = field.text();
    else if (field.no === 3) number = field.int32();
    else if (field.no === 4) label = field.int32();
    else if (field.no === 5) type = field.int32();
    else if (field.no === 6) typeName = field.text();
    else if (field.no === 8) options.push(field.message());
  }
  const repeated = label === labelRepeated;
  const [kind, flagType] = kinds[type] ?? [`type ${type}`, undefined];
  return {
    name,
    number,
    kind: `${repeated ? "repeated " : ""}${typeName === "" ? kind : `${kind} ${typeName}`}`,
    flagType: flagType !== undefined && repeated ? `${flagType}_LIST` : flagType,
    flagOption: readOption(options, flagOptionNumber),
  };
}

/**
 * One extension out of an options message, which may come in parts, as protobuf allows.
 * It is found by its number, so the set need not contain the file that declares it.
 */
export function readOption(parts: readonly WireReader[], number: number): WireReader | undefined {
  const found: WireReader[] = [];
  for (const part of parts) while (part.next()) if (part.no === number) found.push(part.message());
  // Parts of a message, put one after the other, are the message.
  return found.length > 1 ? new WireReader(Buffer.concat(found.map((part) => part.rest()))) : found[0];
}

/** By number in `google.protobuf.FieldDescriptorProto.Type`. */
const kinds: readonly (readonly [kind: string, flagType?: "BOOL" | "STRING" | "INT64" | "DOUBLE"])[] = [
  ["a field without a type"],
  ["double", "DOUBLE"],
  ["float"],
  ["int64", "INT64"],
  ["uint64"],
  ["int32"],
  ["fixed64"],
  ["fixed32"],
  ["bool", "BOOL"],
  ["string", "STRING"],
  ["group"],
  ["message"],
  ["bytes"],
  ["uint32"],
  ["enum"],
  ["sfixed32"],
  ["sfixed64", "INT64"],
  ["sint32"],
  ["sint64", "INT64"],
];
