import { ConfigError } from "./config-error.ts";
import { findContradictions, findDoubts, type Purpose } from "./contradictions.ts";
import { type ConfigSources, type Found, findSetting } from "./find-setting.ts";
import { suggest } from "./nearest.ts";
import {
  type Config,
  fallbackOf,
  keysOf,
  type SettingKey,
  settingEntries,
  settingGroups,
  settings,
  toVariable,
} from "./settings.ts";

/** One setting as it is in force. */
export interface EffectiveSetting {
  readonly key: SettingKey;
  /** As written, passwords masked. Undefined: unset. */
  readonly text: string | undefined;
  /** `default`, or where it was set: `--listen`, `PBFLAGS_LISTEN`, `listen (root.yaml:3)`. */
  readonly source: string;
}

export interface LoadedConfig {
  readonly config: Config;
  /** What is probably not meant, one sentence each. */
  readonly warnings: readonly string[];
  readonly settings: readonly EffectiveSetting[];
}

/** Command line over environment over file over default. Throws a ConfigError that names everything wrong. */
export function parseConfig(sources: ConfigSources, purpose: Purpose): LoadedConfig {
  const problems: string[] = [...(sources.file?.problems ?? [])];
  const effective: EffectiveSetting[] = [];
  const values = new Map<SettingKey, unknown>();
  const set = new Map<SettingKey, Found>();
  const circumstances = { dev: purpose === "dev", terminal: sources.terminal ?? false };

  for (const [key, setting] of settingEntries) {
    const found = findSetting(key, sources, problems);
    if (found !== undefined) set.set(key, found);
    const fallback = fallbackOf(setting, circumstances);
    const text = found?.text ?? fallback;
    values.set(key, text === undefined ? undefined : setting.kind.parse(text)?.value);
    effective.push({ key, text: found?.shown ?? fallback, source: found?.source ?? "default" });
  }

  problems.push(...findContradictions(set, purpose));
  if (problems.length > 0) throw new ConfigError(problems);
  const warnings = [...findDoubts(set), ...findUnknownVariables(sources.env)];
  return { config: toConfig(values), warnings, settings: effective };
}

/** `cache.kill_ttl` is `config.cache.killTtlMs`. */
function toConfig(values: ReadonlyMap<SettingKey, unknown>): Config {
  const top: Record<string, unknown> = {};
  const groups = new Map<string, Record<string, unknown>>(Array.from(settingGroups, (group) => [group, {}]));
  for (const [key, value] of values) {
    const [name = "", group = ""] = key.split(".").toReversed();
    const property = `${toCamelCase(name)}${settings[key].kind.suffix}`;
    (groups.get(group) ?? top)[property] = value;
  }
  const config = { ...top, ...Object.fromEntries(groups) };
  if (!isComplete(config, values.size))
    throw new Error("Cannot put configuration together: settings collide");
  return config;
}

/** `Config` follows from the table of settings; so does `config`, if no two settings share a name. */
function isComplete(config: object, count: number): config is Config {
  const leaves = Object.entries(config).flatMap(([name, value]) =>
    settingGroups.has(name) ? Object.keys(value) : name,
  );
  return leaves.length === count;
}

function toCamelCase(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function findUnknownVariables(env: ConfigSources["env"]): readonly string[] {
  const known = new Set([
    "PBFLAGS_CONFIG",
    ...settingEntries.flatMap(([key]) => keysOf(key).map(toVariable)),
  ]);
  return Object.keys(env)
    .filter((name) => name.startsWith("PBFLAGS_") && !known.has(name))
    .map((name) => `${name}: unknown variable${suggest(name, known)}`);
}
