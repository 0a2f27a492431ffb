import type { Found } from "./find-setting.ts";
import { parseDuration } from "./quantity.ts";
import { type SettingKey, settingEntries, settings } from "./settings.ts";

/** What the configuration is for: `serve` and `dev` run a daemon, `tool` is any other command. */
export type Purpose = "serve" | "dev" | "tool";

type SetSettings = ReadonlyMap<SettingKey, Found>;

/** Settings that exclude or need each other. Commands other than the daemon take what concerns them. */
export function findContradictions(set: SetSettings, purpose: Purpose): readonly string[] {
  if (purpose === "tool") return [];
  const name = (key: SettingKey) => set.get(key)?.source ?? key;
  const problems: string[] = [];
  const database = set.has("database");
  const server = set.has("server");

  if (database && server) {
    problems.push(
      `${name("database")} and ${name("server")} exclude each other: the first is root mode, the second proxy mode`,
    );
  }
  if (purpose === "dev" && server) {
    problems.push(`${name("server")}: dev runs in root mode, on its own database; use serve for proxy mode`);
  }
  if (purpose === "serve" && !database && !server) {
    problems.push(
      "none of database, server, upstreams is set: expected database for root mode, or server for proxy mode",
    );
  }
  if (purpose === "serve" && !set.has("descriptors")) {
    problems.push("descriptors: not set: expected the file with the flags' descriptor set");
  }
  const rootMode = database || purpose === "dev";
  for (const key of ["admin", "database_listen"] as const) {
    if (isOn(set, key) && !rootMode)
      problems.push(`${name(key)}: needs root mode, so database has to be set as well`);
  }
  return problems;
}

/** What can be used but is probably not meant. */
export function findDoubts(set: SetSettings): readonly string[] {
  const writeThrough = (["cache.flag_ttl", "cache.override_ttl"] as const)
    .flatMap((key) => set.get(key) ?? [])
    .filter(({ text }) => parseDuration(text) === 0)
    .map(
      ({ source }) =>
        `${source}: 0 makes every request ask the store (pbflags before v0.14 took 0 as "never expires")`,
    );
  const later = settingEntries
    .filter(([key, setting]) => setting.later && isOn(set, key))
    .map(([key]) => `${set.get(key)?.source ?? key}: has no effect in this version`);
  return [...writeThrough, ...later];
}

/** Set to something else than its default. */
function isOn(set: SetSettings, key: SettingKey): boolean {
  const found = set.get(key);
  return found !== undefined && found.text !== settings[key].fallback;
}
