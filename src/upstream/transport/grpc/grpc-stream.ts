import type { IncomingHttpHeaders, IncomingHttpStatusHeader, OutgoingHttpHeaders } from "node:http2";
import { UpstreamError } from "../../upstream-error.ts";
import { Envelopes } from "../envelopes.ts";
import { type Dialer, endedError } from "../socket/dialer.ts";
import type { Speaker } from "../upstream-words.ts";
import { isGrpc, statusOf, toRefusal } from "./grpc-answer.ts";
import { toFailure } from "./grpc-call.ts";
import type { Http2Connection } from "./http2-connection.ts";

export interface GrpcStream extends Speaker {
  /** Used for nothing else, and closed with the stream. */
  readonly connection: Http2Connection;
  readonly dialer: Dialer;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Uint8Array;
  readonly signal: AbortSignal;
}

/** The messages of a streaming answer. Rejects with an UpstreamError, or with the signal's reason. */
export async function* streamCall(options: GrpcStream): AsyncGenerator<Buffer> {
  const { connection, dialer, target, headers, body, signal } = options;
  const call = connection.begin(headers);
  if (call === undefined) throw dialer.notReached(connection.failure ?? endedError());
  const { stream } = call;
  let response: (IncomingHttpHeaders & IncomingHttpStatusHeader) | undefined;
  let trailers: IncomingHttpHeaders | undefined;
  stream.on("response", (received) => {
    response = received;
  });
  stream.on("trailers", (received) => {
    trailers = received;
  });
  const abort = () => void stream.destroy(signal.reason instanceof Error ? signal.reason : endedError());
  signal.addEventListener("abort", abort, { once: true });
  stream.end(body);
  let failure: unknown;
  try {
    const envelopes = new Envelopes(target);
    const pieces: AsyncIterable<Buffer> = stream;
    for await (const piece of pieces) {
      // Whatever it is, it is no stream of ours: how it goes on is nobody's business.
      if (response === undefined || !isGrpc(response)) break;
      connection.answered();
      for (const { flags, bytes } of envelopes.take(piece)) {
        if (flags !== 0) throw cannotUse(target, `a message with the flags ${flags}`);
        yield bytes;
      }
    }
    if (envelopes.isWithinOne && trailers === undefined) throw cannotUse(target, "half a message");
  } catch (error) {
    failure = error;
  } finally {
    signal.removeEventListener("abort", abort);
    stream.destroy();
  }
  signal.throwIfAborted();
  if (failure instanceof UpstreamError) throw failure;
  // How it ended counts, whatever came of the connection after it. Without a word of that, it was broken off.
  const isTold =
    response !== undefined && (!isGrpc(response) || statusOf({ response, trailers }) !== undefined);
  if (response !== undefined && isTold) {
    const refusal = toRefusal(options, { response, trailers });
    if (refusal !== undefined) throw refusal;
    return;
  }
  throw toFailure({ connection, dialer, target }, call, response !== undefined, toError(failure)).error;
}

function toError(failure: unknown): Error | undefined {
  return failure instanceof Error ? failure : undefined;
}

function cannotUse(target: string, got: string): UpstreamError {
  return new UpstreamError(
    "answer",
    `Cannot use what ${target} answered: must be a stream of gRPC, got ${got}`,
  );
}
