import {
  type ClientRequest,
  type Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from "node:http";
import { request as httpsRequest } from "node:https";
import { describeTarget } from "./parse-target.ts";
import { UpstreamError } from "./upstream-error.ts";

/** Where to send a request to, as `node:http` wants it. */
export interface Target {
  readonly secure: boolean;
  readonly at:
    | { readonly hostname: string; readonly port?: number; readonly auth?: string }
    | { readonly socketPath: string };
  /** Before each path; without a slash at its end. */
  readonly prefix: string;
}

export interface HttpPost {
  readonly target: Target;
  readonly agent: HttpAgent;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** A longer answer is an error. */
  readonly answerBytesMax: number;
  readonly signal: AbortSignal;
}

export interface HttpAnswer {
  readonly status: number;
  /** Empty if there is none. */
  readonly contentType: string;
  readonly body: Uint8Array;
}

/** Sends a request that changes nothing. Rejects with an UpstreamError, or with the signal's reason. */
export async function post(options: HttpPost): Promise<HttpAnswer> {
  options.signal.throwIfAborted();
  const first = await attempt(options);
  if (first.kind === "answer") return first.answer;
  options.signal.throwIfAborted();
  if (first.kind === "failed") throw first.error;
  // A kept connection may be closed by the other side just as it is used again; a new one tells.
  const second = await attempt(options);
  options.signal.throwIfAborted();
  if (second.kind === "answer") return second.answer;
  throw second.error;
}

type Outcome =
  | { readonly kind: "answer"; readonly answer: HttpAnswer }
  | { readonly kind: "failed" | "connection was stale"; readonly error: UpstreamError };

function attempt(options: HttpPost): Promise<Outcome> {
  const { target, agent, path, headers, body, signal } = options;
  return new Promise((resolve) => {
    const request = (target.secure ? httpsRequest : httpRequest)({
      ...target.at,
      agent,
      method: "POST",
      path: `${target.prefix}${path}`,
      headers: { ...headers, "content-length": String(body.byteLength) },
      signal,
    });
    let response: IncomingMessage | undefined;
    const fail = (cause: Error) => {
      const isStale = response === undefined && request.reusedSocket && !signal.aborted;
      const error = new UpstreamError(
        "connection",
        `Cannot reach ${describeTarget(target)}: ${cause.message}`,
        { cause },
      );
      resolve({ kind: isStale ? "connection was stale" : "failed", error });
    };
    request.on("error", fail);
    request.on("response", (incoming) => {
      response = incoming;
      collect(request, incoming, options, resolve, fail);
    });
    request.end(body);
  });
}

function collect(
  request: ClientRequest,
  response: IncomingMessage,
  { answerBytesMax, target }: HttpPost,
  resolve: (outcome: Outcome) => void,
  fail: (cause: Error) => void,
): void {
  const chunks: Buffer[] = [];
  let length = 0;
  response.on("error", fail);
  response.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
    if (length <= answerBytesMax) return;
    const message = `Cannot use what ${describeTarget(target)} answered: at most ${answerBytesMax} bytes, got more`;
    resolve({ kind: "failed", error: new UpstreamError("answer", message) });
    request.destroy();
  });
  response.on("end", () => {
    const contentType = response.headers["content-type"] ?? "";
    const answer = { status: response.statusCode ?? 0, contentType, body: Buffer.concat(chunks) };
    resolve({ kind: "answer", answer });
  });
}
