import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ConfigError } from "../config-error.ts";
import { parseConfigFile } from "../config-file.ts";
import { exampleFile } from "../example-file.ts";
import { type LoadedConfig, parseConfig } from "../parse-config.ts";
import { poolEntries, serverEntries } from "./fields.ts";

const env = { TOKEN: "hunter2", PORT: "9201", NAME: "a" };

function load(yaml: string, purpose: "serve" | "dev" | "tool" = "serve"): LoadedConfig {
  return parseConfig({ args: {}, env, file: parseConfigFile("f.yaml", yaml) }, purpose);
}

function problemsOf(yaml: string, purpose: "serve" | "dev" | "tool" = "serve"): readonly string[] {
  try {
    load(yaml, purpose);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

const oneUpstream = {
  name: "a:1",
  url: "http://a:1",
  kind: "auto",
  priority: 0,
  weight: 1,
  auth: { method: "none" },
  tls: { caFile: undefined, serverName: undefined },
  retry: {
    maxRetries: 1,
    tryTimeoutMs: undefined,
    initialIntervalMs: 25,
    maxIntervalMs: 100,
    multiplier: 2,
    jitter: 0.1,
    budget: 0.1,
  },
  breaker: { failuresMax: 5, callsMin: 3, openMs: 30_000, successesToClose: 2 },
  rateLimit: undefined,
  connection: {
    connectionsMax: 64,
    idleTimeoutMs: 300_000,
    connectTimeoutMs: 250,
    requestTimeoutMs: 10_000,
    keepAliveMs: 30_000,
    compression: "none",
  },
  exec: { args: [], env: {}, startTimeoutMs: 5_000, stopTimeoutMs: 5_000 },
};

const poolOfOne = {
  strategy: "round-robin",
  reloadStrategy: "graceful",
  drainTimeoutMs: 10_000,
  healthCheck: { intervalMs: 1_000, timeoutMs: 100, jitter: 0.2 },
  score: { initial: 1, min: -3, max: 3, success: 1, failure: -1 },
  upstreams: [oneUpstream],
};

test.each([
  ["a server", "server: http://a:1"],
  ["a pool of one server", "upstreams: {servers: [{url: http://a:1}]}"],
  ["keys with dots", "upstreams.servers: [{url: http://a:1}]"],
])("%s is a pool of one with all defaults", (_, yaml) => {
  expect(load(yaml).config.upstreams).toEqual(poolOfOne);
});

test("in root mode there is no pool", () => {
  expect(load("database: postgres://db/flags\ndescriptors: x.pb").config.upstreams).toBeUndefined();
  expect(load("upstreams:\n  # all commented out", "dev").config.upstreams).toBeUndefined();
});

test("what the example comments out is a pool with all defaults, and mentions every setting", () => {
  const example = exampleFile("proxy");
  const [before = "", after = ""] = example.split("# upstreams:\n");
  const yaml = `${before.replace(/^server:.*$/m, "")}upstreams:\n${after.replaceAll(/^# ?/gm, "")}`;
  const { config, warnings } = load(yaml);
  expect(config.upstreams).toEqual({
    ...poolOfOne,
    upstreams: ["a", "b", "c"].map((letter, i) => ({
      ...oneUpstream,
      name: i === 0 ? "a" : `pbflagd-${letter}:9201`,
      url: `http://pbflagd-${letter}:9201`,
    })),
  });
  // They say what they say elsewhere: that all have the default.
  expect(warnings.filter((warning) => !/upstreams\.defaults\.(priority|weight)/.test(warning))).toEqual([]);
  const names = [...poolEntries, ...serverEntries].map(([key]) => key.split(".").at(-1));
  expect(names.filter((name) => !new RegExp(`\\b${name}: `).test(after))).toEqual([]);
});

test("what the example shows where there is no default can be used", () => {
  const examples = serverEntries.filter(([, { example }]) => example !== undefined);
  expect(examples.length).toBeGreaterThan(10);
  for (const [key, { example }] of examples) {
    const problems = problemsOf(`upstreams:\n  servers:\n    - ${key}: ${example}\n`);
    expect(
      problems.filter((problem) => /expected (?!a url|at least)|line|YAML/.test(problem)),
      key,
    ).toEqual([]);
  }
});

test("every setting of a server can be set, and goes over the defaults", () => {
  const { config } = load(`
drain_timeout: 7s
upstreams:
  strategy: priority
  reload_strategy: rolling
  health_check: {interval: 2s, timeout: 200ms, jitter_percent: 0}
  score: {initial: 0, min: -5, max: 5, success: 2, failure: -2}
  defaults:
    kind: pbflagd
    priority: -1
    auth: {method: bearer, token: "\${TOKEN}"}
    tls.ca_file: /ca.pem
    retry: {max_retries: 0, try_timeout: 1s, multiplier: 1.5}
    rate_limit: {requests_per_second: 2.5}
    exec: {args: [x], env: {A: b}, start_timeout: 1s}
  servers:
    - name: full
      url: https://a:\${PORT}
      priority: 3
      weight: 0.5
      auth: {method: basic, username: me, password: "\${TOKEN}:$\${x}"}
      tls: {server_name: flags.internal}
      retry: {max_retries: 2, initial_interval: 1ms, max_interval: 2ms, jitter_percent: 50, budget_percent: 100}
      breaker: {failures_max: 1, calls_min: 1, open: 1s, successes_to_close: 1}
      rate_limit: {burst_size: 7}
      connection: {connections_max: 1, idle_timeout: 1s, connect_timeout: 1s, request_timeout: 1s, keep_alive: 0, compression: gzip}
    - url: grpc://b:1
      rate_limit: off
    - url: exec:/usr/bin/flags
      exec: {args: [], env: {C: "\${TOKEN}", D: ""}, stop_timeout: 0s}
`);
  expect(config.upstreams).toEqual({
    strategy: "priority",
    reloadStrategy: "rolling",
    drainTimeoutMs: 7_000,
    healthCheck: { intervalMs: 2_000, timeoutMs: 200, jitter: 0 },
    score: { initial: 0, min: -5, max: 5, success: 2, failure: -2 },
    upstreams: [
      {
        name: "full",
        url: "https://a:9201",
        kind: "pbflagd",
        priority: 3,
        weight: 0.5,
        auth: { method: "basic", username: "me", password: "hunter2:${x}" },
        tls: { caFile: "/ca.pem", serverName: "flags.internal" },
        retry: {
          maxRetries: 2,
          tryTimeoutMs: 1_000,
          initialIntervalMs: 1,
          maxIntervalMs: 2,
          multiplier: 1.5,
          jitter: 0.5,
          budget: 1,
        },
        breaker: { failuresMax: 1, callsMin: 1, openMs: 1_000, successesToClose: 1 },
        rateLimit: { requestsPerSecond: 2.5, burstSize: 7 },
        connection: {
          connectionsMax: 1,
          idleTimeoutMs: 1_000,
          connectTimeoutMs: 1_000,
          requestTimeoutMs: 1_000,
          keepAliveMs: 0,
          compression: "gzip",
        },
        exec: { args: ["x"], env: { A: "b" }, startTimeoutMs: 1_000, stopTimeoutMs: 5_000 },
      },
      {
        ...oneUpstream,
        name: "b:1",
        url: "grpc://b:1",
        kind: "pbflagd",
        priority: -1,
        auth: { method: "bearer", token: "hunter2" },
        tls: { caFile: "/ca.pem", serverName: undefined },
        retry: { ...oneUpstream.retry, maxRetries: 0, tryTimeoutMs: 1_000, multiplier: 1.5 },
        exec: { args: ["x"], env: { A: "b" }, startTimeoutMs: 1_000, stopTimeoutMs: 5_000 },
      },
      {
        ...oneUpstream,
        name: "flags",
        url: "exec:/usr/bin/flags",
        kind: "pbflagd",
        priority: -1,
        tls: { caFile: "/ca.pem", serverName: undefined },
        retry: { ...oneUpstream.retry, maxRetries: 0, tryTimeoutMs: 1_000, multiplier: 1.5 },
        rateLimit: { requestsPerSecond: 2.5, burstSize: 3 },
        exec: { args: [], env: { C: "hunter2", D: "" }, startTimeoutMs: 1_000, stopTimeoutMs: 0 },
      },
    ],
  });
});

test.each([
  ["{method: api-key, key: k}", { method: "api-key", key: "k" }],
  ["{method: mtls, cert_file: c, key_file: k}", { method: "mtls", certFile: "c", keyFile: "k" }],
  [
    '{method: custom, headers: {X-Token: "${TOKEN}", "X_Two": "a b"}}',
    { method: "custom", headers: { "X-Token": "hunter2", X_Two: "a b" } },
  ],
])("auth %s", (auth, expected) => {
  const { config } = load(`upstreams: {servers: [{url: https://a, auth: ${auth}}]}`);
  expect(config.upstreams?.upstreams[0]?.auth).toEqual(expected);
});

test.each([
  ["none: {method: none}", { method: "none" }],
  ["another method", { method: "api-key", key: "k" }],
])("a server that sets %s has nothing from the defaults' auth", (_, auth) => {
  const own = "key" in auth ? "{method: api-key, key: k}" : "{method: none}";
  const { config } = load(
    `upstreams: {defaults: {auth: {method: bearer, token: t}}, servers: [{url: http://a, auth: ${own}}]}`,
  );
  expect(config.upstreams?.upstreams[0]?.auth).toEqual(auth);
});

test("everything wrong is reported at once, under its path with file and line", () => {
  const yaml = `
upstreams:
  strategy: roundrobin
  health_check: {interval: 50ms, jitter: 1}
  score: {min: 0}
  nonsense: 1
  defaults:
    retry: {max_retry: 1}
    url: http://a
  servers:
    - url: http://a:1
      weigth: 1
      max_retries: 2
    - url: ftp://b
      retry:
        max_retries: 99
    - name: "a b"
    - http://c
`;
  expect(problemsOf(yaml)).toEqual([
    "upstreams.health_check.jitter (f.yaml:4): unknown setting",
    "upstreams.nonsense (f.yaml:6): unknown setting",
    "upstreams.defaults.retry.max_retry (f.yaml:8): unknown setting, did you mean upstreams.defaults.retry.max_retries?",
    "upstreams.defaults.url (f.yaml:9): unknown setting",
    "upstreams.servers[0].weigth (f.yaml:12): unknown setting, did you mean upstreams.servers[0].weight?",
    "upstreams.servers[0].max_retries (f.yaml:13): unknown setting, did you mean upstreams.servers[0].retry.max_retries?",
    'upstreams.servers[3] (f.yaml:18): expected settings, got "http://c"',
    'upstreams.strategy (f.yaml:3): expected "round-robin" or "random" or "least-connections" or "least-latency" or "weighted-random" or "consistent-hash" or "priority", got "roundrobin"',
    'upstreams.score.min (f.yaml:5): expected a whole number from -1000 to -1, got "0"',
    'upstreams.servers[1].url (f.yaml:14): expected a URL such as "http://host:9201", "grpcs://host:9201", "unix:///path" or "exec:/program", got "ftp://b"',
    'upstreams.servers[1].retry.max_retries (f.yaml:16): expected a whole number from 0 to 10, got "99"',
    'upstreams.servers[2].name (f.yaml:17): expected a name of 1 to 100 letters, digits and ".", "_", "-", ":", got "a b"',
    "upstreams.health_check.interval (f.yaml:4): 50ms is less than health_check.timeout, 100ms",
    "upstreams.servers[2] (f.yaml:17): expected a url",
  ]);
});

const a = "{url: http://a:1}";

test.each<[yaml: string, problem: string]>([
  ["upstreams: {}", "upstreams (f.yaml:1): expected at least one server in upstreams.servers"],
  ["upstreams: {servers: []}", "upstreams (f.yaml:1): expected at least one server in upstreams.servers"],
  ["upstreams: [{url: http://a:1}]", "upstreams (f.yaml:1): expected settings below it, got a list"],
  ["upstreams: {servers: {a: 1}}", "upstreams.servers (f.yaml:1): expected a list, got a mapping"],
  ["upstreams: {servers: http://a:1}", 'upstreams.servers (f.yaml:1): expected a list, got "http://a:1"'],
  [
    `upstreams: {servers: [${a}]}\nupstreams.servers: [${a}]`,
    "upstreams.servers (f.yaml:2): set twice, first in line 1",
  ],
  [
    `upstreams: {servers: [${a}]}\nupstreams.servers[0].weight: 2`,
    "upstreams.servers[0].weight (f.yaml:2): unknown setting: a list is written as one",
  ],
  [
    `upstreams: {servers: [${a}], "servers[1]": ${a}}`,
    "upstreams.servers[1] (f.yaml:1): unknown setting: a list is written as one",
  ],
  [
    `upstreams: {servers: [${`${a}, `.repeat(101)}]}`,
    "upstreams (f.yaml:1): expected at most 100 servers, got 101",
  ],
  [
    "upstreams: {servers: [{name: x, url: http://a}, {name: x, url: http://b}]}",
    'upstreams.servers[1].name (f.yaml:1): "x" is the name of upstreams.servers[0] already: give each a name of its own',
  ],
  [
    "upstreams: {servers: [{url: http://a:1}, {url: grpc://a:1}]}",
    'upstreams.servers[1].url (f.yaml:1): "a:1" is the name of upstreams.servers[0] already: give each a name of its own',
  ],
  [
    "upstreams: {servers: [{url: http://a, kind: pbflagd}, {url: http://b}, {url: http://c, kind: pbflags}]}",
    "upstreams.servers[2].kind (f.yaml:1): a pool is all of one kind: upstreams.servers[2] is pbflags, upstreams.servers[0] is pbflagd",
  ],
  [
    "upstreams: {score: {initial: -4}, servers: []}",
    "upstreams.score.initial (f.yaml:1): -4 is less than score.min, -3",
  ],
  [
    "upstreams: {score: {max: 0}, servers: []}",
    "upstreams.score.max (f.yaml:1): 0 is less than score.initial, 1",
  ],
  [
    "upstreams: {score: {max: -1}}",
    'upstreams.score.max (f.yaml:1): expected a whole number from 0 to 1000, got "-1"',
  ],
  [
    "upstreams: {score: {success: 0}}",
    'upstreams.score.success (f.yaml:1): expected a whole number from 1 to 1000, got "0"',
  ],
  [
    "upstreams: {score: {failure: 0}}",
    'upstreams.score.failure (f.yaml:1): expected a whole number from -1000 to -1, got "0"',
  ],
  [
    "upstreams:\n  health_check:\n    timeout: 3s\n    interval: 2s",
    "upstreams.health_check.timeout (f.yaml:3): 3s is more than upstreams.health_check.interval (f.yaml:4), 2s",
  ],
  [
    "upstreams: {servers: [{url: http://a, retry: {initial_interval: 1s}}]}",
    "upstreams.servers[0].retry.initial_interval (f.yaml:1): 1s is more than retry.max_interval, 100ms",
  ],
  [
    "upstreams: {servers: [{url: http://a, weight: 0}]}",
    'upstreams.servers[0].weight (f.yaml:1): expected a number such as "1.5", from 0.01 to 1000, got "0"',
  ],
  [
    "upstreams: {servers: [{url: http://a, rate_limit: 5}]}",
    'upstreams.servers[0].rate_limit (f.yaml:1): expected "off", or requests_per_second and burst_size below it, got "5"',
  ],
  [
    "upstreams: {servers: [{url: http://a, rate_limit: {burst_size: 5}}]}",
    "upstreams.servers[0].rate_limit.burst_size (f.yaml:1): needs rate_limit.requests_per_second",
  ],
  [
    "upstreams: {servers: [{url: http://a, rate_limit: off, rate_limit.burst_size: 5}]}",
    "upstreams.servers[0].rate_limit (f.yaml:1): off, and upstreams.servers[0].rate_limit.burst_size (f.yaml:1) is set",
  ],
  [
    "upstreams: {servers: [{url: http://a, auth: {method: bearer}}]}",
    "upstreams.servers[0].auth.method (f.yaml:1): bearer needs auth.token",
  ],
  [
    "upstreams: {servers: [{url: http://a, auth: {method: bearer, token: t, password: p}}]}",
    "upstreams.servers[0].auth.password (f.yaml:1): belongs to the method basic, and auth.method is bearer",
  ],
  [
    "upstreams: {servers: [{url: http://a, auth: {token: t}}]}",
    "upstreams.servers[0].auth.token (f.yaml:1): belongs to the method bearer, and auth.method is none",
  ],
  [
    "upstreams: {servers: [{url: grpc://a, auth: {method: mtls, cert_file: c, key_file: k}}]}",
    "upstreams.servers[0].auth.method (f.yaml:1): mtls needs TLS, and upstreams.servers[0].url (f.yaml:1) is without, expected https: or grpcs:",
  ],
  [
    "upstreams: {defaults: {auth: {method: mtls, cert_file: c, key_file: k}}, servers: [{url: http://a}]}",
    "upstreams.defaults.auth.method (f.yaml:1): mtls needs TLS, and upstreams.servers[0].url (f.yaml:1) is without, expected https: or grpcs:",
  ],
  [
    "upstreams: {servers: [{url: unix:///a, tls: {ca_file: x}}]}",
    "upstreams.servers[0].tls.ca_file (f.yaml:1): the URL is without TLS, expected https: or grpcs:",
  ],
  [
    "upstreams: {servers: [{url: http://a, exec: {args: [x]}}]}",
    "upstreams.servers[0].exec.args (f.yaml:1): the URL names no program, expected exec:",
  ],
  [
    "upstreams: {servers: [{url: exec:a, auth: {method: bearer, token: t}}]}",
    "upstreams.servers[0].auth.method (f.yaml:1): a program that pbflagd runs itself needs no auth",
  ],
  [
    "upstreams: {servers: [{url: exec:a, exec: {env: {PBFLAGD_PLUGIN_ADDRESS: x}}}]}",
    "upstreams.servers[0].exec.env (f.yaml:1): expected the name of a variable that pbflagd does not set itself",
  ],
  [
    "upstreams: {servers: [{url: http://me:pw@a, auth: {method: bearer, token: t}}]}",
    "upstreams.servers[0].url (f.yaml:1): has credentials in it, and upstreams.servers[0].auth.method (f.yaml:1) says otherwise: use one of them",
  ],
  [
    "upstreams: {servers: [{url: http://a, auth: {method: custom, headers: {Content-Type: x}}}]}",
    "upstreams.servers[0].auth.headers (f.yaml:1): expected the name of a header that pbflagd does not set itself",
  ],
  [
    "upstreams: {servers: [{url: http://a, auth: {method: custom, headers: {X-A: x, x-a: x}}}]}",
    "upstreams.servers[0].auth.headers (f.yaml:1): names one header twice",
  ],
  [
    "upstreams: {servers: [{url: http://a, auth: {method: custom, headers: {}}}]}",
    "upstreams.servers[0].auth.headers (f.yaml:1): expected at least one header",
  ],
  [
    'upstreams: {servers: [{url: http://a, auth: {method: custom, headers: {X-A: "a\\r\\nb: c"}}}]}',
    'upstreams.servers[0].auth.headers.X-A (f.yaml:1): expected a text of 1 to 4096 printable ASCII characters, got "***"',
  ],
  [
    'upstreams: {servers: [{url: "http://${MISSING}:1"}]}',
    "upstreams.servers[0].url (f.yaml:1): the variable MISSING is not set",
  ],
  [
    'upstreams: {defaults: {auth: {method: bearer, token: "${MISSING}"}}, servers: [{url: http://a}]}',
    "upstreams.defaults.auth.token (f.yaml:1): the variable MISSING is not set",
  ],
  [
    `server: http://a\nupstreams: {servers: [${a}]}`,
    "server (f.yaml:1) and upstreams (f.yaml:2) exclude each other: both say which servers to ask",
  ],
  [
    `database: postgres://db/x\nupstreams: {servers: [${a}]}`,
    "database (f.yaml:1) and upstreams (f.yaml:2) exclude each other: the first is root mode, the second proxy mode",
  ],
  [
    `upstreams: {servers: [{url: http://a, kind: pbflags}, {url: http://b, kind: pbflags}]}`,
    "descriptors: not set, and the servers of upstreams (f.yaml:1), all of kind pbflags, have no descriptor set to give: expected the file with the flags' descriptor set",
  ],
])("%s: %s", (yaml, problem) => {
  expect(problemsOf(yaml)).toContain(problem);
});

test("dev runs in root mode, and has no pool", () => {
  expect(problemsOf(`upstreams: {servers: [${a}]}`, "dev")).toEqual([
    "upstreams (f.yaml:1): dev runs in root mode, on its own database; use serve for proxy mode",
  ]);
});

test("descriptors may be left out where an upstream may be pbflagd", () => {
  expect(problemsOf("server: http://a")).toEqual([]);
  expect(problemsOf("upstreams: {servers: [{url: http://a, kind: pbflags}, {url: http://b}]}")).toEqual([]);
  expect(
    problemsOf("descriptors: x.pb\nupstreams: {defaults: {kind: pbflags}, servers: [{url: http://a}]}"),
  ).toEqual([]);
});

test("what is wrong with the defaults is said once, and of many mistakes the first twenty", () => {
  const servers = Array.from({ length: 50 }, (_, i) => `{url: http://a${i}}`);
  const wrong = `upstreams: {defaults: {retry: {initial_interval: 1s}}, servers: [${servers.join(", ")}]}`;
  expect(problemsOf(wrong)).toEqual([
    "upstreams.defaults.retry.initial_interval (f.yaml:1): 1s is more than retry.max_interval, 100ms",
  ]);
  const many = `upstreams: {servers: [${Array.from(servers, (_, i) => `{url: ftp://a${i}}`).join(", ")}]}`;
  expect(problemsOf(many)).toHaveLength(21);
  expect(problemsOf(many).at(-1)).toBe("and 30 more");
});

test("a hundred servers fit into a file", () => {
  const servers = Array.from(
    { length: 100 },
    (_, i) =>
      `    - name: pbflagd-${i}\n      url: https://pbflagd-${i}.flags.svc.cluster.local:9201\n      weight: 2\n`,
  );
  const { config } = load(`upstreams:\n  strategy: consistent-hash\n  servers:\n${servers.join("")}`);
  expect(config.upstreams?.upstreams).toHaveLength(100);
});

test("what is probably not meant gives a warning", () => {
  const yaml = `
upstreams:
  defaults: {tls: {ca_file: /ca.pem}, weight: 2}
  servers:
    - {url: http://a, priority: 1}
`;
  expect(load(yaml).warnings).toEqual([
    "upstreams.defaults.weight (f.yaml:3): has no effect with the strategy round-robin",
    "upstreams.servers[0].priority (f.yaml:5): has no effect with the strategy round-robin",
    "upstreams.defaults.tls.ca_file (f.yaml:3): no server has a URL with TLS",
  ]);
  const used = yaml
    .replace("upstreams:", "upstreams:\n  strategy: weighted-random")
    .replace("http:", "https:");
  expect(load(used.replace(", priority: 1", "")).warnings).toEqual([]);
});

test("config print shows the pool, its defaults and what each server sets, secrets masked", () => {
  const { settings } = load(`
upstreams:
  strategy: random
  defaults:
    auth: {method: bearer, token: "\${TOKEN}"}
  servers:
    - url: http://a:1
      auth: {method: basic, username: me, password: "x\${TOKEN}"}
    - {name: b, url: "http://me:hunter2@b", auth: {method: none}}
    - {url: exec:c, exec: {args: ["--x", "token=hunter2"], env: {A: "\${TOKEN}", B: hunter2}}}
`);
  const shown = new Map(settings.map(({ key, text, source }) => [key, [text, source]]));
  expect(shown.get("upstreams.strategy")).toEqual(["random", "upstreams.strategy (f.yaml:3)"]);
  expect(shown.get("upstreams.score.min")).toEqual(["-3", "default"]);
  expect(shown.get("upstreams.defaults.auth.token")).toEqual([
    "${TOKEN}",
    "upstreams.defaults.auth.token (f.yaml:5)",
  ]);
  expect(shown.get("upstreams.defaults.retry.max_retries")).toEqual(["1", "default"]);
  expect(shown.get("upstreams.defaults.tls.ca_file")).toEqual([undefined, "default"]);
  expect(settings.filter(({ key }) => key.includes("[")).map(({ key, text }) => `${key}: ${text}`)).toEqual([
    "upstreams.servers[0].name: a:1",
    "upstreams.servers[0].url: http://a:1",
    "upstreams.servers[0].auth.method: basic",
    "upstreams.servers[0].auth.username: ***",
    "upstreams.servers[0].auth.password: ***",
    "upstreams.servers[1].name: b",
    "upstreams.servers[1].url: http://me:***@b",
    "upstreams.servers[1].auth.method: none",
    "upstreams.servers[2].name: c",
    "upstreams.servers[2].url: exec:c",
    'upstreams.servers[2].exec.args: ["--x","token=***"]',
    'upstreams.servers[2].exec.env: {"A":"${TOKEN}","B":"***"}',
  ]);
});

/** Where operators put secrets, rightly and wrongly; § stands for one. */
const secretPlaces = [
  "auth: {method: bearer, token: §}",
  "auth: {method: bearer, token: §, key: §}",
  "auth: {method: bearer, token:§}",
  'auth: {method: bearer, token: "§ §"}',
  "auth: {method: bearer, token: {§: §}}",
  "auth: {method: bearer, token: [§]}",
  "auth: {method: bearer, token: *§}",
  "auth: {method: bearer, token: !§ x}",
  "auth: {method: bearer, token: |§}",
  'auth: {method: bearer, token: "${§"}',
  'auth: {method: bearer, token: "${§-§}"}',
  'auth: {method: bearer, token: "§${MISSING}"}',
  "auth: {method: bearer, tokn: §}",
  "auth: {method: custom, headers: §}",
  "auth: {method: custom, headers: [§]}",
  'auth: {method: custom, headers: {X-A: "§\\n"}}',
  "auth: {method: custom, headers: {X-A:§}}",
  "auth: {method: custom, headers: {X-A: {a: §}}}",
  'auth: {method: basic, username: "§:§", password: "§\\u0000"}',
  "auth: {method: basic, username:§, password: [§]}",
  "auth: {method: mtls, cert_file: §, key_file: §}",
  "auth: §",
  "auth: [§]",
  "auth: *§",
  "exec: {env: {A: §}}",
  "exec: {env: §}",
  "exec: {env: [§]}",
  'exec: {env: {A: "§\\0"}}',
  "exec: {env: {A:§}}",
  'name: "http://me:§@a"',
  "connection: token:§",
];

test("no error, warning or printed setting shows a secret, wherever it was put", () => {
  const urls = ["http://a", "http://me:§@a", "ftp://me:§@a", "https://§@a", "exec:a", "http://a?token=§"];
  fc.assert(
    fc.property(
      fc.constantFrom(...secretPlaces),
      fc.constantFrom(...secretPlaces),
      fc.constantFrom(...urls),
      (forOne, forAll, url) => {
        const yaml = `upstreams:\n  defaults:\n    ${forAll}\n  servers:\n    - url: ${url}\n      ${forOne}\n`;
        const secret = yaml.replaceAll("§", "hunter2");
        expect(said(secret), secret).not.toContain("hunter2");
      },
    ),
    { numRuns: 500 },
  );
});

function said(yaml: string): string {
  try {
    const { settings, warnings } = load(yaml);
    return JSON.stringify([settings, warnings]);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
}
