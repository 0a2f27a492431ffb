import { isAlias, isMap, isNode, isScalar, isSeq, type Node } from "yaml";
import { findBelow, isSecretKey, showKey, suggestKey } from "./file-keys.ts";
import { firstOf, PROBLEMS_MAX } from "./first-of.ts";
import { mask } from "./option.ts";
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
  /** Values by their place: `listen`, `cache.kill_ttl`, `upstreams.servers[0].exec.args[1]`. */
  readonly entries: ReadonlyMap<string, FileEntry>;
  /** Lines of the groups and lists that were given, by their place: `upstreams.servers[0]`. */
  readonly groups: ReadonlyMap<string, number>;
  /** What cannot be used, each with file and line. */
  readonly problems: readonly string[];
}

/** A larger file is refused. */
export const FILE_BYTES_MAX = YAML_BYTES_MAX;

type Pairs = readonly { readonly key: unknown; readonly value: unknown }[];
type ReadPair = (key: string, value: Node | null, line: number) => void;

/** Reads the YAML of a configuration file. Never throws. */
export function parseConfigFile(name: string, yaml: string): ConfigFile {
  const document = parseYamlDocument(yaml);
  const entries = new Map<string, FileEntry>();
  const groups = new Map<string, number>();
  const problems = document.problems.map(({ line, message }) => `${name}:${line}: ${message}`);

  function readMapping(pairs: Pairs, prefix: string, readPair: ReadPair): void {
    for (const pair of pairs) {
      const key = toNode(pair.key);
      const line = document.lineOf(key);
      if (isScalar(key) && typeof key.value === "string") {
        // Only lists have indices. As part of a key they would reach into one.
        const indexed = readPair === readSetting && key.value.includes("[");
        if (indexed) report(`${prefix}${key.value}`, line, "unknown setting: a list is written as one");
        else readPair(`${prefix}${key.value}`, toNode(pair.value), line);
      } else {
        problems.push(`${name}:${line}: expected the name of a setting, got ${describe(key, prefix)}`);
      }
    }
  }

  function readSetting(key: string, value: Node | null, line: number): void {
    const below = findBelow(key);
    const dot = key.indexOf(".");
    // A group may be given by nothing but keys with dots in them.
    if (below !== undefined && dot > 0 && !groups.has(key.slice(0, dot))) groups.set(key.slice(0, dot), line);
    if (below === undefined) reportUnknown(key, line);
    else if (below.has("value") && (isScalar(value) || !below.has("settings"))) readValue(key, value, line);
    else if (below.has("settings")) readGroup(key, value, line, readSetting);
    else if (below.has("values by name")) readGroup(key, value, line, readValue);
    else readList(key, value, line);
  }

  function readGroup(key: string, value: Node | null, line: number, readPair: ReadPair): void {
    if (isMap(value)) {
      if (!groups.has(key)) groups.set(key, line);
      readMapping(value.items, `${key}.`, readPair);
    }
    // A group whose settings are all commented out holds nothing.
    else if (!isNothing(value)) report(key, line, `expected settings below it, got ${describe(value, key)}`);
  }

  function readList(key: string, value: Node | null, line: number): void {
    if (isSeq(value)) {
      if (groups.has(key)) report(key, line, `set twice, first in line ${groups.get(key)}`);
      groups.set(key, line);
      for (const [index, item] of value.items.entries()) {
        const node = toNode(item);
        readItem(`${key}[${index}]`, node, document.lineOf(node));
      }
    } else if (!isNothing(value)) report(key, line, `expected a list, got ${describe(value, key)}`);
  }

  function readItem(key: string, value: Node | null, line: number): void {
    if (!findBelow(key)?.has("settings")) readValue(key, value, line);
    else if (isMap(value)) readGroup(key, value, line, readSetting);
    else report(key, line, `expected settings, got ${describe(value, key)}`);
  }

  function readValue(key: string, value: Node | null, line: number): void {
    const known = entries.get(key);
    if (known !== undefined) report(key, line, `set twice, first in line ${known.line}`);
    else if (isNothing(value)) report(key, line, "has no value: give it one, or leave it out");
    else if (!isScalar(value)) report(key, line, `expected one value, got ${describe(value, key)}`);
    else entries.set(key, { text: textOf(value), line });
  }

  function reportUnknown(key: string, line: number): void {
    // A suggestion for each of thousands of unknown keys would take long, and nobody would read it.
    report(key, line, `unknown setting${problems.length < PROBLEMS_MAX ? suggestKey(key) : ""}`);
  }

  function report(key: string, line: number, problem: string): void {
    problems.push(`${printable(showKey(key))} (${name}:${line}): ${problem}`);
  }

  const { root } = document;
  if (isMap(root)) readMapping(root.items, "", readSetting);
  else if (!isNothing(root)) {
    problems.push(`${name}:${document.lineOf(root)}: expected settings, got ${describe(root, "")}`);
  }
  return { name, entries, groups, problems: firstOf(problems) };
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

/** What stands at a key, or below it where the key ends in a dot. */
function describe(node: Node | null, key: string): string {
  const secret = isSecretKey(key);
  if (isAlias(node)) return secret ? "an alias" : `the alias *${printable(node.source)}`;
  if (isScalar(node)) return secret ? '"***"' : `"${printable(mask(textOf(node)))}"`;
  if (isMap(node)) return "a mapping";
  return node === null ? "nothing" : "a list";
}

function printable(text: string): string {
  const start = text.replaceAll(/\p{Cc}/gu, "?").slice(0, 60);
  return text.length > 60 ? `${start}…` : start;
}
