import type { IncomingHttpHeaders } from "node:http";
import type { RpcProtocol } from "../rpc/codes.ts";
import { MIN_VERSION } from "../worth.ts";
import type { Form } from "./fast-rpcs.ts";

/** How a protocol says things, of those that go the fast way. */
export interface Dialect {
  readonly protocol: RpcProtocol;
  /** By content type. */
  readonly forms: ReadonlyMap<string | undefined, Form>;
  /** The header that names how messages are compressed. */
  readonly encoding: string;
  /** The header in which a client says what it can inflate. */
  readonly accepts: string;
  readonly timeout: string;
  readonly timeoutForm: RegExp;
}

export const CONNECT: Dialect = {
  protocol: "connect",
  forms: new Map([
    ["application/proto", "proto"],
    ["application/json", "json"],
  ]),
  encoding: "content-encoding",
  accepts: "accept-encoding",
  timeout: "connect-timeout-ms",
  timeoutForm: /^\d{1,10}$/,
};

export const GRPC: Dialect = {
  protocol: "grpc",
  forms: new Map([
    ["application/grpc", "grpc"],
    ["application/grpc+proto", "grpc"],
  ]),
  encoding: "grpc-encoding",
  accepts: "grpc-accept-encoding",
  timeout: "grpc-timeout",
  timeoutForm: /^\d{1,8}[HMSmun]$/,
};

/** How the message of a POST is written. Undefined for what does not go the fast way. */
export function formOf(headers: IncomingHttpHeaders, dialect: Dialect): Form | undefined {
  return isPlain(headers, dialect) ? dialect.forms.get(headers["content-type"]) : undefined;
}

/**
 * Whether the request asks for nothing beyond an answer: it is not compressed, and need not wait for a version. A time
 * limit has only to make sense. Nothing but that wait ends by it, whichever way a call takes: the longest that an answer
 * takes is the store's time.
 */
export function isPlain(headers: IncomingHttpHeaders, { encoding, timeout, timeoutForm }: Dialect): boolean {
  if (headers[MIN_VERSION] !== undefined) return false;
  if (headers[encoding] !== undefined && headers[encoding] !== "identity") return false;
  const limit = headers[timeout];
  return limit === undefined || (typeof limit === "string" && timeoutForm.test(limit));
}
