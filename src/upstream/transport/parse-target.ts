import { UpstreamError } from "../upstream-error.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";
import { OVER_TCP, OVER_UNIX_SOCKET, parseUpstreamUrl, type Way } from "./parse-upstream-url.ts";

/** Where to reach an upstream, and how to speak to it. */
export interface Target extends Way {
  /** Without credentials: for people. */
  readonly name: string;
  readonly at: { readonly host: string; readonly port: number } | { readonly path: string };
  /** What the upstream is told that it is called. */
  readonly authority: string;
  /** Before the path of each RPC; without a slash at its end. */
  readonly prefix: string;
  /** What the URL has of them, as basic authentication wants it. A secret. */
  readonly credentials: string | undefined;
}

/**
 * Where an upstream's URL points to. Where it names a host there may be a path, that goes before those of the RPCs,
 * and credentials for basic authentication. Throws an UpstreamError for a URL that cannot be called.
 */
export function parseTarget({ name, url }: Pick<UpstreamSettings, "name" | "url">): Target {
  const parsed = parseUpstreamUrl(url);
  if (parsed.kind === "unusable") throw cannotUse(name, parsed.got);
  if (parsed.kind === "program") throw cannotUse(name, "exec:");
  if (parsed.kind === "socket") {
    const { scheme, path } = parsed;
    return {
      ...OVER_UNIX_SOCKET[scheme],
      name: `${scheme}://${path}`,
      at: { path },
      authority: "localhost",
      prefix: "",
      credentials: undefined,
    };
  }
  const { scheme, host, port, authority, prefix, credentials } = parsed;
  const at = { host, port };
  return {
    ...OVER_TCP[scheme],
    name: `${scheme}://${authority}${prefix}`,
    at,
    authority,
    prefix,
    credentials,
  };
}

function cannotUse(upstream: string, got: string): UpstreamError {
  const expected = "http://…, https://…, grpc://…, grpcs://…, unix:///… or exec:…";
  return new UpstreamError("url", `Cannot use upstream ${upstream}: url must be ${expected}, got ${got}`);
}
