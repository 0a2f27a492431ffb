import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { UpstreamError } from "../../upstream-error.ts";
import { ANSWER_BYTES_MAX, inflate, tooLong } from "../inflate.ts";
import type { Target } from "../parse-target.ts";
import type { Dialer } from "../socket/dialer.ts";
import type { HttpAnswer } from "./connect-answer.ts";
import type { UpstreamAgent } from "./upstream-agent.ts";

export interface HttpPost {
  readonly target: Target;
  readonly agent: UpstreamAgent;
  readonly dialer: Dialer;
  readonly path: string;
  /** Names and values by turns, all that HTTP needs among them. */
  readonly headers: readonly string[];
  readonly body: Uint8Array;
  /** What the headers say is accepted. */
  readonly compression: "none" | "gzip";
  readonly signal: AbortSignal;
}

/** Sends a request that changes nothing. Rejects with an UpstreamError, or with the signal's reason. */
export async function post(options: HttpPost): Promise<HttpAnswer> {
  options.signal.throwIfAborted();
  const first = await attempt(options);
  options.signal.throwIfAborted();
  if (first.kind === "answer") return read(first, options);
  if (first.kind === "failed") throw first.error;
  // A kept connection may be closed by the other side just as it is used again; a new one tells.
  const second = await attempt(options);
  options.signal.throwIfAborted();
  if (second.kind === "answer") return read(second, options);
  throw second.error;
}

interface Received extends HttpAnswer {
  readonly kind: "answer";
  readonly encoding: string;
}

type Outcome = Received | { readonly kind: "failed" | "connection was stale"; readonly error: UpstreamError };

async function read(answer: Received, { target, compression, signal }: HttpPost): Promise<HttpAnswer> {
  const { encoding } = answer;
  if (encoding === "") return answer;
  const options = { target: target.name, encoding, offered: compression, signal };
  return { ...answer, body: await inflate(answer.body, options) };
}

function attempt(options: HttpPost): Promise<Outcome> {
  const { target, agent, dialer, path, headers, body, signal } = options;
  return new Promise((resolve) => {
    const request = httpRequest({ agent, method: "POST", path: `${target.prefix}${path}`, headers, signal });
    agent.underWay.add(request);
    let response: IncomingMessage | undefined;
    const settle = (outcome: Outcome) => {
      agent.underWay.delete(request);
      resolve(outcome);
    };
    const fail = (cause: Error) => {
      const { socket } = request;
      // A request that waited for a connection does not know that it was another's before.
      const isReused = request.reusedSocket || (socket?.bytesRead ?? 0) > 0;
      const isStale = response === undefined && isReused && !agent.isClosed;
      const error = dialer.notReached(cause, isReused ? undefined : socket);
      settle({ kind: isStale ? "connection was stale" : "failed", error });
    };
    request.on("error", fail);
    request.on("response", (incoming) => {
      response = incoming;
      collect(request, incoming, target, settle, fail);
    });
    request.end(body);
  });
}

function collect(
  request: ClientRequest,
  response: IncomingMessage,
  { name }: Target,
  settle: (outcome: Outcome) => void,
  fail: (cause: Error) => void,
): void {
  const chunks: Buffer[] = [];
  let length = 0;
  response.on("error", fail);
  response.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length <= ANSWER_BYTES_MAX) return;
    settle({ kind: "failed", error: tooLong(name) });
    request.destroy();
  });
  response.on("end", () => {
    settle({
      kind: "answer",
      status: response.statusCode ?? 0,
      contentType: response.headers["content-type"] ?? "",
      encoding: response.headers["content-encoding"] ?? "",
      body: Buffer.concat(chunks),
    });
  });
}
