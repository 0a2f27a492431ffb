/** Where an upstream is, as its URL says. */
export type UpstreamUrl =
  | {
      readonly kind: "host";
      readonly scheme: keyof typeof OVER_TCP;
      /** Of an IPv6 address without brackets. */
      readonly host: string;
      readonly port: number;
      /** Both as they are written, the port only where it is not the scheme's. */
      readonly authority: string;
      /** The path, without a slash at its end. */
      readonly prefix: string;
      /** As basic authentication wants them. A secret. */
      readonly credentials: string | undefined;
    }
  | { readonly kind: "socket"; readonly scheme: keyof typeof OVER_UNIX_SOCKET; readonly path: string }
  /** Its path, or a name to look up. */
  | { readonly kind: "program"; readonly program: string }
  /** `got`: what is wrong, for people, and not the whole text: there may be a password in it. */
  | { readonly kind: "unusable"; readonly got: string };

/** How to speak to an upstream. */
export interface Way {
  readonly protocol: "connect" | "grpc";
  /** Over TLS. */
  readonly secure: boolean;
}

export const OVER_TCP = {
  http: { protocol: "connect", secure: false },
  https: { protocol: "connect", secure: true },
  grpc: { protocol: "grpc", secure: false },
  grpcs: { protocol: "grpc", secure: true },
} as const satisfies Readonly<Record<string, Way>>;

/** `grpc+unix` is what a program announces that pbflagd runs; operators do not write it. */
export const OVER_UNIX_SOCKET = {
  unix: { protocol: "connect", secure: false },
  "grpc+unix": { protocol: "grpc", secure: false },
} as const satisfies Readonly<Record<string, Way>>;

/** What the kernel takes as the path of a Unix socket, on every system: Linux would take four bytes more. */
export const SOCKET_PATH_BYTES_MAX = 103;
const CHARACTERS_MAX = 4_096;

/**
 * Reads `http://`, `https://`, `grpc://` or `grpcs://` with host, port, path and credentials, `unix://` or `grpc+unix://`
 * with an absolute path, which is taken as it is, or `exec:` with a program.
 */
export function parseUpstreamUrl(text: string): UpstreamUrl {
  if (text.length > CHARACTERS_MAX) return unusable(`more than ${CHARACTERS_MAX} characters`);
  if (/\p{Cc}/u.test(text)) return unusable("one with a control character");
  const [, scheme = "", rest = ""] = /^([a-z+]+):(.*)$/s.exec(text) ?? [];
  if (scheme === "exec" && /[^/]$/.test(rest)) return { kind: "program", program: rest };
  if (isIn(OVER_UNIX_SOCKET, scheme)) return parseSocket(scheme, rest);
  if (isIn(OVER_TCP, scheme)) return parseHost(scheme, rest);
  return unusable(/^[a-z][a-z0-9+.-]*:/i.exec(text)?.[0] ?? "no URL");
}

function parseSocket(scheme: keyof typeof OVER_UNIX_SOCKET, rest: string): UpstreamUrl {
  const [, path] = /^\/\/(\/.*[^/])$/.exec(rest) ?? [];
  if (path === undefined) return unusable(`${scheme}:`);
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX)
    return unusable(`a path of more than ${SOCKET_PATH_BYTES_MAX} bytes`);
  return { kind: "socket", scheme, path };
}

function parseHost(scheme: keyof typeof OVER_TCP, rest: string): UpstreamUrl {
  const { secure } = OVER_TCP[scheme];
  // Of schemes it does not know, the URL standard checks neither host nor port; of others it forgives too much.
  const asHttp = `${secure ? "https" : "http"}:${rest}`;
  if (!/^\/\/[^\s?#/][^\s?#]*$/.test(rest) || !URL.canParse(asHttp)) return unusable(`${scheme}:`);
  const { hostname, host, port, pathname, username, password } = new URL(asHttp);
  if (port === "0") return unusable("port 0");
  const [user, secret] = [decode(username), decode(password)];
  if (user === undefined || secret === undefined) return unusable("a % that encodes nothing");
  return {
    kind: "host",
    scheme,
    // URLs put IPv6 addresses in brackets; sockets do not want them.
    host: hostname.replace(/^\[(.*)\]$/, "$1"),
    port: Number(port) || (secure ? 443 : 80),
    authority: host,
    prefix: pathname.replace(/\/+$/, ""),
    credentials: username === "" && password === "" ? undefined : `${user}:${secret}`,
  };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function isIn<T extends object>(schemes: T, scheme: string): scheme is Extract<keyof T, string> {
  return Object.hasOwn(schemes, scheme);
}

function unusable(got: string): UpstreamUrl {
  return { kind: "unusable", got };
}
