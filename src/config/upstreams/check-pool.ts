import { type EvaluatorUrl, hasTls, parseEvaluatorUrl } from "../evaluator-url.ts";
import type { PlacedFields } from "./read-fields.ts";

/** One entry of `upstreams.servers`, as far as it could be read. */
export interface WrittenServer {
  /** `upstreams.servers[0]`. */
  readonly place: string;
  /** The same, with file and line. */
  readonly source: string;
  /** What it sets itself. */
  readonly own: PlacedFields;
  /** With what it has from the defaults. */
  readonly inForce: PlacedFields;
}

/** Which of `auth` belong to a method; all of them are needed. */
const AUTH_FIELDS: Readonly<Record<string, readonly string[]>> = {
  none: [],
  "api-key": ["auth.key"],
  bearer: ["auth.token"],
  basic: ["auth.username", "auth.password"],
  mtls: ["auth.cert_file", "auth.key_file"],
  custom: ["auth.headers"],
};

/** Settings of the pool as a whole that exclude each other. */
export function checkPool(pool: PlacedFields): readonly string[] {
  return [
    ...checkOrder(pool, "score.min", "score.initial"),
    ...checkOrder(pool, "score.initial", "score.max"),
    ...checkOrder(pool, "health_check.timeout", "health_check.interval"),
  ];
}

/** Settings of `upstreams.defaults` that exclude each other, whichever server has them. */
export function checkDefaults(defaults: PlacedFields): readonly string[] {
  return [...checkAuthFields(defaults), ...checkRateLimitWord(defaults), ...checkHeaders(defaults)];
}

/** Settings of one server that exclude or need each other, and what its URL has no use for. */
export function checkServer({ source, own, inForce }: WrittenServer): readonly string[] {
  const problems = [
    ...checkAuthFields(own),
    ...checkRateLimitWord(own),
    ...checkOrder(inForce, "retry.initial_interval", "retry.max_interval"),
    ...checkRateLimit(inForce),
    ...checkMethod(inForce),
    ...checkHeaders(own),
  ];
  if (!own.has("url")) problems.push(`${source}: expected a url`);
  const url = urlOf(own);
  return url === undefined ? problems : [...problems, ...checkUrl(url, own, inForce)];
}

/** What servers cannot be to each other. */
export function checkServers(servers: readonly WrittenServer[]): readonly string[] {
  const problems: string[] = [];
  const placeOf = new Map<string, string>();
  for (const server of servers) {
    const name = nameOf(server);
    if (name === undefined) continue;
    const other = placeOf.get(name);
    const from = server.own.has("name") ? sourceOf(server.own, "name") : sourceOf(server.own, "url");
    if (other === undefined) placeOf.set(name, server.place);
    else problems.push(`${from}: "${name}" is the name of ${other} already: give each a name of its own`);
  }
  const known = servers.filter(({ inForce }) => /^pbflag/.test(wordAt(inForce, "kind") ?? ""));
  const [first] = known;
  const mixed = known.find(
    ({ inForce }) => first !== undefined && wordAt(inForce, "kind") !== wordAt(first.inForce, "kind"),
  );
  if (first !== undefined && mixed !== undefined) {
    problems.push(
      `${sourceOf(mixed.inForce, "kind")}: a pool is all of one kind: ${mixed.place} is ${wordAt(mixed.inForce, "kind")}, ${first.place} is ${wordAt(first.inForce, "kind")}`,
    );
  }
  return problems;
}

/** The name of a server, its own or its URL's. Undefined: what should name it cannot be used. */
export function nameOf({ own }: WrittenServer): string | undefined {
  return own.has("name") ? wordAt(own, "name") : urlOf(own)?.name;
}

/** What a server's URL says. Undefined: there is none, or it cannot be used. */
export function urlOf(fields: PlacedFields): EvaluatorUrl | undefined {
  const url = wordAt(fields, "url");
  return url === undefined ? undefined : parseEvaluatorUrl(url);
}

