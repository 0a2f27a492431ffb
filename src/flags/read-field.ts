import type { FlagType } from "./definition.ts";
import { grown } from "./grown.ts";
import { WireReader } from "./wire-reader.ts";

/** A field of a message, as far as flags are concerned. */
export interface FieldShape {
  readonly name: string;
  readonly number: number;
  /** Its number in `google.protobuf.FieldDescriptorProto.Type`. */
  readonly type: number;
  /** Of a message or an enum. */
  readonly typeName: string;
  readonly isRepeated: boolean;
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
  let options: WireReader[] | undefined;
  while (field.next()) {
    if (field.no === 1) name = field.text();
    else if (field.no === 3) number = field.int32();
    else if (field.no === 4) label = field.int32();
    else if (field.no === 5) type = field.int32();
    else if (field.no === 6) typeName = field.text();
    else if (field.no === 8) options = grown(options, field.message());
  }
  const isRepeated = label === labelRepeated;
  const flagType = kinds[type]?.flagType;
  return {
    name,
    number,
    type,
    typeName,
    isRepeated,
    flagType: flagType !== undefined && isRepeated ? `${flagType}_LIST` : flagType,
    flagOption: options === undefined ? undefined : readOption(options, flagOptionNumber),
  };
}

/** What a field holds, as a .proto file writes it, for example `repeated int64`. */
export function kindOf({ type, typeName, isRepeated }: FieldShape): string {
  const name = kinds[type]?.name ?? `type ${type}`;
  return `${isRepeated ? "repeated " : ""}${typeName === "" ? name : `${name} ${typeName}`}`;
}

/**
 * One extension out of an options message, which may come in parts, as protobuf allows.
 * It is found by its number, so the set need not contain the file that declares it.
 */
export function readOption(parts: readonly WireReader[], number: number): WireReader | undefined {
  let found: WireReader[] | undefined;
  for (const part of parts) while (part.next()) if (part.no === number) found = grown(found, part.message());
  if (found === undefined || found.length === 1) return found?.[0];
  // Parts of a message, put one after the other, are the message.
  return new WireReader(Buffer.concat(found.map((part) => part.rest())));
}

interface Kind {
  readonly name: string;
  readonly flagType?: "BOOL" | "STRING" | "INT64" | "DOUBLE";
}

/** By number in `google.protobuf.FieldDescriptorProto.Type`. */
const kinds: readonly Kind[] = [
  { name: "a field without a type" },
  { name: "double", flagType: "DOUBLE" },
  { name: "float" },
  { name: "int64", flagType: "INT64" },
  { name: "uint64" },
  { name: "int32" },
  { name: "fixed64" },
  { name: "fixed32" },
  { name: "bool", flagType: "BOOL" },
  { name: "string", flagType: "STRING" },
  { name: "group" },
  { name: "message" },
  { name: "bytes" },
  { name: "uint32" },
  { name: "enum" },
  { name: "sfixed32" },
  { name: "sfixed64", flagType: "INT64" },
  { name: "sint32" },
  { name: "sint64", flagType: "INT64" },
];
