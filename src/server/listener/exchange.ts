import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";
import type { Http2ServerRequest } from "node:http2";

/** A request, over either version of HTTP. */
export type HttpRequest = IncomingMessage | Http2ServerRequest;

/** What Node's two kinds of server response have in common, as far as we need it. */
export interface HttpResponse {
  readonly headersSent: boolean;
  writeHead(status: number, headers: OutgoingHttpHeaders): unknown;
  /** False: wait for `drain`. */
  write(chunk: Uint8Array): boolean;
  addTrailers(headers: OutgoingHttpHeaders): void;
  end(): unknown;
  end(chunk: Uint8Array): unknown;
  destroy(): unknown;
  /** `close` comes in any case, and last. */
  once(event: "close" | "drain", listener: () => void): unknown;
  off(event: "close" | "drain", listener: () => void): unknown;
}

export type RequestHandler = (request: HttpRequest, response: HttpResponse) => void;

/** The path of a request's URL. */
export function pathOf(request: HttpRequest): string {
  const url = request.url ?? "";
  const query = url.indexOf("?");
  return query === -1 ? url : url.slice(0, query);
}
