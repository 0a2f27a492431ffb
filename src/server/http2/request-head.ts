import type { HeaderFields } from "./hpack/hpack-decoder.ts";

/** What a request begins with. */
export interface RequestHead {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** By name in lower case. Several values of one name are one text, with commas between them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Of the body, where it is said. */
  readonly bodyBytes: number | undefined;
}

/** In lower case, else it is malformed (RFC 9113, section 8.2). */
const NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
/** Visible bytes, with spaces and tabs between them. */
const VALUE = /^(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?$/;
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const PATH = /^(?:\/[!-~\x80-\xff]*|\*)$/;
const LENGTH = /^\d{1,15}$/;
const PSEUDO: ReadonlySet<string> = new Set([":method", ":scheme", ":authority", ":path"]);
/** They say something of a connection, which in HTTP/2 has frames for that (section 8.2.2). */
const OF_CONNECTIONS: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** Undefined for what is malformed (RFC 9113, section 8.3.1): it is not to be answered. */
export function readRequestHead(fields: HeaderFields): RequestHead | undefined {
  const pseudo: Record<string, string> = Object.create(null);
  const headers: Record<string, string> = Object.create(null);
  let isPastPseudo = false;
  for (let i = 0; i < fields.length; i += 2) {
    const [name = "", value = ""] = [fields[i], fields[i + 1]];
    if (!VALUE.test(value)) return undefined;
    if (name.startsWith(":")) {
      if (isPastPseudo || !PSEUDO.has(name) || pseudo[name] !== undefined) return undefined;
      pseudo[name] = value;
      continue;
    }
    isPastPseudo = true;
    if (!addHeader(headers, name, value)) return undefined;
  }
  const { ":method": method = "", ":scheme": scheme = "", ":path": path = "" } = pseudo;
  const { "content-length": length } = headers;
  const isWhole = TOKEN.test(method) && scheme !== "" && PATH.test(path);
  if (!isWhole || (length !== undefined && !LENGTH.test(length))) return undefined;
  return { method, path, headers, bodyBytes: length === undefined ? undefined : Number(length) };
}

/** False: it must not stand there. */
function addHeader(headers: Record<string, string>, name: string, value: string): boolean {
  if (!NAME.test(name) || OF_CONNECTIONS.has(name)) return false;
  if (name === "te" && value !== "trailers") return false;
  const before = headers[name];
  headers[name] = before === undefined ? value : `${before}${name === "cookie" ? "; " : ", "}${value}`;
  return true;
}
