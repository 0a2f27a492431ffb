import type { FlagValue } from "../gen/pbflags/v1/types_pb.ts";
import type { FlagDefinition, FlagType } from "./definition.ts";
import { caseOfType } from "./flag-value.ts";
import { type FieldShape, kindOf } from "./read-field.ts";
import { type FlagOption, readFlagOption, unknownKind } from "./read-flag-option.ts";
import { WireError, type WireReader } from "./wire-reader.ts";

/** Says what is wrong, as "reason, got X". */
export type Report = (problem: string) => void;

const fieldNumberMax = 2 ** 29 - 1;
/** The width of the database's column. */
const layerCharsMax = 50;
/** By their number in the enum of pbflags v0.4 and v0.5. */
const oldLayers = ["", "", "user"];

/** Makes a flag of a field that carries the option; reports everything that is wrong with it. */
export function toFlag(
  field: FieldShape,
  flagOption: WireReader,
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
      `a flag must be bool, string, int64, sint64, sfixed64, double or a list of these, got ${kindOf(field)}`,
    );
  }
  const option = attempt("pbflags.FlagOptions", () => readFlagOption(flagOption), report);
  if (option === undefined || type === undefined) return undefined;
  checkStorable(option.description, "description", report);
  return {
    id: `${featureId}/${number}`,
    alias: `${featureId}.${name}`,
    featureId,
    fieldNumber: number,
    name,
    type,
    layer: layerOf(option, report),
    description: option.description,
    defaultValue: defaultOf(option, type, report),
    supportedValues: option.supportedValues,
  };
}

/** What is read of an option. Undefined, and reported, if its bytes are none. */
export function attempt<T>(typeName: string, read: () => T, report: Report): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    report(`the option must be a ${typeName}, got bytes that are none (${error.message})`);
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

function layerOf(option: FlagOption, report: Report): string {
  const layer = (option.layer === "" ? oldLayer(option, report) : option.layer).toLowerCase();
  if (layer === "" || layer === "global") return "";
  if (!/^[a-z0-9_.-]+$/.test(layer)) {
    report(`the layer must be letters, digits, _ . and -, got ${quote(option.layer)}`);
  }
  if (layer.length > layerCharsMax) {
    report(`the layer must have at most ${layerCharsMax} characters, got ${layer.length}`);
  }
  return layer;
}

function oldLayer({ oldLayer: number }: FlagOption, report: Report): string {
  if (number === undefined) return "";
  const layer = oldLayers[number];
  if (layer === undefined) report(`the layer in field 3 must be 0, 1 or 2, got ${number}`);
  return layer ?? "";
}

function defaultOf(
  { defaultValue: value }: FlagOption,
  type: FlagType,
  report: Report,
): FlagValue | undefined {
  // `default: {}` names no value: the same as no default.
  if (value.case === undefined) return undefined;
  if (value.case !== unknownKind && value.case === caseOfType[type])
    return { $typeName: "pbflags.v1.FlagValue", value };
  report(`the default must be ${snakeCase(caseOfType[type])}, got ${snakeCase(value.case)}`);
  return undefined;
}

/** The name in the .proto file of a field that the generated code calls `stringListValue`. */
function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
