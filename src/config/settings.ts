import type { PoolSettings } from "../upstream/upstream-settings.ts";
import {
  address,
  boolean,
  bytes,
  choice,
  color,
  count,
  duration,
  evaluatorUrl,
  type Kind,
  or,
  orOff,
  path,
  percent,
  postgresUrl,
  text,
} from "./option.ts";

/** One setting: how to read it, what it is if nobody set it, and what to tell the operator. */
export interface Setting<T = unknown, Suffix extends string = string> {
  readonly kind: Kind<T, Suffix>;
  /** As an operator would write it. Undefined: unset. */
  readonly fallback: string | undefined;
  /** Where the default is another: for `pbflagd dev`, or where output goes to a terminal. */
  readonly fallbackFor: { readonly dev?: string; readonly terminal?: string };
  /** One sentence for the operator. */
  readonly doc: string;
  /** Other keys that mean the same. */
  readonly aliases: readonly string[];
  /** The only kind of daemon that it concerns. Undefined: all. */
  readonly mode: "root" | "proxy" | "dev" | undefined;
  /** Whether a reload may change it. Otherwise the daemon has to start again. */
  readonly live: boolean;
  /** Accepted, but without effect until a later version. Setting it gives a warning. */
  readonly later: boolean;
}

type Traits = Partial<Pick<Setting, "fallbackFor" | "aliases" | "mode" | "live" | "later">>;

/** No poll, back-off or time to live may be longer: timers take 24 days, and back-off multiplies by 8. */
const DAY = "24h";

/**
 * Every setting of pbflagd. From a setting's key (`cache.kill_ttl`) follow its place in the file,
 * its variable (`PBFLAGS_CACHE_KILL_TTL`), its flag (`--cache-kill-ttl`), its line in `--help`, in
 * docs/configuration.md and in the example files, and its name in `Config` (`cache.killTtlMs`).
 */
export const settings = {
  descriptors: optional(
    path,
    "File with the FileDescriptorSet that defines the flags; of a directory, all .pb files are merged. Unset: a proxy takes the set from an upstream that is pbflagd, dev builds the example's; a root needs the file.",
  ),
  database: optional(postgresUrl, "Postgres URL. Set it for root mode: state comes from this database.", {
    mode: "root",
  }),
  database_listen: optional(
    postgresUrl,
    "Direct Postgres URL for LISTEN, where `database` is a pooler. Unset: as `database`.",
    { mode: "root" },
  ),
  database_pool: required(count({ min: "1", max: "100" }), "4", "Connections for reads.", { mode: "root" }),
  prepared_statements: required(
    choice(["auto", "off"]),
    "auto",
    "Whether reads are prepared. Off for poolers that cannot keep prepared statements.",
    { mode: "root" },
  ),
  server: optional(
    evaluatorUrl,
    "URL of another evaluator, pbflagd or pbflags. Set it, or `upstreams` in the file, for proxy mode: state comes from there.",
    { mode: "proxy", aliases: ["upstream"], live: true },
  ),
  listen: required(address, "localhost:9201", "Address of the evaluator: host:port, :port or unix:///path."),
  admin: required(orOff(address), "off", "Address of the admin service. Needs root mode.", {
    mode: "root",
  }),
  "cache.kill_ttl": required(
    duration({ min: "10ms", max: DAY }),
    "30s",
    "Interval between two polls of the kill set.",
    { fallbackFor: { dev: "1s" } },
  ),
  "cache.flag_ttl": required(
    duration({ min: "0", max: DAY }),
    "5m",
    "How long a flag's state counts as fresh. 0: every request asks the store.",
  ),
  "cache.override_ttl": required(
    duration({ min: "0", max: DAY }),
    "5m",
    "How long an entity's overrides count as fresh. 0: every request asks the store.",
  ),
  "cache.override_max_entries": required(
    count({ min: "1", max: "10000000" }),
    "10000",
    "Entities whose overrides are remembered. Beyond that, entities without overrides are forgotten first, then the least recently used.",
  ),
  "cache.negative_ttl": required(
    duration({ min: "0", max: DAY }),
    "5s",
    'How long "no such row" is believed where the store has no versions.',
  ),
  "cache.jitter_percent": required(percent, "20", "Spread of times to live and polls, to either side."),
  "cache.fetch_timeout": required(
    duration({ min: "1ms", max: "1m" }),
    "500ms",
    "Longest wait for the store, connecting included.",
  ),
  state_dir: required(
    orOff(path),
    "off",
    "Directory for what bridges a restart while the store is away: a snapshot of kills, values and overrides; the descriptor set of a proxy that takes it from its upstream; the sockets of programs that it runs, and of its workers.",
  ),
  data_dir: required(path, ".pbflagd", "Directory of the embedded database that dev runs.", { mode: "dev" }),
  env_name: optional(text, "Name of the environment, shown in the admin page.", { later: true }),
  env_color: optional(color, "Colour of the environment, shown in the admin page.", {
    later: true,
  }),
  log_level: required(
    choice(["debug", "info", "warn", "error"]),
    "info",
    "Least severe events to log. `debug` logs each decision.",
    { live: true },
  ),
  log_format: required(choice(["json", "pretty"]), "json", "One JSON object a line, or lines for people.", {
    fallbackFor: { terminal: "pretty" },
  }),
  "limits.body_bytes_max": required(
    bytes({ min: "1KiB", max: "1GiB" }),
    "1MiB",
    "Largest request body, after decompression.",
  ),
  "limits.header_bytes_max": required(
    bytes({ min: "1KiB", max: "1MiB" }),
    "16KiB",
    "Largest request header.",
  ),
  "limits.bulk_max_flags": required(
    count({ min: "1", max: "1000000" }),
    "10000",
    "Most flag ids in one BulkEvaluate.",
  ),
  "limits.connections_max": required(
    count({ min: "1", max: "1000000" }),
    "10000",
    "Most open connections, of all workers together.",
  ),
  "limits.streams_max": required(
    count({ min: "1", max: "100000" }),
    "250",
    "Most concurrent requests on one HTTP/2 connection.",
  ),
  "limits.header_timeout": required(
    duration({ min: "100ms", max: DAY }),
    "5s",
    "Longest wait for a request's header, HTTP/2 prefaces and half-open headers included.",
  ),
  "limits.request_timeout": required(
    duration({ min: "100ms", max: DAY }),
    "10s",
    "Longest wait for a whole request.",
  ),
  "limits.idle_timeout": required(
    duration({ min: "100ms", max: DAY }),
    "5m",
    "How long a connection may lie idle.",
  ),
  "health.interval": required(
    duration({ min: "100ms", max: DAY }),
    "30s",
    "Interval between two sweeps over all dependencies.",
  ),
  "health.timeout": required(
    duration({ min: "10ms", max: "1m" }),
    "5s",
    "Longest wait for one dependency's check.",
  ),
  shutdown_timeout: required(
    duration({ min: "0", max: "1h" }),
    "10s",
    "Longest wait, at SIGTERM, for requests that are running.",
  ),
  drain_timeout: required(
    duration({ min: "0", max: "1h" }),
    "10s",
    "Longest wait for requests to an upstream that leaves the pool.",
    { mode: "proxy", live: true },
  ),
  workers: required(
    or("auto", count({ min: "1", max: "256" })),
    "1",
    "Processes that answer on one port. auto: one a core. With more than one there is a further process, which knows the store for all of them: docs/workers.md.",
  ),
  require_store: required(boolean, "false", "End instead of starting while the store is out of reach."),
};