function checkUrl(url: EvaluatorUrl, own: PlacedFields, inForce: PlacedFields): readonly string[] {
  const problems: string[] = [];
  const written = (group: string) => [...own].filter(([key]) => key.startsWith(`${group}.`));
  const method = wordAt(inForce, "auth.method") ?? "none";
  if (url.scheme !== "exec") {
    for (const [, { source }] of written("exec")) {
      problems.push(`${source}: the URL names no program, expected exec:`);
    }
  } else if (method !== "none") {
    problems.push(`${sourceOf(own, "auth.method")}: a program that pbflagd runs itself needs no auth`);
  }
  if (!hasTls(url)) {
    for (const [, { source }] of written("tls")) {
      problems.push(`${source}: the URL is without TLS, expected https: or grpcs:`);
    }
    if (method === "mtls" && url.scheme !== "exec") {
      problems.push(
        `${sourceOf(inForce, "auth.method")}: mtls needs TLS, and ${sourceOf(own, "url")} is without, expected https: or grpcs:`,
      );
    }
  }
  if (url.credentials && method !== "none" && method !== "mtls") {
    problems.push(
      `${sourceOf(own, "url")}: has credentials in it, and ${sourceOf(inForce, "auth.method")} says otherwise: use one of them`,
    );
  }
  return problems;
}

/** What belongs to another method would seem to be in force, and is not. */
function checkAuthFields(fields: PlacedFields): readonly string[] {
  const written = [...fields].filter(([key]) => key.startsWith("auth.") && key !== "auth.method");
  const method = fields.has("auth.method") ? wordAt(fields, "auth.method") : "none";
  if (method === undefined) return [];
  return written
    .filter(([key]) => !AUTH_FIELDS[method]?.includes(key))
    .map(([key, { source }]) => {
      const owner = Object.keys(AUTH_FIELDS).find((name) => AUTH_FIELDS[name]?.includes(key));
      return `${source}: belongs to the method ${owner}, and auth.method is ${method}`;
    });
}

function checkMethod(inForce: PlacedFields): readonly string[] {
  const method = wordAt(inForce, "auth.method") ?? "none";
  const missing = (AUTH_FIELDS[method] ?? []).filter((key) => sourceOf(inForce, key) === "default");
  return missing.map((key) => `${sourceOf(inForce, "auth.method")}: ${method} needs ${key}`);
}

function checkHeaders(own: PlacedFields): readonly string[] {
  const headers = own.get("auth.headers");
  if (typeof headers?.value !== "object" || headers.value === null) return [];
  const names = Object.keys(headers.value).map((name) => name.toLowerCase());
  if (names.length === 0) return [`${headers.source}: expected at least one header`];
  return new Set(names).size === names.length ? [] : [`${headers.source}: names one header twice`];
}

function checkRateLimitWord(fields: PlacedFields): readonly string[] {
  const below = [...fields].find(([key]) => key.startsWith("rate_limit."));
  if (below === undefined || !fields.has("rate_limit")) return [];
  return [`${sourceOf(fields, "rate_limit")}: off, and ${below[1].source} is set`];
}

function checkRateLimit(inForce: PlacedFields): readonly string[] {
  const burst = sourceOf(inForce, "rate_limit.burst_size");
  return burst === "default" || sourceOf(inForce, "rate_limit.requests_per_second") !== "default"
    ? []
    : [`${burst}: needs rate_limit.requests_per_second`];
}

/** Two numbers of which the second must not be less. */
function checkOrder(fields: PlacedFields, lowKey: string, highKey: string): readonly string[] {
  const [low, high] = [fields.get(lowKey), fields.get(highKey)];
  if (typeof low?.value !== "number" || typeof high?.value !== "number" || low.value <= high.value) {
    return [];
  }
  const name = (source: string, key: string) => (source === "default" ? key : source);
  return [
    low.source === "default"
      ? `${high.source}: ${high.shown} is less than ${lowKey}, ${low.shown}`
      : `${low.source}: ${low.shown} is more than ${name(high.source, highKey)}, ${high.shown}`,
  ];
}

function wordAt(fields: PlacedFields, key: string): string | undefined {
  const value = fields.get(key)?.value;
  return typeof value === "string" ? value : undefined;
}

function sourceOf(fields: PlacedFields, key: string): string {
  return fields.get(key)?.source ?? "default";
}
