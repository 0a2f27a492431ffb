import { runAtOnce } from "../system/run-in-slices.ts";
import { compareTables, isUnchanged } from "./compare-tables.ts";
import { createFlagTable, type FlagTable } from "./definition.ts";
import { Pace } from "./pace.ts";
import { definitionsMax, type FileFlags, type Located, readFeatures } from "./read-features.ts";
import { quote, type Report } from "./read-flag.ts";
import { WireError, WireReader } from "./wire-reader.ts";

/** A `google.protobuf.FileDescriptorSet` as bytes. */
export interface DescriptorSource {
  /** What problems call it, for example its path. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** The descriptors cannot be used; names everything that is wrong, as "file: Message.field: reason, got X". */
export class DescriptorError extends Error {
  override readonly name = "DescriptorError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[], options?: ErrorOptions) {
    const lines = problems.map(toLine);
    super(["Cannot use descriptors:", ...lines].join("\n  "), options);
    this.problems = lines;
  }
}

/** Looks at a message, a field, an import or the like. Compilers need some 9 bytes for one, hostile bytes 2. */
const partsMax = 10_000_000;
/** Enough to see what is wrong, and not more than a log can hold. */
const problemsMax = 100;
/** Field numbers from here on belong to extensions of `FileDescriptorSet`. */
const firstExtension = 536_000_000;

/**
 * The flags that descriptor sets define, made by buf or protoc with whatever imports, comments and source info, in any
 * order. Throws a DescriptorError. Takes long for large sets: see parseDescriptorsInSteps.
 */
export function parseDescriptors(sources: readonly DescriptorSource[]): FlagTable {
  return runAtOnce(parseDescriptorsInSteps(sources));
}

/** The same in small steps, for runInSlices. */
export function* parseDescriptorsInSteps(sources: readonly DescriptorSource[]): Generator<void, FlagTable> {
  const pace = new Pace();
  const steps = parse(sources, pace);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (pace.count > partsMax)
      throw new DescriptorError([`the descriptors must have at most ${partsMax} parts, got more`]);
    yield;
  }
}

function* parse(sources: readonly DescriptorSource[], pace: Pace): Generator<void, FlagTable> {
  const problems = new Set<string>();
  const report: Report = (problem) => {
    problems.add(problem);
    if (problems.size >= problemsMax) throw new DescriptorError([...problems, "and perhaps more"]);
  };
  const files = new Map<string, SourcedFile>();
  for (const source of sources) yield* readSource(source, files, { report, pace });

  const features = [...files.values()].flatMap((file) => file.features);
  const flags = [...files.values()].flatMap((file) => file.flags);
  checkCount(features.length + flags.length, report);
  const context = { report, pace };
  yield* checkUnique("feature id", features, ({ id }) => id, context);
  // Two messages with one feature id would repeat all their flags' ids here.
  if (problems.size === 0) {
    yield* checkUnique("field number", flags, ({ id }) => id, context);
    yield* checkUnique("field name", flags, ({ alias }) => alias, context);
  }
  if (problems.size > 0) throw new DescriptorError([...problems]);
  return toTable({ features, flags });
}

interface Context {
  readonly report: Report;
  readonly pace: Pace;
}

interface SourcedFile extends FileFlags {
  readonly source: string;
}

function* readSource(
  source: DescriptorSource,
  files: Map<string, SourcedFile>,
  context: Context,
): Generator<void, void> {
  const { report, pace } = context;
  try {
    const reader = new WireReader(source.bytes);
    while (reader.next()) {
      if (pace.isDue(reader.length)) yield;
      if (reader.no >= firstExtension) continue;
      if (reader.no !== 1) throw new WireError(`field ${reader.no}, where only 1 is known`);
      merge({ ...(yield* readFeatures(reader.message(), context)), source: source.name }, files, report);
    }
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    report(`${source.name}: it must be a usable FileDescriptorSet, got ${error.message}`);
  }
}

/**
 * Two sets may hold the same file, google/protobuf/descriptor.proto for instance. What compilers add to it differs
 * with their versions; what it says about flags must not.
 */
function merge(file: SourcedFile, files: Map<string, SourcedFile>, report: Report): void {
  const other = files.get(file.name);
  files.set(file.name, file);
  if (other === undefined || isUnchanged(compareTables(toTable(other), toTable(file)))) return;
  report(
    `${file.name}: it must define the same flags everywhere, got others in ${file.source} than in ${other.source}`,
  );
}

function checkCount(count: number, report: Report): void {
  if (count > definitionsMax)
    report(`at most ${definitionsMax} features and flags are possible, got ${count}`);
}

function* checkUnique<T>(
  what: string,
  found: readonly Located<T>[],
  keyOf: (definition: T) => string,
  { report, pace }: Context,
): Generator<void, void> {
  const places = new Map<string, string>();
  for (const { definition, where } of found) {
    if (pace.isDue(0)) yield;
    const key = keyOf(definition);
    const other = places.get(key);
    if (other !== undefined) report(`${where}: the ${what} must be unique, got ${quote(key)} as in ${other}`);
    places.set(key, where);
  }
}

function toTable({ features, flags }: Pick<FileFlags, "features" | "flags">): FlagTable {
  return createFlagTable(
    features.map(({ definition }) => definition),
    flags.map(({ definition }) => definition),
  );
}

/** What hostile bytes name themselves must not break a line of a log, nor fill it. */
function toLine(problem: string): string {
  const line = problem.replaceAll(/\p{Cc}/gu, "\uFFFD");
  return line.length > 1_000 ? `${line.slice(0, 1_000)}…` : line;
}
