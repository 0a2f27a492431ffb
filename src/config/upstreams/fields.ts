import { isReservedHeader } from "../../upstream/transport/auth-headers.ts";
import {
  choice,
  count,
  decimal,
  duration,
  evaluatorUrl,
  integer,
  type Kind,
  matching,
  orZero,
  path,
  percent,
} from "../option.ts";

/** One setting of a pool of upstreams: how to read it, what it is if nobody set it, and what to tell the operator. */
export interface Field<T = unknown> extends Described {
  readonly shape: "value";
  readonly kind: Kind<T, string>;
}

/** A list of values. */
export interface ListField extends Described {
  readonly shape: "list";
  readonly kind: Kind<string, string>;
}

/** Values under names of the operator's own. */
export interface NamesField extends Described {
  readonly shape: "names";
  readonly kind: Kind<string, string>;
  readonly names: Kind<string, string>;
}

export type AnyField = Field | ListField | NamesField;

interface Described {
  /** As an operator would write it. Undefined: unset. */
  readonly fallback: string | undefined;
  /** One sentence for the operator. */
  readonly doc: string;
  /** What the example shows where there is no default. */
  readonly example: string | undefined;
  /** Never shown. */
  readonly secret: boolean;
}

const DAY = "24h";

const requestText = matching(
  /^[\x21-\x7e]{1,4096}$/,
  "a text of 1 to 4096 printable ASCII characters, without spaces",
);
const headerText = matching(
  /^[\x21-\x7e](?:[\x20-\x7e]{0,4094}[\x21-\x7e])?$/,
  "a text of 1 to 4096 printable ASCII characters",
);
const anyHeaderName = matching(
  /^[a-z0-9!#$%&'*+.^_`|~-]{1,100}$/i,
  "the name of a header that pbflagd does not set itself",
);
const headerName: Kind<string> = {
  ...anyHeaderName,
  parse: (given) => (isReservedHeader(given.toLowerCase()) ? undefined : anyHeaderName.parse(given)),
};
const variableName = matching(
  /^(?!PBFLAGD_PLUGIN_)[A-Za-z_][A-Za-z0-9_]{0,99}$/,
  "the name of a variable that pbflagd does not set itself",
);
const processText = matching(/^[^\0]{0,4096}$/, "a text of at most 4096 characters");
const upstreamName = matching(
  /^[A-Za-z0-9[][A-Za-z0-9.:_\]-]{0,99}$/,
  'a name of 1 to 100 letters, digits and ".", "_", "-", ":"',
);

/** Settings of the pool as a whole, by key below `upstreams`. */
export const poolFields = {
  strategy: required(
    choice([
      "round-robin",
      "random",
      "least-connections",
      "least-latency",
      "weighted-random",
      "consistent-hash",
      "priority",
    ]),
    "round-robin",
    "How one is chosen among the upstreams that are usable. `consistent-hash` goes by entity, `priority` is ordered failover.",
  ),
  reload_strategy: required(
    choice(["graceful", "recreate", "rolling"]),
    "graceful",
    "How a reload replaces upstreams. `graceful`: new ones take over, old ones finish, for at most `drain_timeout`. `recreate`: old ones are closed first. `rolling`: one at a time, each healthy before the next.",
  ),
  "health_check.interval": required(
    duration({ min: "10ms", max: "1h" }),
    "1s",
    "Interval between two health checks of an upstream.",
  ),
  "health_check.timeout": required(
    duration({ min: "1ms", max: "1m" }),
    "100ms",
    "Longest wait for one health check. Not above the interval.",
  ),
  "health_check.jitter_percent": required(percent, "20", "Spread of the interval, to either side."),
  "score.initial": required(
    integer({ min: "-1000", max: "1000" }),
    "1",
    "Score of a new upstream. One with a score of 0 or more is usable.",
  ),
  "score.min": required(integer({ min: "-1000", max: "-1" }), "-3", "Lowest score."),
  "score.max": required(integer({ min: "0", max: "1000" }), "3", "Highest score."),
  "score.success": required(
    integer({ min: "1", max: "1000" }),
    "1",
    "Added to the score for a call or check that succeeded.",
  ),
  "score.failure": required(
    integer({ min: "-1000", max: "-1" }),
    "-1",
    "Added to the score for a call or check that failed.",
  ),
};

/** Settings of one upstream, by key below `upstreams.servers[…]`; all but `name` and `url` also below `upstreams.defaults`. */
export const serverFields = {
  name: optional(
    upstreamName,
    "For people, metrics and commands; no two servers have the same. Unset: host and port of the URL, or the base name of its program or socket.",
    { example: "a" },
  ),
  url: optional(
    evaluatorUrl,
    "http and https (Connect), grpc and grpcs (gRPC), `unix:///path` (Connect over a socket), `exec:/path` (a program to run). Required.",
    { example: "http://pbflagd-a:9201" },
  ),
  kind: required(
    choice(["auto", "pbflagd", "pbflags"]),
    "auto",
    "What the upstream is; `auto` asks it. A pool is all of one kind.",
  ),
  priority: required(
    integer({ min: "-1000", max: "1000" }),
    "0",
    "For the strategy `priority`: the highest goes first.",
  ),
  weight: required(
    decimal({ min: "0.01", max: "1000" }),
    "1",
    "For `weighted-random` and `consistent-hash`: its share, compared to the others'.",
  ),
  "auth.method": required(
    choice(["none", "api-key", "bearer", "basic", "mtls", "custom"]),
    "none",
    "How to tell the upstream who is asking. A server that sets any of `auth` has none of the defaults'.",
  ),
  "auth.key": secret(requestText, "For `api-key`: sent as `X-API-Key`.", "${A_KEY}"),
  "auth.token": secret(requestText, "For `bearer`.", "${A_TOKEN}"),
  "auth.username": secret(
    matching(/^[^\p{Cc}:]{1,1000}$/u, "a user name without colons"),
    "For `basic`.",
    "pbflagd",
  ),
  "auth.password": secret(
    matching(/^[^\p{Cc}]{1,1000}$/u, "a password of 1 to 1000 printable characters"),
    "For `basic`.",
    "${A_PASSWORD}",
  ),
  "auth.cert_file": secret(path, "For `mtls`: PEM file with our certificate.", "/etc/pbflagd/client.pem"),
  "auth.key_file": secret(path, "For `mtls`: PEM file with its key.", "/etc/pbflagd/client.key"),
  "auth.headers": secretsByName(headerName, headerText, {
    doc: "For `custom`: headers to send.",
    example: '{X-Token: "${A_TOKEN}"}',
  }),
  "tls.ca_file": optional(
    path,
    "PEM file with the authorities to trust. Unset: those that the machine trusts.",
    { example: "/etc/pbflagd/ca.pem" },
  ),
  "tls.server_name": optional(
    matching(/^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$/, "a host name"),
    "Name that the certificate has to be for. Unset: the URL's host.",
    { example: "pbflagd.internal" },
  ),
  "retry.max_retries": required(
    count({ min: "0", max: "10" }),
    "1",
    "Further tries after the first, elsewhere if possible.",
  ),
  "retry.try_timeout": optional(
    duration({ min: "1ms", max: "1m" }),
    "Longest wait for one try. Unset: half of `cache.fetch_timeout`.",
    { example: "250ms" },
  ),
  "retry.initial_interval": required(
    duration({ min: "0", max: "1m" }),
    "25ms",
    "Wait before the first retry. Not above `max_interval`.",
  ),
  "retry.max_interval": required(duration({ min: "0", max: "1m" }), "100ms", "Longest wait before a retry."),
  "retry.multiplier": required(
    decimal({ min: "1", max: "100" }),
    "2",
    "How much longer each wait is than the one before.",
  ),
  "retry.jitter_percent": required(percent, "10", "Spread of the waits, to either side."),
  "retry.budget_percent": required(percent, "10", "Most retries, as a share of all calls."),
  "breaker.failures_max": required(
    count({ min: "1", max: "1000" }),
    "5",
    "Failures in a row that open the circuit: then the upstream is not called.",
  ),
  "breaker.calls_min": required(
    count({ min: "1", max: "1000" }),
    "3",
    "Calls that have to have ended before it may open.",
  ),
  "breaker.open": required(
    duration({ min: "10ms", max: "1h" }),
    "30s",
    "How long it stays open before a trial call.",
  ),
  "breaker.successes_to_close": required(
    count({ min: "1", max: "1000" }),
    "2",
    "Trial calls in a row that have to succeed before it closes.",
  ),
  rate_limit: required(
    { ...choice(["off"]), expects: '"off", or requests_per_second and burst_size below it' },
    "off",
    "`off`, or the two settings below it. Calls beyond the limit go to another upstream.",
  ),
  "rate_limit.requests_per_second": optional(
    decimal({ min: "0.01", max: "1000000" }),
    "Calls that may be made for long.",
    { example: "100" },
  ),
  "rate_limit.burst_size": optional(
    count({ min: "1", max: "1000000" }),
    "Calls that may be made at once. Unset: those of one second.",
    { example: "200" },
  ),
  "connection.connections_max": required(
    count({ min: "1", max: "10000" }),
    "64",
    "Most connections; further calls wait for one. gRPC needs one only.",
  ),
  "connection.idle_timeout": required(
    duration({ min: "100ms", max: DAY }),
    "5m",
    "How long a connection may lie idle.",
  ),
  "connection.connect_timeout": required(
    duration({ min: "1ms", max: "1m" }),
    "250ms",
    "Longest wait for a connection, with TLS its handshake included.",
  ),
  "connection.request_timeout": required(
    duration({ min: "1ms", max: "10m" }),
    "10s",
    "Longest wait for an answer, where the caller allows more.",
  ),
  "connection.keep_alive": required(
    orZero(duration({ min: "1s", max: DAY })),
    "30s",
    "Interval of keep-alive probes, in HTTP/2 of pings while a call is open. 0: none.",
  ),
  "connection.compression": required(choice(["none", "gzip"]), "none", "Of what the upstream answers."),
  "exec.args": list(processText, {
    doc: "For `exec:`: arguments of the program.",
    example: '["--flags", "/etc/pbflagd/flags.yaml"]',
  }),
  "exec.env": secretsByName(variableName, processText, {
    doc: "For `exec:`: variables for the program. Beside them it has PATH, HOME, LANG, TZ and TMPDIR.",
    example: '{FLAGS_TOKEN: "${A_TOKEN}"}',
  }),
  "exec.start_timeout": required(
    duration({ min: "10ms", max: "10m" }),
    "5s",
    "For `exec:`: how long it may take to announce itself.",
  ),
  "exec.stop_timeout": required(
    duration({ min: "0", max: "10m" }),
    "5s",
    "For `exec:`: from SIGTERM to SIGKILL.",
  ),
};

/** `strategy` and its siblings. */
export type PoolKey = keyof typeof poolFields;
/** `retry.max_retries` and its siblings. */
export type ServerKey = keyof typeof serverFields;
/** What was read, by the key of each field. */
export type PoolValues = { readonly [K in PoolKey]: ValueOf<(typeof poolFields)[K]> };
export type ServerValues = { readonly [K in ServerKey]: ValueOf<(typeof serverFields)[K]> };

type ValueOf<F> =
  F extends Field<infer T> ? T : F extends ListField ? readonly string[] : Readonly<Record<string, string>>;

/** In the order in which people should read about them. */
export const poolEntries: readonly (readonly [key: string, field: AnyField])[] = Object.entries(poolFields);
export const serverEntries: readonly (readonly [key: string, field: AnyField])[] =
  Object.entries(serverFields);

/** What only one server can have. */
export const OWN_KEYS: ReadonlySet<string> = new Set(["name", "url"]);

function required<T>(kind: Kind<T, string>, fallback: string, doc: string): Field<T> {
  return { shape: "value", kind, fallback, doc, example: undefined, secret: false };
}

function optional<T>(
  kind: Kind<T, string>,
  doc: string,
  { example }: { readonly example: string },
): Field<T | undefined> {
  return { shape: "value", kind, fallback: undefined, doc, example, secret: false };
}

function list(kind: Kind<string>, texts: Pick<Described, "doc" | "example">): ListField {
  return { shape: "list", kind, fallback: undefined, secret: false, ...texts };
}

function secretsByName(
  names: Kind<string>,
  kind: Kind<string>,
  texts: Pick<Described, "doc" | "example">,
): NamesField {
  return { shape: "names", kind, names, fallback: undefined, secret: true, ...texts };
}

function secret<T>(kind: Kind<T, string>, doc: string, example: string): Field<T | undefined> {
  return { ...optional(kind, doc, { example }), secret: true };
}
