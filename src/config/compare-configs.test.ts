import { expect, test } from "vitest";
import { compareConfigs } from "./compare-configs.ts";
import { parseConfigFile } from "./config-file.ts";
import { parseConfig } from "./parse-config.ts";
import type { Config } from "./settings.ts";

function load(yaml: string): Config {
  const file = parseConfigFile("f.yaml", yaml);
  return parseConfig({ args: {}, env: {}, file }, "tool").config;
}

const pool = "upstreams: {servers: [{url: http://a:1}]}";
const database = "database: postgres://db/flags";

test.each<
  [change: string, from: string, to: string, live: readonly string[], needRestart: readonly string[]]
>([
  ["nothing", pool, `${pool}\n`, [], []],
  ["an address written otherwise", "listen: :1", 'listen: ":1"', [], []],
  ["a default written out", pool, `${pool}\ncache.kill_ttl: 30s\nlog_level: info`, [], []],
  ["the level of the log", pool, `${pool}\nlog_level: debug`, ["log_level"], []],
  ["the drain time-out", pool, `${pool}\ndrain_timeout: 1s`, ["drain_timeout"], []],
  ["a server added", pool, "upstreams: {servers: [{url: http://a:1}, {url: http://b:1}]}", ["upstreams"], []],
  ["a setting of a server", pool, "upstreams: {servers: [{url: http://a:1, weight: 2}]}", ["upstreams"], []],
  ["a strategy", pool, `${pool}\nupstreams.strategy: random`, ["upstreams"], []],
  ["the one server", "server: http://a:1", "upstream: http://b:1", ["server"], []],
  [
    "a server that becomes a pool",
    "server: http://a:1",
    "upstreams: {servers: [{url: http://b:1}]}",
    ["upstreams"],
    [],
  ],
  ["a server that becomes the same pool", "server: http://a:1", pool, [], []],
  ["a pool that becomes a server", pool, "server: http://b:1", ["server"], []],
  [
    "settings of a group",
    pool,
    `${pool}\ncache: {kill_ttl: 1s, flag_ttl: 1s}`,
    [],
    ["cache.kill_ttl", "cache.flag_ttl"],
  ],
  ["an address", pool, `${pool}\nlisten: :1`, [], ["listen"]],
  ["both sorts", pool, `${pool}\nlisten: :1\nlog_level: warn`, ["log_level"], ["listen"]],
  ["a root that becomes a proxy", database, "server: http://a:1", [], ["database", "server"]],
  ["a proxy that becomes a root", pool, database, [], ["database", "upstreams"]],
  ["a database", database, `${database}2`, [], ["database"]],
])("%s", (_, from, to, live, needRestart) => {
  expect(compareConfigs(load(from), load(to))).toEqual({ live, needRestart });
});
