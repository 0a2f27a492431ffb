import type { Found } from "./find-setting.ts";
import { parseDuration } from "./quantity.ts";
import { type SettingKey, settingEntries, settings } from "./settings.ts";
import type { WrittenPool } from "./upstreams/parse-upstreams.ts";

/** What the configuration is for: `serve` and `dev` run a daemon, `tool` is any other command. */
export type Purpose = "serve" | "dev" | "tool";

type SetSettings = ReadonlyMap<SettingKey, Found>;

/** Settings that exclude or need each other. Commands other than the daemon take what concerns them. */
export function findContradictions(
  set: SetSettings,
  purpose: Purpose,
  pool: Pick<WrittenPool, "source" | "onlyPbflags"> | undefined,
): readonly string[] {
  if (purpose === "tool") return [];
  const name = (key: SettingKey) => set.get(key)?.source ?? key;
  const problems: string[] = [];
  const database = set.has("database");
  const proxies = [
    ...(set.has("server") ? [name("server")] : []),
    ...(pool === undefined ? [] : [pool.source]),
  ];

  for (const proxy of proxies) {
    if (database) {
      problems.push(
        `${name("database")} and ${proxy} exclude each other: the first is root mode, the second proxy mode`,
      );
    }
    if (purpose === "dev") {
      problems.push(`${proxy}: dev runs in root mode, on its own database; use serve for proxy mode`);
    }
  }
  if (proxies.length > 1) {
    problems.push(`${proxies.join(" and ")} exclude each other: both say which servers to ask`);
  }
  if (purpose === "serve" && !database && proxies.length === 0) {
    problems.push(
      "none of database, server, upstreams is set: expected database for root mode, or server for proxy mode",
    );
  }
  if (purpose === "serve" && !set.has("descriptors")) problems.push(...findMissingDescriptors(proxies, pool));
  const rootMode = database || purpose === "dev";
  for (const key of ["admin", "database_listen"] as const) {
    if (isOn(set, key) && !rootMode)
      problems.push(`${name(key)}: needs root mode, so database has to be set as well`);
  }
  return problems;
}

/** A proxy has the descriptor set from its upstream, if that may be pbflagd. */
function findMissingDescriptors(
  proxies: readonly string[],
  pool: Pick<WrittenPool, "source" | "onlyPbflags"> | undefined,
): readonly string[] {
  const expected = "expected the file with the flags' descriptor set";
  if (proxies.length === 0) return [`descriptors: not set: ${expected}`];
  if (!pool?.onlyPbflags) return [];
  return [
    `descriptors: not set, and the servers of ${pool.source}, all of kind pbflags, have no descriptor set to give: ${expected}`,
  ];
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
