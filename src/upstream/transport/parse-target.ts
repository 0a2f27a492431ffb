import { UpstreamError } from "../upstream-error.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";

/** Where to reach an upstream, and how to speak to it. */
export interface Target {
  /** Without credentials: for people. */
  readonly name: string;
  readonly protocol: "connect" | "grpc";
  /** Over TLS. */
  readonly secure: boolean;
  readonly at: { readonly host: string; readonly port: number } | { readonly path: string };
  /** What the upstream is told that it is called. */
  readonly authority: string;
  /** Before the path of each RPC; without a slash at its end. */
  readonly prefix: string;
  /** What the URL has of them, as basic authentication wants it. A secret. */
  readonly credentials: string | undefined;
}

type Way = Pick<Target, "protocol" | "secure">;

const OVER_TCP: Readonly<Record<string, Way>> = {
  "http:": { protocol: "connect", secure: false },
  "https:": { protocol: "connect", secure: true },
  "grpc:": { protocol: "grpc", secure: false },
  "grpcs:": { protocol: "grpc", secure: true },
};

const OVER_UNIX_SOCKET: Readonly<Record<string, Way>> = {
  "unix:": { protocol: "connect", secure: false },
  "grpc+unix:": { protocol: "grpc", secure: false },
};

/**
 * Where an upstream's URL points to. Where it names a host there may be a path, that goes before those of the RPCs,
 * and credentials for basic authentication. Throws an UpstreamError for a URL that is none of these.
 */
export function parseTarget({ name, url }: Pick<UpstreamSettings, "name" | "url">): Target {
  const scheme = URL.canParse(url) ? new URL(url).protocol : undefined;
  if (scheme === undefined) throw cannotUse(name, "no URL");
  const target =
    fromSocketUrl(url, OVER_UNIX_SOCKET[scheme], name) ?? fromHostUrl(url, OVER_TCP[scheme], name);
  if (target === undefined) throw cannotUse(name, scheme);
  return target;
}

function fromSocketUrl(url: string, way: Way | undefined, upstream: string): Target | undefined {
  const { protocol, host, pathname } = new URL(url);
  if (way === undefined || host !== "" || !pathname.startsWith("/")) return undefined;
  const path = decode(pathname, upstream);
  return {
    ...way,
    name: `${protocol}//${path}`,
    at: { path },
    authority: "localhost",
    prefix: "",
    credentials: undefined,
  };
}

function fromHostUrl(url: string, way: Way | undefined, upstream: string): Target | undefined {
  // The URL standard forgives more than it should: `http:host` is one.
  if (way === undefined || !/^[a-z]+:\/\/[^/]/i.test(url)) return undefined;
  const { protocol } = new URL(url);
  // Of schemes it does not know it checks neither host nor port.
  const asHttp = url.replace(/^grpc/i, "http");
  if (!URL.canParse(asHttp)) return undefined;
  const { hostname, host, port, pathname, username, password } = new URL(asHttp);
  const prefix = pathname.replace(/\/+$/, "");
  return {
    ...way,
    name: `${protocol}//${host}${prefix}`,
    // URLs put IPv6 addresses in brackets; sockets do not want them.
    at: { host: hostname.replace(/^\[(.*)\]$/, "$1"), port: Number(port) || (way.secure ? 443 : 80) },
    authority: host,
    prefix,
    credentials:
      username === "" && password === ""
        ? undefined
        : `${decode(username, upstream)}:${decode(password, upstream)}`,
  };
}

function decode(text: string, upstream: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw cannotUse(upstream, "a % that encodes nothing");
  }
}

/** Names what is wrong and not the whole URL: there may be a password in it. */
function cannotUse(upstream: string, got: string): UpstreamError {
  const expected = "http://…, https://…, grpc://…, grpcs://…, unix:///… or exec:…";
  return new UpstreamError("url", `Cannot use upstream ${upstream}: url must be ${expected}, got ${got}`);
}
