import { basename } from "node:path";
import { parseAddress } from "./address.ts";

/** What the URL of another evaluator says about it. Holds no credentials. */
export interface EvaluatorUrl {
  readonly scheme: "http" | "https" | "grpc" | "grpcs" | "unix" | "exec";
  /** For people: host and port as written, or the base name of a program or socket. */
  readonly name: string;
  /** Whether there is a user or a password in it. */
  readonly credentials: boolean;
}

const TEXT_LENGTH_MAX = 4_096;

/**
 * Reads `http://`, `https://`, `grpc://` or `grpcs://` with host, port, path and credentials, `unix:///path`, or `exec:`
 * and a program: its path, or a name to look up. Undefined if the text is none of these.
 */
export function parseEvaluatorUrl(text: string): EvaluatorUrl | undefined {
  if (text.length > TEXT_LENGTH_MAX || /\p{Cc}/u.test(text)) return undefined;
  if (text.startsWith("exec:")) return parseProgram(text.slice("exec:".length));
  if (!text.startsWith("unix:")) return parseRemote(text);
  const address = parseAddress(text);
  return address?.kind === "unix"
    ? { scheme: "unix", name: toName(basename(address.path)), credentials: false }
    : undefined;
}

/** Whether what is said to this evaluator is encrypted. */
export function hasTls({ scheme }: EvaluatorUrl): boolean {
  return scheme === "https" || scheme === "grpcs";
}

function parseProgram(program: string): EvaluatorUrl | undefined {
  return /[^/]$/.test(program)
    ? { scheme: "exec", name: toName(basename(program)), credentials: false }
    : undefined;
}

function parseRemote(text: string): EvaluatorUrl | undefined {
  const [, scheme] = /^(http|https|grpc|grpcs):\/\/[^\s?#/][^\s?#]*$/.exec(text) ?? [];
  if (scheme === undefined || !isRemote(scheme)) return undefined;
  // Of schemes it does not know, the URL standard checks neither host nor port.
  const asHttp = text.replace(/^grpc/, "http");
  if (!URL.canParse(asHttp)) return undefined;
  const { host, username, password } = new URL(asHttp);
  if (host === "" || !isEncoded(`${username}:${password}`)) return undefined;
  return { scheme, name: host, credentials: username !== "" || password !== "" };
}

function isRemote(scheme: string): scheme is "http" | "https" | "grpc" | "grpcs" {
  return /^(?:http|grpc)s?$/.test(scheme);
}

function isEncoded(text: string): boolean {
  try {
    return decodeURIComponent(text) !== "";
  } catch {
    return false;
  }
}

/** Without what would stand out in a metric or a file name. */
function toName(base: string): string {
  return base.replaceAll(/[^A-Za-z0-9._-]/g, "_");
}
