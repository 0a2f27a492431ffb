import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../system/clock.ts";
import type { HttpRequest } from "../listener/exchange.ts";
import { GrowingBytes } from "./growing-bytes.ts";

export interface BodyLimits {
  readonly bytesMax: number;
  /** For all of it to come. */
  readonly timeoutMs: number;
  readonly clock: Pick<Clock, "sleep">;
}

/** Into how many pieces a body may be cut: a megabyte that comes a byte at a time costs a second of CPU. */
const PIECES_MAX = 10_000;

/**
 * Reads a whole body. Rejects with a `ConnectError` if it is too large, too slow or cut off, and then leaves the rest
 * unread: the request can still be answered.
 */
export function readBody(request: HttpRequest, limits: BodyLimits): Promise<Uint8Array> {
  const { bytesMax, timeoutMs, clock } = limits;
  if (Number(request.headers["content-length"]) > bytesMax) return Promise.reject(tooLarge(bytesMax));
  return new Promise((resolve, reject) => {
    const body = new GrowingBytes();
    const settled = new AbortController();
    let pieces = 0;

    const take = (piece: Buffer) => {
      pieces += 1;
      if (body.length + piece.length > bytesMax) refuse(tooLarge(bytesMax));
      else if (pieces > PIECES_MAX) refuse(tooManyPieces());
      else body.append(piece);
    };
    const finish = () => {
      stopListening();
      resolve(body.bytes);
    };
    const cutOff = () => refuse(new ConnectError("Cannot read the request: the client left", Code.Canceled));
    const refuse = (error: ConnectError) => {
      stopListening();
      request.pause();
      reject(error);
    };
    const stopListening = () => {
      request.off("data", take).off("end", finish).off("close", cutOff).off("error", cutOff);
      settled.abort();
    };

    request.on("data", take).on("end", finish).on("close", cutOff).on("error", cutOff);
    clock.sleep(timeoutMs, settled.signal).then(
      () => refuse(tooSlow(timeoutMs)),
      () => {},
    );
  });
}

function tooLarge(bytesMax: number): ConnectError {
  return new ConnectError(`Cannot read the request: more than ${bytesMax} bytes`, Code.ResourceExhausted);
}

function tooManyPieces(): ConnectError {
  return new ConnectError(
    `Cannot read the request: in more than ${PIECES_MAX} pieces`,
    Code.ResourceExhausted,
  );
}

function tooSlow(timeoutMs: number): ConnectError {
  return new ConnectError(
    `Cannot read the request: not complete after ${timeoutMs} ms`,
    Code.DeadlineExceeded,
  );
}

/** The body of a call whose messages come one by one. Stopping early does not destroy the connection. */
export async function* streamBody(request: HttpRequest): AsyncGenerator<Uint8Array> {
  for await (const chunk of request.iterator({ destroyOnReturn: false })) yield chunk;
}
