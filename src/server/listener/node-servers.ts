import { createServer, type Server } from "node:http";

/** What no client may exceed, whatever it speaks. */
export interface ConnectionLimits {
  /** Of a request's headers, in HTTP/1 its URL included. */
  readonly headerBytesMax: number;
  readonly connectionsMax: number;
  /** HTTP/2 streams at a time, per connection. */
  readonly streamsMax: number;
  /** From opening a connection to its first request, and for the headers of every request. */
  readonly headerTimeoutMs: number;
  /** From a request's first byte to its last. */
  readonly requestTimeoutMs: number;
  /** Without anything asked for or taken. */
  readonly idleTimeoutMs: number;
}

/** A server that is handed its connections and never listens itself. It checks its time limits every `checkEveryMs`. */
export function createHttp1(limits: ConnectionLimits, checkEveryMs: number): Server {
  const server = createServer({
    maxHeaderSize: limits.headerBytesMax,
    headersTimeout: limits.headerTimeoutMs,
    // Node insists on this order. The body's limit is also ours, and answers in the caller's protocol.
    requestTimeout: Math.max(limits.requestTimeoutMs, limits.headerTimeoutMs) + 2 * checkEveryMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    connectionsCheckingInterval: checkEveryMs,
  });
  server.timeout = limits.idleTimeoutMs;
  // Node starts those checks once the server listens, and this one never does.
  server.emit("listening");
  return server;
}
