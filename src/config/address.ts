/** Where to listen, or whom to connect to. */
export type Address =
  /** `host` is empty for "all interfaces". IPv6 addresses stand without brackets. Port 0: any free one. */
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  /** A Unix socket; `path` is absolute. */
  | { readonly kind: "unix"; readonly path: string };

const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?\.?)$/;
const IPV6 = /^[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?$/;
/** What fits into the kernel's socket address on every system. */
const UNIX_PATH_BYTES_MAX = 103;

/** Reads an address as Go writes it: `:9201`, `host:9201`, `[::1]:9201`, `unix:///path`. Undefined if it is none. */
export function parseAddress(text: string): Address | undefined {
  if (text.startsWith("unix:")) return parseUnixAddress(text);
  const [, bracketed, plain, digits = ""] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === "" || port > 65_535) return undefined;
  if (bracketed !== undefined) {
    return IPV6.test(bracketed) && bracketed.includes(":")
      ? { kind: "tcp", host: bracketed, port }
      : undefined;
  }
  if (plain === undefined || plain.length > 253) return undefined;
  return plain === "" || HOST.test(plain) ? { kind: "tcp", host: plain, port } : undefined;
}

function parseUnixAddress(text: string): Address | undefined {
  const path = text.slice("unix://".length);
  const usable =
    text.startsWith("unix:///") && path.length > 1 && !path.endsWith("/") && !path.includes("\0");
  return usable && Buffer.byteLength(path) <= UNIX_PATH_BYTES_MAX ? { kind: "unix", path } : undefined;
}

/** The way `parseAddress` reads it. */
export function formatAddress(address: Address): string {
  if (address.kind === "unix") return `unix://${address.path}`;
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}
