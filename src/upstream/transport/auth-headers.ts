import { UpstreamError } from "../upstream-error.ts";
import type { UpstreamSettings } from "../upstream-settings.ts";

/** Header names in lower case, as HTTP/2 wants them. */
export type Headers = Readonly<Record<string, string>>;

/** Those that a protocol sets, or that are about one connection. */
const RESERVED =
  /^(accept-encoding|connect-.*|connection|content-.*|expect|grpc-.*|host|http2-settings|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade)$/;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
/** Text that HTTP/1.1 and HTTP/2 carry as it is: no line ends, nothing beyond ASCII. */
const VALUE = /^[\t\x20-\x7e]+$/;

/** Whether a name, in lower case, is one of theirs and not for operators to set. */
export function isReservedHeader(name: string): boolean {
  return RESERVED.test(name);
}

type Identified = Pick<UpstreamSettings, "name" | "auth">;

/**
 * The headers that tell an upstream who is asking. `credentials`: those of its URL, for an upstream whose settings say
 * nothing of headers. Throws an UpstreamError for what no header can carry; its message shows no secret.
 */
export function authHeaders(upstream: Identified, credentials: string | undefined): Headers {
  const { name, auth } = upstream;
  switch (auth.method) {
    case "api-key":
      return { "x-api-key": checked(name, "auth.key", auth.key) };
    case "bearer":
      return { authorization: `Bearer ${checked(name, "auth.token", auth.token)}` };
    case "basic":
      if (auth.username.includes(":"))
        throw refusal(name, "auth.username", "a name without a colon", "one with it");
      return { authorization: basic(`${auth.username}:${auth.password}`) };
    case "custom":
      return Object.fromEntries(
        Object.entries(auth.headers).map(([header, text]) => customHeader(name, header.toLowerCase(), text)),
      );
    case "none":
    case "mtls":
  }
  return credentials === undefined ? {} : { authorization: basic(credentials) };
}

function customHeader(upstream: string, header: string, text: string): readonly [string, string] {
  const expected = "headers that no protocol sets itself";
  // What is no name may be a secret in the wrong place.
  if (!TOKEN.test(header)) throw refusal(upstream, "auth.headers", expected, "a name that is none");
  if (isReservedHeader(header)) throw refusal(upstream, "auth.headers", expected, header);
  return [header, checked(upstream, `auth.headers.${header}`, text)];
}

function checked(upstream: string, setting: string, text: string): string {
  if (VALUE.test(text)) return text;
  throw refusal(upstream, setting, "ASCII text on one line", text === "" ? "none" : "something else");
}

function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString("base64")}`;
}

function refusal(upstream: string, setting: string, expected: string, got: string): UpstreamError {
  const message = `Cannot use upstream ${upstream}: ${setting} must be ${expected}, got ${got}`;
  return new UpstreamError("settings", message);
}
