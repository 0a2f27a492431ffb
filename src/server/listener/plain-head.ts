/** The head of a request that leaves no doubt about where its body ends, nor about what becomes of its connection. */
export interface PlainHead {
  /** Of a POST. */
  readonly path: string;
  /** By name in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Length of the body that follows. */
  readonly bodyBytes: number;
}

const REQUEST_LINE = /^POST (\/[!-~]*) HTTP\/1\.1$/;
/**
 * A field name is a token, its value visible bytes and spaces (RFC 9110, sections 5.1 and 5.5). A value begins where the
 * spaces before it end: tried anywhere else, a line full of spaces would cost as much as a thousand calls. No tab follows
 * it: Node's parser refuses one after a length.
 */
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*(?![\t ])((?:[\t -~\x80-\xff]*[!-~\x80-\xff])?) *$/;
const BODY_BYTES = /^\d{1,7}$/;
const FIELDS_MAX = 50;
/**
 * What says that the body ends in another way, or that something has to happen between requests. To Node's parser
 * `proxy-connection` is another name of `connection`.
 */
const UNUSUAL = ["transfer-encoding", "expect", "upgrade", "trailer", "http2-settings", "proxy-connection"];

/**
 * Reads the head of a request in HTTP/1.1, a byte a character and without the empty line at its end. Undefined for
 * everything unusual, be it valid or not.
 */
export function readPlainHead(text: string): PlainHead | undefined {
  const [requestLine = "", ...lines] = text.split("\r\n");
  const path = REQUEST_LINE.exec(requestLine)?.[1];
  const headers = path === undefined || lines.length > FIELDS_MAX ? undefined : readFields(lines);
  if (path === undefined || headers === undefined) return undefined;
  const { host, connection = "keep-alive", "content-length": length = "" } = headers;
  if (host === undefined || host === "" || connection.toLowerCase() !== "keep-alive") return undefined;
  if (!BODY_BYTES.test(length) || UNUSUAL.some((name) => headers[name] !== undefined)) return undefined;
  return { path, headers, bodyBytes: Number(length) };
}

/** Each name once. */
function readFields(lines: readonly string[]): Readonly<Record<string, string>> | undefined {
  const headers: Record<string, string> = Object.create(null);
  for (const line of lines) {
    const [, name = "", value = ""] = FIELD.exec(line) ?? [];
    const key = name.toLowerCase();
    if (key === "" || headers[key] !== undefined) return undefined;
    headers[key] = value;
  }
  return headers;
}
