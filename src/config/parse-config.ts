import { ConfigError } from "./config-error.ts";
import { findContradictions, findDoubts, type Purpose } from "./contradictions.ts";
import { type ConfigSources, type Found, findSetting } from "./find-setting.ts";
import { suggest } from "./nearest.ts";
import {
  type Config,
  fallbackOf,
  keysOf,
  propertyOf,
  type SettingKey,
  settingEntries,
  settingGroups,
  toVariable,
} from "./settings.ts";
import { parseUpstreams, toPoolOfOne, type WrittenPool } from "./upstreams/parse-upstreams.ts";

/** One setting as it is in force. */
export interface EffectiveSetting {
  /** `listen`, or `upstreams.servers[0].url`. */
  readonly key: string;
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

  const { file, env } = sources;
  const pool = file === undefined ? undefined : parseUpstreams({ file, env });
  problems.push(...(pool?.problems ?? []), ...findContradictions(set, purpose, pool));
  if (problems.length > 0) throw new ConfigError(problems);
  const warnings = [...findDoubts(set), ...(pool?.warnings ?? []), ...findUnknownVariables(env)];
  const config = toConfig(values, pool);
  return { config, warnings, settings: [...effective, ...(pool?.settings ?? [])] };
}

/** `cache.kill_ttl` is `config.cache.killTtlMs`. */
function toConfig(values: ReadonlyMap<SettingKey, unknown>, pool: WrittenPool | undefined): Config {
  const top: Record<string, unknown> = {};
  const groups = new Map<string, Record<string, unknown>>(Array.from(settingGroups, (group) => [group, {}]));
  for (const [key, value] of values) {
    const [group, property] = propertyOf(key);
    (groups.get(group) ?? top)[property] = value;
  }
  const config = { ...top, ...Object.fromEntries(groups) };
  if (!isComplete(config, values.size))
    throw new Error("Cannot put configuration together: settings collide");
  const { server, drainTimeoutMs } = config;
  const one = server === undefined ? undefined : toPoolOfOne(server, drainTimeoutMs);
  return { ...config, upstreams: pool?.toSettings(drainTimeoutMs) ?? one };
}

/** `Config` follows from the table of settings; so does `config`, if no two settings share a name. */
function isComplete(config: object, count: number): config is Omit<Config, "upstreams"> {
  const leaves = Object.entries(config).flatMap(([name, value]) =>
    settingGroups.has(name) ? Object.keys(value) : name,
  );
  return leaves.length === count;
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