type Settings = typeof settings;

/** `cache.kill_ttl` and its siblings. */
export type SettingKey = keyof Settings;

/** What a program needs to know, complete and checked. Durations are in milliseconds, and named so. */
export type Config = {
  readonly [K in SettingKey as K extends `${string}.${string}` ? never : Name<K, Settings[K]>]: Value<
    Settings[K]
  >;
} & {
  readonly [G in GroupOf<SettingKey>]: {
    readonly [K in SettingKey as K extends `${G}.${infer Rest}` ? Name<Rest, Settings[K]> : never]: Value<
      Settings[K]
    >;
  };
} & {
  /** In proxy mode: as the file has them, or the one that `server` names. */
  readonly upstreams: PoolSettings | undefined;
};

type Value<S> = S extends Setting<infer T> ? T : never;
type SuffixOf<S> = S extends Setting<unknown, infer Suffix> ? Suffix : "";
type Name<K extends string, S> = `${CamelCase<K>}${SuffixOf<S>}`;
type CamelCase<K extends string> = K extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : K;
type GroupOf<K extends string> = K extends `${infer Group}.${string}` ? Group : never;

/** All settings in the order in which people should read about them. */
export const settingEntries: readonly (readonly [key: SettingKey, setting: Setting])[] = Object.keys(settings)
  .filter(isSettingKey)
  .map((key) => [key, settings[key]]);

function isSettingKey(key: string): key is SettingKey {
  return Object.hasOwn(settings, key);
}

/** Keys that hold settings instead of a value: `cache`, `limits`, `health`. */
export const settingGroups: ReadonlySet<string> = new Set(
  settingEntries.filter(([key]) => key.includes(".")).map(([key]) => key.slice(0, key.indexOf("."))),
);

/** The keys under which a setting may stand: its own, then its aliases. */
export function keysOf(key: SettingKey): readonly string[] {
  return [key, ...settings[key].aliases];
}

/** `PBFLAGS_CACHE_KILL_TTL` for `cache.kill_ttl`. */
export function toVariable(key: string): string {
  return `PBFLAGS_${key.replaceAll(".", "_").toUpperCase()}`;
}

/** `--cache-kill-ttl` for `cache.kill_ttl`. */
export function toFlag(key: string): string {
  return `--${key.replaceAll(/[._]/g, "-")}`;
}

/** `["cache", "killTtlMs"]`: where `Config` has the setting `cache.kill_ttl`. Without a group, the first is empty. */
export function propertyOf(key: SettingKey): readonly [group: string, property: string] {
  const [name = "", group = ""] = key.split(".").toReversed();
  const camel = name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  return [group, `${camel}${settings[key].kind.suffix}`];
}

/** The default of a setting, as an operator would write it. */
export function fallbackOf(
  setting: Setting,
  circumstances: { dev: boolean; terminal: boolean },
): string | undefined {
  return (
    (circumstances.dev ? setting.fallbackFor.dev : undefined) ??
    (circumstances.terminal ? setting.fallbackFor.terminal : undefined) ??
    setting.fallback
  );
}

function required<T, Suffix extends string>(
  kind: Kind<T, Suffix>,
  fallback: string,
  doc: string,
  traits: Traits = {},
): Setting<T, Suffix> {
  return create(kind, fallback, doc, traits);
}

function optional<T, Suffix extends string>(
  kind: Kind<T, Suffix>,
  doc: string,
  traits: Traits = {},
): Setting<T | undefined, Suffix> {
  return create<T | undefined, Suffix>(kind, undefined, doc, traits);
}

function create<T, Suffix extends string>(
  kind: Kind<T, Suffix>,
  fallback: string | undefined,
  doc: string,
  traits: Traits,
): Setting<T, Suffix> {
  return {
    kind,
    fallback,
    doc,
    fallbackFor: {},
    aliases: [],
    mode: undefined,
    live: false,
    later: false,
    ...traits,
  };
}
