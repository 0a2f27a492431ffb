import { basename } from "node:path";
import { parseUpstreamUrl } from "../upstream/transport/parse-upstream-url.ts";

/** What the URL of another evaluator says about it. Holds no credentials. */
export interface EvaluatorUrl {
  readonly scheme: "http" | "https" | "grpc" | "grpcs" | "unix" | "exec";
  /** For people: host and port as written, or the base name of a program or socket. */
  readonly name: string;
  /** Whether there is a user or a password in it. */
  readonly credentials: boolean;
}

/**
 * Reads what an operator may write of the URLs that upstreams can have. Undefined if the text is none of these, or the
 * `grpc+unix://` that only programs announce.
 */
export function parseEvaluatorUrl(text: string): EvaluatorUrl | undefined {
  const url = parseUpstreamUrl(text);
  if (url.kind === "host")
    return { scheme: url.scheme, name: url.authority, credentials: url.credentials !== undefined };
  if (url.kind === "program")
    return { scheme: "exec", name: toName(basename(url.program)), credentials: false };
  return url.kind === "socket" && url.scheme === "unix"
    ? { scheme: "unix", name: toName(basename(url.path)), credentials: false }
    : undefined;
}

/** Whether what is said to this evaluator is encrypted. */
export function hasTls({ scheme }: EvaluatorUrl): boolean {
  return scheme === "https" || scheme === "grpcs";
}

/** Without what would stand out in a metric or a file name. */
function toName(base: string): string {
  return base.replaceAll(/[^A-Za-z0-9._-]/g, "_");
}
