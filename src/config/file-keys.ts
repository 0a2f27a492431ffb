import { suggest } from "./nearest.ts";
import { mask } from "./option.ts";
import { keysOf, settingEntries, settingGroups } from "./settings.ts";
import { OWN_KEYS, poolEntries, serverEntries } from "./upstreams/fields.ts";

/** What may stand below a key of the configuration file. */
export type Below =
  /** One value. */
  | "value"
  /** Settings, each under its key. */
  | "settings"
  /** A list of such groups. */
  | "list of settings"
  | "list of values"
  /** Values under names of the operator's own. */
  | "values by name";

/** Keys by which others are suggested, and what may stand below each: most have one kind of thing, `rate_limit` two. */
const known = new Map<string, Set<Below>>();

for (const [key] of settingEntries) for (const name of keysOf(key)) add(name, "value");
for (const group of settingGroups) add(group, "settings");
add("upstreams", "settings");
add("upstreams.servers", "list of settings");
for (const [key] of poolEntries) addBelow("upstreams", key, "value");
for (const [key, { shape }] of serverEntries) {
  const below = ({ value: "value", list: "list of values", names: "values by name" } as const)[shape];
  addBelow("upstreams.servers[]", key, below);
  if (!OWN_KEYS.has(key)) addBelow("upstreams.defaults", key, below);
}

/** By their place in the file: `upstreams.servers[3].url`. Undefined: there is no such key. */
export function findBelow(key: string): ReadonlySet<Below> | undefined {
  return known.get(toPattern(key));
}

/** `, did you mean X?`, or nothing, for a key that does not exist. */
export function suggestKey(key: string): string {
  const owner = toPattern(key).startsWith("upstreams.") ? ownerOf(key) : "";
  const prefix = toPattern(owner);
  const candidates = [...known.keys()]
    .filter((candidate) => candidate.startsWith(prefix) && !candidate.slice(prefix.length).includes("[]"))
    .map((candidate) => candidate.slice(prefix.length));
  const suggestion = suggest(key.slice(owner.length), candidates);
  return owner === "" ? suggestion : suggestion.replace("mean ", `mean ${owner}`);
}

/** Values below this key are never shown, nor what stands there instead. */
export function isSecretKey(key: string): boolean {
  return /^upstreams\.(?:defaults|servers\[\d+\])\.(?:auth(?!\.method$)|exec\.env)(?:\.|$)/.test(key);
}

/** A key as it may be shown: what looks like one may be a key and its secret value without a blank in between. */
export function showKey(key: string): string {
  return isSecretKey(key) ? (/^[\w.[\]-]*/.exec(key)?.[0] ?? "") : mask(key);
}

function toPattern(key: string): string {
  return key.replaceAll(/\[\d+\]/g, "[]");
}

/** `upstreams.servers[3].` of `upstreams.servers[3].retry.max`, `upstreams.` of `upstreams.strategy`. */
function ownerOf(key: string): string {
  return /^upstreams\.(?:servers\[\d+\]\.|defaults\.)?/.exec(key)?.[0] ?? "";
}

function addBelow(owner: string, key: string, below: Below): void {
  const groups = key.split(".").slice(0, -1);
  add(owner, "settings");
  if (groups.length > 0) add(`${owner}.${groups.join(".")}`, "settings");
  add(`${owner}.${key}`, below);
}

function add(key: string, below: Below): void {
  known.set(key, (known.get(key) ?? new Set()).add(below));
}
