import type { IncomingHttpHeaders, IncomingHttpStatusHeader, OutgoingHttpHeaders } from "node:http2";
import { constants } from "node:http2";
import { UpstreamError } from "../../upstream-error.ts";
import { DeadlineError } from "../deadline.ts";
import { tooLong } from "../inflate.ts";
import { type Dialer, endedError } from "../socket/dialer.ts";
import { nameOfHttp2Error } from "./codes.ts";
import { FRAME_BYTES_MAX } from "./frame.ts";
import { type GrpcAnswer, statusOf } from "./grpc-answer.ts";
import type { Http2Call, Http2Connection } from "./http2-connection.ts";

export interface GrpcCall {
  readonly connection: Http2Connection;
  readonly dialer: Dialer;
  readonly target: string;
  readonly headers: OutgoingHttpHeaders;
  readonly body: Uint8Array;
  readonly signal: AbortSignal;
}

export type GrpcOutcome =
  | { readonly kind: "answer"; readonly answer: GrpcAnswer }
  /** `unprocessed`: a new connection may tell more. */
  | { readonly kind: "failed" | "unprocessed"; readonly error: UpstreamError };

/** Makes a call on this connection. Rejects with the signal's reason and nothing else. */
export function makeCall(options: GrpcCall): Promise<GrpcOutcome> {
  const { connection, dialer, target, headers, body, signal } = options;
  const call = connection.begin(headers);
  if (call === undefined) {
    const error = dialer.notReached(connection.failure ?? endedError());
    return Promise.resolve({ kind: "unprocessed", error });
  }
  const { stream } = call;
  return new Promise((resolve, reject) => {
    let response: (IncomingHttpHeaders & IncomingHttpStatusHeader) | undefined;
    let trailers: IncomingHttpHeaders | undefined;
    let streamError: Error | undefined;
    let hasEnded = false;
    let isSettled = false;
    const chunks: Buffer[] = [];
    let length = 0;

    const settle = (outcome: GrpcOutcome) => {
      if (isSettled) return;
      isSettled = true;
      signal.removeEventListener("abort", abort);
      connection.end(outcome.kind === "answer" ? "answered" : "failed");
      resolve(outcome);
    };
    const abort = () => {
      if (isSettled) return;
      isSettled = true;
      // One that is not on its way yet need not set out.
      if (stream.pending) stream.destroy();
      else stream.close(constants.NGHTTP2_CANCEL);
      if (signal.reason instanceof DeadlineError) connection.doubt(call);
      connection.end("failed");
      reject(signal.reason);
    };

    signal.addEventListener("abort", abort, { once: true });
    stream.on("response", (received) => {
      response = received;
    });
    stream.on("trailers", (received) => {
      trailers = received;
    });
    stream.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length <= FRAME_BYTES_MAX) return;
      settle({ kind: "failed", error: tooLong(target) });
      stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.on("end", () => {
      hasEnded = true;
      // Answered before all of the request was taken: nobody wants the rest.
      if (!stream.writableFinished && !stream.closed) stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.on("error", (error) => {
      streamError = error;
    });
    stream.on("close", () => {
      // A status counts whatever came after it; without one, an answer has to have come to its end.
      const isWhole = hasEnded && stream.rstCode === constants.NGHTTP2_NO_ERROR;
      if (response !== undefined && (isWhole || statusOf({ response, trailers }) !== undefined)) {
        settle({ kind: "answer", answer: { response, trailers, body: Buffer.concat(chunks) } });
      } else {
        settle(toFailure(options, call, response !== undefined, streamError));
      }
    });
    stream.end(body);
  });
}

/** What a call came to that was not answered to its end. */
export function toFailure(
  { connection, dialer, target }: Pick<GrpcCall, "connection" | "dialer" | "target">,
  call: Http2Call,
  hasResponse: boolean,
  streamError: Error | undefined,
): Exclude<GrpcOutcome, { readonly kind: "answer" }> {
  const { stream } = call;
  const isRefused = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
  const isReset = connection.failure === undefined && !connection.isBroken && stream.rstCode !== 0;
  const error = isReset
    ? new UpstreamError(
        codeOfReset(stream.rstCode),
        `Cannot call ${target}: it broke the call off (${nameOfHttp2Error(stream.rstCode)})`,
        { cause: streamError },
      )
    : dialer.notReached(
        connection.failure ?? causeOf(streamError) ?? endedError(),
        connection.hasAnswered ? undefined : connection.socket,
      );
  const isStale = connection.isBroken && call.isOnDoubtful;
  const isUnprocessed = !hasResponse && (isRefused || isStale || connection.isUnprocessed(call));
  return { kind: isUnprocessed ? "unprocessed" : "failed", error };
}

function codeOfReset(code: number): string {
  if (code === constants.NGHTTP2_REFUSED_STREAM) return "unavailable";
  return code === constants.NGHTTP2_ENHANCE_YOUR_CALM ? "resource_exhausted" : "connection";
}

/** A call that a session takes down with it has an error that only says so. */
function causeOf(error: Error | undefined): Error | undefined {
  return error?.cause instanceof Error ? error.cause : error;
}
