import type { OutgoingHttpHeaders } from "node:http";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import type { HttpResponse } from "../listener/exchange.ts";
import { bytesOf } from "./chunks.ts";
import { PieceWriter, type PieceWriterOptions } from "./piece-writer.ts";

/** Sends an answer that is complete, in one go. */
export async function sendWhole(answer: UniversalServerResponse, response: HttpResponse): Promise<void> {
  const body = await bytesOf(answer.body);
  response.writeHead(answer.status, headersOf(answer.header));
  if (answer.trailer !== undefined) response.addTrailers(trailersOf(answer.trailer));
  if (body.length > 0) response.end(body);
  else response.end();
}

export type StreamOptions = Omit<PieceWriterOptions, "response">;

/** Sends an answer as its messages come, no faster than the client takes them. */
export async function sendStream(
  answer: UniversalServerResponse,
  response: HttpResponse,
  options: StreamOptions,
): Promise<void> {
  const { left } = options;
  const writer = new PieceWriter({ ...options, response });
  let begun = false;
  for await (const chunk of answer.body ?? []) {
    if (left.aborted) return;
    // Not before the first message: until then an implementation may still set headers.
    if (!begun) response.writeHead(answer.status, headersOf(answer.header));
    begun = true;
    await writer.write(chunk);
  }
  if (left.aborted) return;
  if (!begun) response.writeHead(answer.status, headersOf(answer.header));
  if (answer.trailer !== undefined) response.addTrailers(trailersOf(answer.trailer));
  response.end();
}

function headersOf(headers: Headers | undefined): OutgoingHttpHeaders {
  return headers === undefined ? {} : Object.fromEntries(headers);
}

/**
 * gRPC escapes a message where it must. connect-es escapes more than that, and grpc-js for one does not undo it:
 * its users would read `%3A` for a colon.
 */
function trailersOf(trailer: Headers): OutgoingHttpHeaders {
  const trailers = headersOf(trailer);
  const message = trailer.get("grpc-message");
  return message === null
    ? trailers
    : { ...trailers, "grpc-message": encodeURI(decodeURIComponent(message)) };
}
