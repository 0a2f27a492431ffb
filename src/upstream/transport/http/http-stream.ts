import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { UpstreamError } from "../../upstream-error.ts";
import { Envelopes } from "../envelopes.ts";
import { ANSWER_BYTES_MAX, tooLong } from "../inflate.ts";
import type { Target } from "../parse-target.ts";
import type { Dialer } from "../socket/dialer.ts";
import { endedError } from "../socket/dialer.ts";
import type { Speaker, UpstreamWords } from "../upstream-words.ts";
import { toError, toStreamError } from "./connect-answer.ts";

export interface HttpStream {
  readonly target: Target;
  readonly dialer: Dialer;
  readonly path: string;
  /** Names and values by turns, all that HTTP needs among them. */
  readonly headers: readonly string[];
  /** In its envelope. */
  readonly body: Uint8Array;
  readonly words: UpstreamWords;
  readonly signal: AbortSignal;
}

/** Connect's flag of the last envelope, which says how the stream ended. */
const END_FLAG = 2;

/**
 * The messages of an answer in Connect's streaming protocol, on a connection that is closed with it. Rejects with an
 * UpstreamError, or with the signal's reason.
 */
export async function* streamPost(options: HttpStream): AsyncGenerator<Buffer> {
  const { target, dialer, path, headers, body, words, signal } = options;
  signal.throwIfAborted();
  const request = httpRequest({
    // Without an agent: those connections stay free for calls.
    createConnection: () => dialer.dial(),
    method: "POST",
    path: `${target.prefix}${path}`,
    headers,
    signal,
  });
  try {
    const response = await responseTo(request, body);
    yield* messagesIn(response, { target: target.name, words });
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof UpstreamError ? error : dialer.notReached(error, newSocketOf(request));
  } finally {
    request.destroy();
  }
}

function responseTo(request: ClientRequest, body: Uint8Array): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // Heard until its end: what comes later, the response tells as well.
    request.on("error", reject);
    request.once("response", resolve);
    request.end(body);
  });
}

async function* messagesIn(response: IncomingMessage, upstream: Speaker): AsyncGenerator<Buffer> {
  const { target } = upstream;
  const { statusCode: status = 0, headers } = response;
  const { "content-type": contentType = "" } = headers;
  if (status !== 200 || !contentType.startsWith("application/connect+proto"))
    throw toError(upstream, { status, contentType, body: await wholeBody(response, target) });
  const envelopes = new Envelopes(target);
  const pieces: AsyncIterable<Buffer> = response;
  for await (const piece of pieces) {
    for (const { flags, bytes } of envelopes.take(piece)) {
      if (flags === END_FLAG) {
        const error = toStreamError(upstream, bytes);
        if (error !== undefined) throw error;
        return;
      }
      if (flags !== 0) throw cannotUse(target, `a message with the flags ${flags}`);
      yield bytes;
    }
  }
  // Closed in order, but before the end that Connect has.
  if (envelopes.isWithinOne) throw cannotUse(target, "half a message");
  throw endedError();
}

async function wholeBody(response: IncomingMessage, target: string): Promise<Buffer> {
  const pieces: AsyncIterable<Buffer> = response;
  const body: Buffer[] = [];
  let length = 0;
  for await (const piece of pieces) {
    body.push(piece);
    length += piece.length;
    if (length > ANSWER_BYTES_MAX) throw tooLong(target);
  }
  return Buffer.concat(body);
}

/** Undefined once it has said something: then the handshake was not what went wrong. */
function newSocketOf({ socket }: ClientRequest): ClientRequest["socket"] | undefined {
  return (socket?.bytesRead ?? 0) > 0 ? undefined : socket;
}

function cannotUse(target: string, got: string): UpstreamError {
  return new UpstreamError(
    "answer",
    `Cannot use what ${target} answered: must be a stream of Connect, got ${got}`,
  );
}
