import type { Readable } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../system/clock.ts";
import type { HttpRequest } from "../listener/exchange.ts";
import { GrowingBytes } from "./growing-bytes.ts";

export interface BodyLimits {
  readonly bytesMax: number;
  /** For all of it to come. */
  readonly timeoutMs: number;
  readonly clock: Pick<Clock, "after">;
}

/** Into how many pieces a body may be cut: a megabyte that comes a byte at a time costs a second of CPU. */
const PIECES_MAX = 10_000;

/** A whole body, or why there is none. */
export type Body = Buffer | ConnectError;

/**
 * Reads a whole body. Rejects with a `ConnectError` if it is too large, too slow or cut off, and then leaves the rest
 * unread: the request can still be answered.
 */
export function readBody(request: HttpRequest, limits: BodyLimits): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    takeBody(request, request.headers["content-length"], limits, (body) => {
      if (body instanceof ConnectError) reject(body);
      else resolve(body);
    });
  });
}

/** The same without a promise; calls back once. `declared` is the request's `content-length`. */
export function takeBody(
  source: Readable,
  declared: string | undefined,
  { bytesMax, timeoutMs, clock }: BodyLimits,
  done: (body: Body) => void,
): void {
  if (Number(declared) > bytesMax) {
    done(tooLarge(bytesMax));
    return;
  }
  const body = new GrowingBytes();
  let pieces = 0;
  // The listeners stay: taking them off would cost as much as all else here.
  let isDone = false;

  const take = (piece: Buffer) => {
    if (isDone) return;
    pieces += 1;
    if (body.length + piece.length > bytesMax) refuse(tooLarge(bytesMax));
    else if (pieces > PIECES_MAX) refuse(tooManyPieces());
    else body.append(piece);
  };
  const settle = (result: Body) => {
    if (isDone) return;
    isDone = true;
    cancelTimeout();
    done(result);
  };
  const finish = () => settle(body.bytes);
  const cutOff = () => {
    if (!isDone) refuse(new ConnectError("Cannot read the request: the client left", Code.Canceled));
  };
  const refuse = (error: ConnectError) => {
    if (!isDone) source.pause();
    settle(error);
  };

  source.on("data", take).on("end", finish).on("close", cutOff).on("error", cutOff);
  const cancelTimeout = clock.after(timeoutMs, () => refuse(tooSlow(timeoutMs)));
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
