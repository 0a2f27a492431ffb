import { parseUpstreamUrl, SOCKET_PATH_BYTES_MAX } from "../transport/parse-upstream-url.ts";

/** What a plug-in speaks on its socket: Connect over HTTP/1.1, or gRPC over HTTP/2 without TLS. */
export type PluginProtocol = "connect" | "grpc";

/** What became of a plug-in's announcement. */
export type Announcement =
  | {
      readonly kind: "usable";
      readonly protocol: PluginProtocol;
      /** As the plug-in wrote it. */
      readonly address: string;
      /** The same as the URL of an upstream. */
      readonly url: string;
    }
  | { readonly kind: "refused"; readonly reason: string };

/** Of what a plug-in and we say to each other, beside the RPCs. */
export const PLUGIN_PROTOCOL_VERSION = "1";

const PREFIX = "pbflagd-plugin ";
/** What a plug-in wrote goes into the log: as much of it as helps. */
const SHOWN_CHARS_MAX = 200;

/** Whether a line is an announcement, right or wrong, and not something for the log. */
export function isAnnouncement(line: string): boolean {
  return line.startsWith(PREFIX);
}

/** Reads `pbflagd-plugin 1 connect unix:///path`. Addresses of other machines are refused. */
export function parseAnnouncement(line: string): Announcement {
  const [, version, protocol, address = ""] = /^pbflagd-plugin (\S+) (\S+) (.+)$/.exec(line.trimEnd()) ?? [];
  if (version === undefined) return refuse("must be a version, a protocol and an address", line);
  if (version !== PLUGIN_PROTOCOL_VERSION)
    return refuse(`the version must be ${PLUGIN_PROTOCOL_VERSION}`, line);
  if (protocol !== "connect" && protocol !== "grpc") {
    return refuse("the protocol must be connect or grpc", line);
  }
  if (address.startsWith("unix://")) return fromSocketPath(protocol, address, line);
  return fromLoopback(protocol, address, line);
}

function fromSocketPath(protocol: PluginProtocol, address: string, line: string): Announcement {
  const path = address.slice("unix://".length);
  if (!path.startsWith("/")) return refuse("the socket's path must be absolute", line);
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    return refuse(`the socket's path must have at most ${SOCKET_PATH_BYTES_MAX} bytes`, line);
  }
  const scheme = protocol === "grpc" ? "grpc+unix" : "unix";
  return toUsable({ protocol, address, url: `${scheme}://${path}` }, line);
}

function fromLoopback(protocol: PluginProtocol, address: string, line: string): Announcement {
  const [, authority, port = ""] =
    /^http:\/\/((?:127(?:\.\d{1,3}){3}|localhost|\[::1\]):(\d{1,5}))\/?$/.exec(address) ?? [];
  if (authority === undefined || Number(port) < 1 || Number(port) > 65_535) {
    return refuse("the address must be unix:///path or http://127.0.0.1:port", line);
  }
  const scheme = protocol === "grpc" ? "grpc" : "http";
  return toUsable({ protocol, address, url: `${scheme}://${authority}` }, line);
}

/** An address may look like one and be none: a folder, or numbers that are too large. */
function toUsable(
  usable: Omit<Announcement & { readonly kind: "usable" }, "kind">,
  line: string,
): Announcement {
  const isUsable = parseUpstreamUrl(usable.url).kind !== "unusable";
  return isUsable
    ? { kind: "usable", ...usable }
    : refuse("the address must be one that can be called", line);
}

function refuse(must: string, line: string): Announcement {
  const shown = line.length > SHOWN_CHARS_MAX ? `${line.slice(0, SHOWN_CHARS_MAX)}…` : line;
  return { kind: "refused", reason: `Cannot use its announcement: ${must}, got ${JSON.stringify(shown)}` };
}
