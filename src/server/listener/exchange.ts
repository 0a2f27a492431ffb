import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import type { Http2Exchange } from "../http2/http2-exchange.ts";
import type { PlainExchange, PlainHandler } from "./plain-route.ts";

/** A request, over either version of HTTP: its body, and what Node's own have in common with those of HTTP/2. */
export interface HttpRequest extends Readable {
  readonly httpVersion: string;
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly headers: IncomingHttpHeaders;
}

/** The same of responses, as far as we need it. */
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
  /** Offered every plain request of HTTP/1.1 first, as long as a connection brings no others. */
  readonly plain?: PlainHandler<PlainExchange>;
  /** Offered every POST of HTTP/2 first. */
  readonly plainHttp2?: PlainHandler<Http2Exchange>;
}

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
