import type { OutgoingHttpHeaders } from "node:http";
import type { HttpRequest, HttpResponse, RequestHandler } from "./listener/exchange.ts";

export interface PlainAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** Sends an answer that is no RPC's. HEAD gets the headers alone. */
export function sendPlain(
  request: HttpRequest,
  response: HttpResponse,
  { status, contentType, body }: PlainAnswer,
  headers: OutgoingHttpHeaders = {},
): void {
  const bytes = Buffer.from(body);
  response.writeHead(status, {
    ...headers,
    "content-type": contentType,
    "content-length": bytes.length,
    "cache-control": "no-store",
  });
  if (request.method === "HEAD") response.end();
  else response.end(bytes);
}

/** Refuses a method that a path does not have. */
export function sendMethodNotAllowed(
  request: HttpRequest,
  response: HttpResponse,
  allowed: readonly string[],
): void {
  const allow = allowed.join(", ");
  const body = `Cannot ${request.method} this path: only ${allow}\n`;
  sendPlain(request, response, { status: 405, contentType: TEXT, body }, { allow });
}

/** Refuses a body that says it is something else than can be read. */
export const sendUnsupportedMediaType: RequestHandler = (request, response) => {
  const type = JSON.stringify(request.headers["content-type"] ?? "");
  const body = `Cannot read a body of type ${type} here\n`;
  sendPlain(request, response, { status: 415, contentType: TEXT, body });
};

/** There is nothing at this path. */
export const sendNotFound: RequestHandler = (request, response) => {
  sendPlain(request, response, { status: 404, contentType: TEXT, body: "Cannot find this path\n" });
};

export const TEXT = "text/plain; charset=utf-8";
