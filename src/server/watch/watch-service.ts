import { Code, ConnectError } from "@connectrpc/connect";
import type { Clock } from "../../system/clock.ts";
import type { Rpc } from "../../telemetry/call-counts.ts";
import { type HttpRequest, type HttpResponse, type RequestHandler, textOf } from "../listener/exchange.ts";
import { sendMethodNotAllowed, sendUnsupportedMediaType } from "../plain-answer.ts";
import { WATCH } from "../procedures.ts";
import { codeOf, nameOf } from "../rpc/codes.ts";
import type { Permit } from "../rpc/permit.ts";
import { readBody } from "../rpc/request-body.ts";
import { fromRequest } from "../state-service.ts";
import { follow } from "./follower.ts";
import type { Followers } from "./followers.ts";
import { type Framing, framingOf } from "./framing.ts";
import { parseRequest } from "./parse-request.ts";
import type { WatchEvents } from "./watch-events.ts";

export interface WatchServiceOptions {
  readonly events: WatchEvents;
  readonly followers: Followers;
  readonly permit: Permit;
  readonly bodyBytesMax: number;
  readonly requestTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly clock: Clock;
  /** Aborts when the daemon begins to drain. */
  readonly stopping: AbortSignal;
  readonly onRpc: (rpc: Rpc) => void;
  readonly onStalled: (procedure: string) => void;
  readonly onInternalError: (error: unknown, procedure: string) => void;
}

/**
 * Tells followers what changes, in every protocol. Connect's own implementation would encode each message for each
 * follower: a large kill set for some hundred of them is then seconds in which nobody else is answered.
 */
export function createWatchService(options: WatchServiceOptions): RequestHandler {
  return (request, response) => {
    const framing = framingOf(request.headers["content-type"]);
    if (request.method !== "POST") sendMethodNotAllowed(request, response, ["POST"]);
    else if (framing === undefined) sendUnsupportedMediaType(request, response);
    else {
      // From the first moment on: who leaves while the request is read is not heard of again.
      const left = new AbortController();
      response.once("close", () => left.abort());
      void serve(request, response, { ...options, framing, left: left.signal });
    }
  };
}

interface Serving extends WatchServiceOptions {
  readonly framing: Framing;
  /** Aborts when the client has left. */
  readonly left: AbortSignal;
}

async function serve(request: HttpRequest, response: HttpResponse, options: Serving): Promise<void> {
  const { framing, permit, clock, bodyBytesMax: bytesMax, requestTimeoutMs, onRpc } = options;
  const startedAt = clock.now();
  const { headers } = request;
  const onEnd = (code: Rpc["code"]) => {
    const durationMs = clock.now() - startedAt;
    onRpc({ procedure: WATCH, protocol: framing.protocol, code, durationMs });
  };
  try {
    const body = await readBody(request, { bytesMax, timeoutMs: requestTimeoutMs, clock });
    const refusal = permit({ procedure: WATCH, header: (name) => textOf(headers[name]) });
    if (refusal !== undefined) throw refusal;
    const compression = headers[framing.encodingHeader]?.toString();
    const { since, omitKills } = await parseRequest(body, { format: framing.format, compression, bytesMax });
    follow({
      ...options,
      response,
      since: fromRequest(since),
      omitsKills: omitKills,
      timeoutMs: framing.timeoutMs(headers),
      onStalled: () => options.onStalled(WATCH),
      onEnd,
    });
  } catch (error) {
    const isForeseen = error instanceof ConnectError;
    if (!isForeseen) options.onInternalError(error, WATCH);
    if (!response.headersSent) response.writeHead(200, framing.headers);
    framing.end(response, isForeseen ? error : new ConnectError("internal error", Code.Internal));
    onEnd(nameOf(codeOf(error)));
  }
}
