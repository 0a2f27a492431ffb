import { isAlias, isMap, isNode, isScalar, type Node } from "yaml";
import { suggest } from "./nearest.ts";
import { keysOf, settingEntries, settingGroups } from "./settings.ts";
import { parseYamlDocument, YAML_BYTES_MAX } from "./yaml-document.ts";

/** What one line of a configuration file sets. */
export interface FileEntry {
  /** As written, before `${VARIABLE}` is filled in. */
  readonly text: string;
  readonly line: number;
}

/** A configuration file, read as far as it could be. */
export interface ConfigFile {
  readonly name: string;
  /** By key: a setting's own, or an alias. */
  readonly entries: ReadonlyMap<string, FileEntry>;
  /** What cannot be used, each with file and line. */
  readonly problems: readonly string[];
}

/** A larger file is refused. */
export const FILE_BYTES_MAX = YAML_BYTES_MAX;
const PROBLEMS_MAX = 20;

const knownKeys: ReadonlySet<string> = new Set(settingEntries.flatMap(([key]) => keysOf(key)));

/** Reads the YAML of a configuration file. Never throws. */
export function parseConfigFile(name: string, yaml: string): ConfigFile {
  const document = parseYamlDocument(yaml);
  const entries = new Map<string, FileEntry>();
  const problems = document.problems.map(({ line, message }) => `${name}:${line}: ${message}`);

  function readMapping(
    items: readonly { readonly key: unknown; readonly value: unknown }[],
    prefix: string,
  ): void {
    for (const item of items) {
      const key = toNode(item.key);
      const line = document.lineOf(key);
      if (isScalar(key) && typeof key.value === "string") {
        readPair(`${prefix}${key.value}`, toNode(item.value), line);
      } else problems.push(`${name}:${line}: expected the name of a setting, got ${describe(key)}`);
    }
  }

  function readPair(key: string, value: Node | null, line: number): void {
    if (settingGroups.has(key)) readGroup(key, value, line);
    else if (knownKeys.has(key)) readValue(key, value, line);
    else if (key === "upstreams") report(key, line, "not supported by this version, use server");
    // A suggestion for each of thousands of unknown keys would take long, and nobody would read it.
    else report(key, line, `unknown setting${problems.length < PROBLEMS_MAX ? suggest(key, knownKeys) : ""}`);
  }

  function readGroup(key: string, value: Node | null, line: number): void {
    if (isMap(value)) readMapping(value.items, `${key}.`);
    // A group whose settings are all commented out holds nothing.
    else if (!isNothing(value)) report(key, line, `expected settings below it, got ${describe(value)}`);
  }

  function readValue(key: string, value: Node | null, line: number): void {
    const known = entries.get(key);
    if (known !== undefined) report(key, line, `set twice, first in line ${known.line}`);
    else if (isNothing(value)) report(key, line, "has no value: give it one, or leave it out");
    else if (!isScalar(value)) report(key, line, `expected one value, got ${describe(value)}`);
    else entries.set(key, { text: textOf(value), line });
  }

  function report(key: string, line: number, problem: string): void {
    problems.push(`${printable(key)} (${name}:${line}): ${problem}`);
  }

  const { root } = document;
  if (isMap(root)) readMapping(root.items, "");
  else if (!isNothing(root))
    problems.push(`${name}:${document.lineOf(root)}: expected settings, got ${describe(root)}`);
  return { name, entries, problems: firstOf(problems) };
}

function toNode(value: unknown): Node | null {
  return isNode(value) ? value : null;
}

function isNothing(node: Node | null): boolean {
  return node === null || (isScalar(node) && node.value === null);
}

/** Numbers and the like as they were written: `1e3` shall not turn into `1000` in an error. */
function textOf(node: Node): string {
  if (!isScalar(node)) return "";
  return typeof node.value === "string" ? node.value : (node.source ?? String(node.value));
}

function describe(node: Node | null): string {
  if (isAlias(node)) return `the alias *${printable(node.source)}`;
  if (isScalar(node)) return `"${printable(textOf(node))}"`;
  if (isMap(node)) return "a mapping";
  return node === null ? "nothing" : "a list";
}

function printable(text: string): string {
  const start = text.replaceAll(/\p{Cc}/gu, "?").slice(0, 60);
  return text.length > 60 ? `${start}…` : start;
}

function firstOf(problems: readonly string[]): readonly string[] {
  const rest = problems.length - PROBLEMS_MAX;
  return rest > 0 ? [...problems.slice(0, PROBLEMS_MAX), `and ${rest} more`] : problems;
}
