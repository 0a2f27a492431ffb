import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { type FlagDefault, type FlagOptions, FlagOptionsSchema } from "../gen/pbflags/options_pb.ts";
import { type FlagValue, FlagValueSchema } from "../gen/pbflags/v1/types_pb.ts";
import type { FlagDefinition, FlagType } from "./definition.ts";
import { caseOfType } from "./flag-value.ts";
import type { FieldShape } from "./read-field.ts";
import { decode, WireError, wireFields } from "./wire-fields.ts";

/** Says what is wrong, as "reason, got X". */
export type Report = (problem: string) => void;

const fieldNumberMax = 2 ** 29 - 1;
/** The width of the database's column. */
const layerCharsMax = 50;
/** Where pbflags v0.4 and v0.5 kept the layer, as an enum. */
const oldLayerNumber = 3;
const oldLayers = ["", "", "user"];

/** Makes a flag of a field that carries the option; reports everything that is wrong with it. */
export function toFlag(
  field: FieldShape,
  flagOption: Uint8Array,
  featureId: string,
  report: Report,
): FlagDefinition | undefined {
  const { name, number, flagType: type } = field;
  checkName(name, report);
  if (number < 1 || number > fieldNumberMax) {
    report(`the number must be 1 to ${fieldNumberMax}, got ${number}`);
  }
  if (type === undefined) {
    report(
      `a flag must be bool, string, int64, sint64, sfixed64, double or a list of these, got ${field.kind}`,
    );
  }
  const option = decodeOption(FlagOptionsSchema, flagOption, report);
  if (option === undefined || type === undefined) return undefined;
  checkStorable(option.description, "description", report);
  return {
    id: `${featureId}/${number}`,
    alias: `${featureId}.${name}`,
    featureId,
    fieldNumber: number,
    name,
    type,
    layer: layerOf(option, flagOption, report),
    description: option.description,
    defaultValue: defaultOf(option.default, type, report),
    supportedValues: option.supportedValues,
  };
}

/** The option. Undefined, and reported, if the bytes are none. */
export function decodeOption<Desc extends DescMessage>(
  schema: Desc,
  bytes: Uint8Array,
  report: Report,
): MessageShape<Desc> | undefined {
  try {
    return decode(schema, bytes);
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    report(`the option must be a ${schema.typeName}, got bytes that are none (${error.message})`);
    return undefined;
  }
}

/** Reports a name of a message or field that no compiler would let through. */
export function checkName(name: string, report: Report): void {
  if (/^[A-Za-z_][A-Za-z0-9_]{0,254}$/.test(name)) return;
  report(`the name must be at most 255 letters, digits and _, got ${quote(name)}`);
}

/** Reports a NUL in a text, which the database cannot hold. */
export function checkStorable(text: string, what: string, report: Report): void {
  if (text.includes("\0")) report(`the ${what} must not contain a NUL character, got ${quote(text)}`);
}

/** What was given, for a message: as JSON writes it, and never long. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function layerOf(option: FlagOptions, flagOption: Uint8Array, report: Report): string {
  const layer = (option.layer === "" ? oldLayer(flagOption, report) : option.layer).toLowerCase();
  if (layer === "" || layer === "global") return "";
  if (!/^[a-z0-9_.-]+$/.test(layer)) {
    report(`the layer must be letters, digits, _ . and -, got ${quote(option.layer)}`);
  }
  if (layer.length > layerCharsMax) {
    report(`the layer must have at most ${layerCharsMax} characters, got ${layer.length}`);
  }
  return layer;
}

function oldLayer(flagOption: Uint8Array, report: Report): string {
  const last = [...wireFields(flagOption)].findLast(
    ({ no, wireType }) => no === oldLayerNumber && wireType === WireType.Varint,
  );
  if (last === undefined) return "";
  const layer = oldLayers[last.number];
  if (layer === undefined) {
    report(`the layer in field ${oldLayerNumber} must be 0, 1 or 2, got ${last.number}`);
  }
  return layer ?? "";
}

function defaultOf(option: FlagDefault | undefined, type: FlagType, report: Report): FlagValue | undefined {
  if (option === undefined) return undefined;
  const given = option.value.case ?? (option.$unknown === undefined ? undefined : "a field unknown here");
  // `default: {}` names no value: the same as no default.
  if (given === undefined) return undefined;
  if (given !== caseOfType[type]) {
    report(`the default must be ${snakeCase(caseOfType[type])}, got ${snakeCase(given)}`);
    return undefined;
  }
  return toFlagValue(option);
}

function toFlagValue({ value }: FlagDefault): FlagValue {
  switch (value.case) {
    case "boolValue":
      return create(FlagValueSchema, { value: { case: value.case, value: value.value.value } });
    case "stringValue":
      return create(FlagValueSchema, { value: { case: value.case, value: value.value.value } });
    case "int64Value":
      return create(FlagValueSchema, { value: { case: value.case, value: value.value.value } });
    case "doubleValue":
      return create(FlagValueSchema, { value: { case: value.case, value: value.value.value } });
    case "boolListValue":
      return create(FlagValueSchema, { value: { case: value.case, value: { values: value.value.values } } });
    case "stringListValue":
      return create(FlagValueSchema, { value: { case: value.case, value: { values: value.value.values } } });
    case "int64ListValue":
      return create(FlagValueSchema, { value: { case: value.case, value: { values: value.value.values } } });
    case "doubleListValue":
      return create(FlagValueSchema, { value: { case: value.case, value: { values: value.value.values } } });
    case undefined:
      break;
  }
  return create(FlagValueSchema);
}

/** The name in the .proto file of a field that the generated code calls `stringListValue`. */
function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
