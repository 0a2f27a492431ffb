import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import { UpstreamError } from "../../upstream-error.ts";
import { ANSWER_BYTES_MAX, inflate, tooLong } from "../inflate.ts";
import type { Target } from "../parse-target.ts";
import type { Dialer } from "../socket/dialer.ts";
import type { UpstreamWords } from "../upstream-words.ts";
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
  readonly words: UpstreamWords;
  readonly signal: AbortSignal;
}

/** Sends a request that changes nothing. Rejects with an UpstreamError, or with the signal's reason. */
export async function post(options: HttpPost): Promise<HttpAnswer> {
  options.signal.throwIfAborted();
  const first = await attempt(options);
  options.signal.throwIfAborted();
  if (first.kind === "answer") return read(first, options);
  if (first.kind === "failed") throw first.error;
  // Those that were used before it are no better; a new one tells.
  options.agent.closeFree();
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

async function read(answer: Received, { target, words, compression, signal }: HttpPost): Promise<HttpAnswer> {
  const { encoding } = answer;
  if (encoding === "") return answer;
  const options = { target: target.name, words, encoding, offered: compression, signal };
  return { ...answer, body: await inflate(answer.body, options) };
}

/** So little goes to the kernel in one piece: if that fails, none of it was sent. */
const ONE_WRITE_BYTES = 4_096;

function attempt(options: HttpPost): Promise<Outcome> {
  const { target, agent, dialer, path, headers, body, signal } = options;
  return new Promise((resolve, reject) => {
    const request = httpRequest({ agent, method: "POST", path: `${target.prefix}${path}`, headers });
    agent.underWay.add(request);
    let response: IncomingMessage | undefined;
    const forget = () => {
      signal.removeEventListener("abort", abort);
      agent.underWay.delete(request);
    };
    // Node would do this too, for a quarter of what a call costs, and tell who waits for a connection when it has one.
    const abort = () => {
      forget();
      request.destroy();
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    const settle = (outcome: Outcome) => {
      forget();
      resolve(outcome);
    };
    const fail = (cause: Error) => {
      const { socket } = request;
      // A request that waited for a connection does not know that it was another's before.
      const isReused = request.reusedSocket || (socket?.bytesRead ?? 0) > 0;
      const isUnsent = isReused && body.byteLength <= ONE_WRITE_BYTES && isAboutWriting(cause);
      const isStale = response === undefined && !agent.isClosed && (isUnsent || agent.isOnDoubtful(request));
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

/** A write that fails at once meets what the other side did before. */
function isAboutWriting(error: NodeJS.ErrnoException): boolean {
  return error.syscall === "write" || error.code === "EPIPE";
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
