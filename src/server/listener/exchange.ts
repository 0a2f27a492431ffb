import type { IncomingMessage, OutgoingHttpHeaders } from "node:http";
import type { Http2ServerRequest, IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { PlainHandler } from "./plain-route.ts";

/** A request, over either version of HTTP. */
export type HttpRequest = IncomingMessage | Http2ServerRequest;

/** What Node's two kinds of server response have in common, as far as we need it. */
export interface HttpResponse {
  readonly headersSent: boolean;
  writeHead(status: number, headers: OutgoingHttpHeaders): unknown;
  /** `written` is called once the chunk has left this process, or with the reason why it never will. */
  write(chunk: Uint8Array, written: (error?: Error | null) => void): unknown;
  addTrailers(headers: OutgoingHttpHeaders): void;
  end(): unknown;
  end(chunk: Uint8Array): unknown;
  destroy(): unknown;
  /** `close` comes in any case, and last. */
  once(event: "close", listener: () => void): unknown;
}

export interface RequestHandler {
  (request: HttpRequest, response: HttpResponse): void;
  /** Offered every stream of HTTP/2 first. */
  readonly stream?: StreamHandler;
  /** Offered every plain request of HTTP/1.1 first, as long as a connection brings no others. */
  readonly plain?: PlainHandler;
}

/**
 * Takes a stream of HTTP/2 before Node makes a request and a response of it. False: it has not touched it. What it has
 * taken and cannot answer it hands over, before anything is sent; then the body has been read.
 */
export type StreamHandler = (
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  handOver: (handle: RequestHandler) => void,
) => boolean;

/** A header's values in one text. */
export function textOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(", ") : header;
}

/** The path of a request's URL. */
export function pathOf(request: HttpRequest): string {
  const url = request.url ?? "";
  const query = url.indexOf("?");
  return query === -1 ? url : url.slice(0, query);
}
