import type { ConfigFile, FileEntry } from "../config-file.ts";
import { fillIn, shorten } from "../fill-in.ts";
import { mask } from "../option.ts";
import type { AnyField, NamesField } from "./fields.ts";

/** The file, and what its `${VARIABLES}` stand for. */
export interface FieldSources {
  readonly file: ConfigFile;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** The value of one field, and where it was set. */
export interface Placed {
  /** Undefined: it is not set, or cannot be used, which has been reported. */
  readonly value: unknown;
  /** For people, secrets masked. Undefined: unset. */
  readonly shown: string | undefined;
  /** `upstreams.servers[0].url (proxy.yaml:7)`, or `default`. */
  readonly source: string;
}

/** By the key of the field: `retry.max_retries`. */
export type PlacedFields = ReadonlyMap<string, Placed>;

type Entries = readonly (readonly [key: string, field: AnyField])[];

/** Those fields that are set below `owner`, such as `upstreams.servers[0]`. What is wrong goes to `problems`. */
export function readFields(
  entries: Entries,
  owner: string,
  sources: FieldSources,
  problems: string[],
): PlacedFields {
  const placed = new Map<string, Placed>();
  for (const [key, field] of entries) {
    const found = readField(`${owner}.${key}`, field, sources, problems);
    if (found !== undefined) placed.set(key, found);
  }
  return placed;
}

/** What holds where nobody set anything. */
export function defaultsOf(entries: Entries): PlacedFields {
  return new Map(
    entries.map(([key, field]) => [
      key,
      { value: fallbackOf(field), shown: field.fallback, source: "default" },
    ]),
  );
}

/** `url (proxy.yaml:7)`. */
export function locate(place: string, line: number, { file }: FieldSources): string {
  return `${place} (${file.name}:${line})`;
}

function fallbackOf({ shape, kind, fallback }: AnyField): unknown {
  if (shape === "list") return [];
  if (shape === "names") return {};
  return fallback === undefined ? undefined : kind.parse(fallback)?.value;
}

function readField(
  place: string,
  field: AnyField,
  sources: FieldSources,
  problems: string[],
): Placed | undefined {
  if (field.shape === "list") return readList(place, field, sources, problems);
  if (field.shape === "names") return readNames(place, field, sources, problems);
  return readValue(place, field, sources, problems);
}

function readValue(
  place: string,
  field: AnyField,
  sources: FieldSources,
  problems: string[],
): Placed | undefined {
  const entry = sources.file.entries.get(place);
  if (entry === undefined) return undefined;
  const source = locate(place, entry.line, sources);
  const value = readEntry(entry, source, field, sources, problems);
  return { value, shown: show(entry.text, field), source };
}

function readList(
  place: string,
  field: AnyField,
  sources: FieldSources,
  problems: string[],
): Placed | undefined {
  const line = sources.file.groups.get(place);
  if (line === undefined) return undefined;
  const values: unknown[] = [];
  const shown: string[] = [];
  for (let i = 0; ; i++) {
    const item = readValue(`${place}[${i}]`, field, sources, problems);
    if (item === undefined) break;
    values.push(item.value);
    shown.push(item.shown ?? "");
  }
  return { value: values, shown: JSON.stringify(shown), source: locate(place, line, sources) };
}

function readNames(
  place: string,
  field: NamesField,
  sources: FieldSources,
  problems: string[],
): Placed | undefined {
  const line = sources.file.groups.get(place);
  if (line === undefined) return undefined;
  const values = new Map<string, unknown>();
  const shown = new Map<string, string>();
  for (const [key, entry] of sources.file.entries) {
    if (!key.startsWith(`${place}.`)) continue;
    const name = key.slice(place.length + 1);
    const source = locate(key, entry.line, sources);
    if (field.names.parse(name) === undefined) {
      // The name is not quoted: it may be name and value without a blank in between.
      problems.push(`${locate(place, entry.line, sources)}: expected ${field.names.expects}`);
      continue;
    }
    values.set(name, readEntry(entry, source, field, sources, problems));
    shown.set(name, show(entry.text, field));
  }
  return {
    value: Object.fromEntries(values),
    shown: JSON.stringify(Object.fromEntries(shown)),
    source: locate(place, line, sources),
  };
}

function readEntry(
  { text: template }: FileEntry,
  source: string,
  { kind, secret }: AnyField,
  { env }: FieldSources,
  problems: string[],
): unknown {
  const { text, problem } = fillIn(template, env, secret || (kind.secret ?? false));
  const read = problem === undefined ? kind.parse(text) : undefined;
  if (problem !== undefined) problems.push(`${source}: ${problem}`);
  else if (read === undefined) {
    problems.push(`${source}: expected ${kind.expects}, got "${shorten(show(template, { secret }))}"`);
  }
  return read?.value;
}

/** As written; a secret only if all of it is the name of a variable. */
function show(text: string, { secret }: Pick<AnyField, "secret">): string {
  if (!secret) return mask(text);
  return /^\$\{[A-Za-z_][A-Za-z0-9_]*\}$/.test(text) ? text : "***";
}
