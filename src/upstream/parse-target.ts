import type { Target } from "./http-post.ts";
import { UpstreamError } from "./upstream-error.ts";

/**
 * Where a URL points to: `http://`, `https://` or `unix:///path`. In the first two there may be a path that goes
 * before those of the RPCs, and credentials for basic authentication. Throws an UpstreamError for any other.
 */
export function parseTarget(url: string): Target {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol === "unix:" && parsed.host === "" && parsed.pathname.startsWith("/")) {
    return { secure: false, at: { socketPath: decode(parsed.pathname) }, prefix: "" };
  }
  if ((parsed?.protocol === "http:" || parsed?.protocol === "https:") && parsed.hostname !== "") {
    return {
      secure: parsed.protocol === "https:",
      at: toHost(parsed),
      prefix: parsed.pathname.replace(/\/+$/, ""),
    };
  }
  throw cannotUse(parsed === undefined ? "no URL" : parsed.protocol);
}

/** The target as people know it, without credentials. */
export function describeTarget({ secure, at, prefix }: Target): string {
  if ("socketPath" in at) return `unix://${at.socketPath}`;
  const host = at.hostname.includes(":") ? `[${at.hostname}]` : at.hostname;
  const port = at.port === undefined ? "" : `:${at.port}`;
  return `${secure ? "https" : "http"}://${host}${port}${prefix}`;
}

function toHost({ hostname, port, username, password }: URL): Target["at"] {
  return {
    // URLs put IPv6 addresses in brackets; sockets do not want them.
    hostname: hostname.replace(/^\[(.*)\]$/, "$1"),
    ...(port === "" ? {} : { port: Number(port) }),
    ...(username === "" && password === "" ? {} : { auth: `${decode(username)}:${decode(password)}` }),
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw cannotUse("a % that encodes nothing");
  }
}

/** Names what is wrong and not the whole URL: there may be a password in it. */
function cannotUse(got: string): UpstreamError {
  const message = `Cannot use the upstream's URL: must be http://…, https://… or unix:///…, got ${got}`;
  return new UpstreamError("url", message);
}
