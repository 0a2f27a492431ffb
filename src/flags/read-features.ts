import type { FeatureDefinition, FlagDefinition } from "./definition.ts";
import type { Pace } from "./pace.ts";
import { readField, readOption } from "./read-field.ts";
import { attempt, checkName, checkStorable, quote, type Report, toFlag } from "./read-flag.ts";
import { fitting } from "./read-values.ts";
import { WireError, type WireReader } from "./wire-reader.ts";

/** What one .proto file defines. */
export interface FileFlags {
  readonly name: string;
  readonly features: readonly Located<FeatureDefinition>[];
  readonly flags: readonly Located<FlagDefinition>[];
}

/** A definition and where it stands, as `file: Message.field`. */
export interface Located<T> {
  readonly definition: T;
  readonly where: string;
}

/** Features and flags of one table together: few enough to put in order without holding up the process. */
export const definitionsMax = 20_000;

interface File {
  readonly name: string;
  readonly features: Located<FeatureDefinition>[];
  readonly flags: Located<FlagDefinition>[];
  readonly report: Report;
  readonly pace: Pace;
}

const featureOptionNumber = 51000;
/** As wide as the database's columns for a feature's id and owner, and for names. */
const idCharsMax = 255;
/** Of one field, or of one message's options. Real ones have a few hundred. */
const pieceBytesMax = 256 * 1024;
const unnamed = "(unnamed)";
/** Of a file, a message or a field. */
const nameBytesMax = 1024;
/** Compilers write one; protobuf allows for more. */
const optionPartsMax = 100;
/** As deep as protobuf's own readers go. */
const nestingMax = 100;

/**
 * Finds the features in a `google.protobuf.FileDescriptorProto`. It only follows messages, their fields and their
 * options: imports, comments and other options may be there or not.
 *
 * Pauses often, so that bytes of any size can be read without holding up the process. Throws a WireError.
 */
export function* readFeatures(
  reader: WireReader,
  { report, pace }: { readonly report: Report; readonly pace: Pace },
): Generator<void, FileFlags> {
  const { name } = yield* readHead(reader.again(), pace);
  if (name === "") throw new WireError("a file has no name");
  const file: File = { name, features: [], flags: [], report, pace };
  while (reader.next()) {
    if (pace.isDue(reader.length)) yield;
    if (reader.no === 4) yield* readMessage(reader.message(), `${name}: `, 1, file);
    else if (reader.no === 7) refuseExtension(reader, `${name}: `, report);
  }
  return file;
}

function* readMessage(reader: WireReader, prefix: string, depth: number, file: File): Generator<void, void> {
  if (depth > nestingMax) throw new WireError(`messages are nested deeper than ${nestingMax}`);
  const { name, options } = yield* readHead(reader.again(), file.pace, 7);
  const where = prefix + (name || unnamed);
  const feature = readFeature(options, name, where, file);
  while (reader.next()) {
    if (file.pace.isDue(reader.length)) yield;
    if (reader.no === 2) readFlag(reader, feature, where, file);
    else if (reader.no === 3) yield* readMessage(reader.message(), `${where}.`, depth + 1, file);
    else if (reader.no === 6) refuseExtension(reader, `${where}.`, file.report);
  }
}

function readFeature(
  options: readonly WireReader[],
  displayName: string,
  where: string,
  file: File,
): FeatureDefinition | undefined {
  const found = readOption(options, featureOptionNumber);
  if (found === undefined) return undefined;
  const report: Report = (problem) => file.report(`${where}: ${problem}`);
  checkName(displayName, report);
  const option = attempt("pbflags.FeatureOptions", () => readFeatureOption(found), report);
  if (option !== undefined) checkFeature(option, report);
  // One that is not right is needed, too: to find what is wrong with its flags.
  const { id, description, owner } = option ?? { id: "", description: "", owner: "" };
  const definition = { id, displayName, description, owner };
  file.features.push({ definition, where });
  checkCount(file);
  return definition;
}

type FeatureOption = Pick<FeatureDefinition, "id" | "description" | "owner">;

function readFeatureOption(option: WireReader): FeatureOption {
  let [id, description, owner] = ["", "", ""];
  while (option.next()) {
    if (option.no === 1) id = fitting(option, "id").strictText();
    else if (option.no === 2) description = fitting(option, "description").strictText();
    else if (option.no === 3) owner = fitting(option, "owner").strictText();
  }
  return { id, description, owner };
}

function checkFeature({ id, description, owner }: FeatureOption, report: Report): void {
  checkId(id, report);
  checkStorable(description, "description", report);
  checkStorable(owner, "owner", report);
  if (owner.length > idCharsMax) {
    report(`the owner must have at most ${idCharsMax} characters, got ${owner.length}`);
  }
}

function checkId(id: string, report: Report): void {
  if (id.trim() === "") report(`the feature id must not be blank, got ${quote(id)}`);
  else if (id !== id.trim()) report(`the feature id must not begin or end with a space, got ${quote(id)}`);
  if (id.length > idCharsMax) {
    report(`the feature id must have at most ${idCharsMax} characters, got ${id.length}`);
  }
  if (/\p{Cc}/u.test(id)) report(`the feature id must not contain control characters, got ${quote(id)}`);
}

function readFlag(
  reader: WireReader,
  feature: FeatureDefinition | undefined,
  message: string,
  file: File,
): void {
  const field = readField(limited(reader, pieceBytesMax).message());
  if (field.flagOption === undefined) return;
  const where = `${message}.${field.name || unnamed}`;
  const report: Report = (problem) => file.report(`${where}: ${problem}`);
  if (feature === undefined) {
    report("a flag must stand in a message with the option (pbflags.feature), got one without");
  }
  const definition = toFlag(field, field.flagOption, feature?.id ?? "", report);
  if (definition === undefined) return;
  file.flags.push({ definition, where });
  checkCount(file);
}

function refuseExtension(reader: WireReader, prefix: string, report: Report): void {
  const { name, flagOption } = readField(limited(reader, pieceBytesMax).message());
  if (flagOption === undefined) return;
  report(`${prefix}${name}: a flag must be a field of its message, got an extension`);
}

/** Before memory is spent on a million of them. */
function checkCount({ features, flags }: File): void {
  const count = features.length + flags.length;
  if (count > definitionsMax) throw new WireError(`more than ${definitionsMax} features and flags`);
}

interface Head {
  readonly name: string;
  readonly options: readonly WireReader[];
}

/** Name and options may stand behind what they belong to, so they are looked for first. */
function* readHead(reader: WireReader, pace: Pace, optionsNumber?: number): Generator<void, Head> {
  let name = "";
  const options: WireReader[] = [];
  while (reader.next()) {
    if (pace.isDue(reader.length)) yield;
    if (reader.no === 1) name = limited(reader, nameBytesMax).text();
    if (reader.no === optionsNumber) options.push(limited(reader, pieceBytesMax).message());
    if (options.length > optionPartsMax) throw new WireError(`options in more than ${optionPartsMax} parts`);
  }
  return { name, options };
}

function limited(reader: WireReader, bytesMax: number): WireReader {
  const { length } = reader;
  if (length <= bytesMax) return reader;
  throw new WireError(`a name, a field or its options have ${length} bytes, more than ${bytesMax}`);
}
