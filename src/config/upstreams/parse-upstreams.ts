import type { PoolSettings } from "../../upstream/upstream-settings.ts";
import { hasTls } from "../evaluator-url.ts";
import { firstOf } from "../first-of.ts";
import {
  checkDefaults,
  checkPool,
  checkServer,
  checkServers,
  nameOf,
  urlOf,
  type WrittenServer,
} from "./check-pool.ts";
import { OWN_KEYS, poolEntries, serverEntries } from "./fields.ts";
import { defaultsOf, type FieldSources, locate, type PlacedFields, readFields } from "./read-fields.ts";
import { toPoolSettings } from "./to-pool-settings.ts";

/** What a file says below `upstreams`. */
export interface WrittenPool {
  /** `upstreams (proxy.yaml:3)`. */
  readonly source: string;
  readonly problems: readonly string[];
  /** What is probably not meant, one sentence each. */
  readonly warnings: readonly string[];
  /** What is set and what it falls back to, in the order of the table. */
  readonly settings: readonly PoolSetting[];
  /** No server can give out a descriptor set. */
  readonly onlyPbflags: boolean;
  /** Throws if there are problems. `drainTimeoutMs` has a setting of its own. */
  toSettings(drainTimeoutMs: number): PoolSettings;
}

/** One setting of the pool, for people: secrets are masked. */
export interface PoolSetting {
  readonly key: string;
  /** Undefined: unset. */
  readonly text: string | undefined;
  readonly source: string;
}

/** More are hardly a pool, and would cost their health checks. */
const SERVERS_MAX = 100;

const defaultEntries = serverEntries.filter(([key]) => !OWN_KEYS.has(key));
const poolFallbacks = defaultsOf(poolEntries);
const serverFallbacks = defaultsOf(serverEntries);

/** The pool that the file describes. Undefined: it describes none. */
export function parseUpstreams(sources: FieldSources): WrittenPool | undefined {
  const line = sources.file.groups.get("upstreams");
  if (line === undefined) return undefined;
  const source = locate("upstreams", line, sources);
  const problems: string[] = [];

  const ownPool = readFields(poolEntries, "upstreams", sources, problems);
  const defaults = readFields(defaultEntries, "upstreams.defaults", sources, problems);
  const servers = readServers(sources, defaults, problems);
  const pool: PlacedFields = new Map([...poolFallbacks, ...ownPool]);
  if (servers.length === 0) problems.push(`${source}: expected at least one server in upstreams.servers`);
  const count = countServers(sources);
  if (count > SERVERS_MAX) problems.push(`${source}: expected at most ${SERVERS_MAX} servers, got ${count}`);
  problems.push(
    ...checkPool(pool),
    ...checkDefaults(defaults),
    ...servers.flatMap(checkServer),
    ...checkServers(servers),
  );
  const named = servers.map((server) => ({ name: nameOf(server) ?? "", values: server.inForce }));
  return {
    source,
    // What servers have from the defaults may be wrong for many of them.
    problems: firstOf([...new Set(problems)]),
    warnings: findDoubts(pool, defaults, servers),
    settings: listSettings(pool, defaults, servers),
    onlyPbflags: servers.every(({ inForce }) => inForce.get("kind")?.value === "pbflags"),
    toSettings: (drainTimeoutMs) => toPoolSettings({ pool, servers: named, drainTimeoutMs }),
  };
}

/** A pool of one upstream, all of its settings at their defaults. */
export function toPoolOfOne(url: string, drainTimeoutMs: number): PoolSettings {
  const fields: PlacedFields = new Map([["url", { value: url, shown: undefined, source: "server" }]]);
  const values: PlacedFields = new Map([...serverFallbacks, ...fields]);
  const servers = [{ name: urlOf(fields)?.name ?? "", values }];
  return toPoolSettings({ pool: poolFallbacks, servers, drainTimeoutMs });
}

function countServers({ file }: FieldSources): number {
  let count = 0;
  while (file.groups.has(placeOf(count))) count += 1;
  return count;
}

function placeOf(server: number): string {
  return `upstreams.servers[${server}]`;
}

/** As many as there may be: what is wrong with further ones does not matter. */
function readServers(
  sources: FieldSources,
  defaults: PlacedFields,
  problems: string[],
): readonly WrittenServer[] {
  const servers: WrittenServer[] = [];
  for (let i = 0; i < SERVERS_MAX; i++) {
    const place = placeOf(i);
    const line = sources.file.groups.get(place);
    if (line === undefined) break;
    const own = readFields(serverEntries, place, sources, problems);
    servers.push({ place, source: locate(place, line, sources), own, inForce: inherit(own, defaults) });
  }
  return servers;
}

/** Key by key, but for what makes sense as a whole only. */
function inherit(own: PlacedFields, defaults: PlacedFields): PlacedFields {
  const has = (start: string) => [...own.keys()].some((key) => key.startsWith(start));
  const isExec = urlOf(own)?.scheme === "exec";
  const inherited = [...defaults].filter(([key]) => {
    if (key.startsWith("auth.")) return !isExec && !has("auth.");
    if (key === "rate_limit") return !has("rate_limit.");
    if (key.startsWith("rate_limit.")) return !own.has("rate_limit");
    return true;
  });
  return new Map([...serverFallbacks, ...inherited, ...own]);
}

function findDoubts(
  pool: PlacedFields,
  defaults: PlacedFields,
  servers: readonly WrittenServer[],
): readonly string[] {
  const strategy = pool.get("strategy")?.value;
  const uses: Readonly<Record<string, readonly unknown[]>> = {
    priority: ["priority"],
    weight: ["weighted-random", "consistent-hash"],
  };
  const doubts = [defaults, ...servers.map(({ own }) => own)].flatMap((fields) =>
    Object.entries(uses).flatMap(([key, strategies]) => {
      const set = strategies.includes(strategy) ? undefined : fields.get(key);
      return set === undefined ? [] : [`${set.source}: has no effect with the strategy ${String(strategy)}`];
    }),
  );
  const anyTls = servers.some(({ own }) => {
    const url = urlOf(own);
    return url !== undefined && hasTls(url);
  });
  const idle = [...defaults].filter(([key]) => key.startsWith("tls.") && !anyTls);
  return firstOf([...doubts, ...idle.map(([, { source }]) => `${source}: no server has a URL with TLS`)]);
}

function listSettings(
  pool: PlacedFields,
  defaults: PlacedFields,
  servers: readonly WrittenServer[],
): readonly PoolSetting[] {
  const list = (owner: string, fields: PlacedFields, keys: Iterable<string>): readonly PoolSetting[] =>
    Array.from(keys, (key) => {
      const { shown, source } = fields.get(key) ?? { shown: undefined, source: "default" };
      return { key: `${owner}.${key}`, text: shown, source };
    });
  const defaultKeys = defaultEntries.map(([key]) => key);
  return [
    ...list("upstreams", pool, pool.keys()),
    ...list("upstreams.defaults", new Map([...serverFallbacks, ...defaults]), defaultKeys),
    ...servers.flatMap((server) => [
      {
        key: `${server.place}.name`,
        text: nameOf(server),
        source: server.own.get("name")?.source ?? "default",
      },
      ...list(
        server.place,
        server.own,
        [...server.own.keys()].filter((key) => key !== "name"),
      ),
    ]),
  ];
}
