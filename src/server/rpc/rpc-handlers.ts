import { setMaxListeners } from "node:events";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  createContextValues,
  type Interceptor,
} from "@connectrpc/connect";
import type { UniversalHandler, UniversalServerRequest } from "@connectrpc/connect/protocol";
import { compressionGzip } from "@connectrpc/connect-node";
import type { Clock } from "../../system/clock.ts";
import type { Rpc } from "../../telemetry/call-counts.ts";
import type { Tracing } from "../../telemetry/tracing.ts";
import type { HttpRequest, HttpResponse } from "../listener/exchange.ts";
import { sendMethodNotAllowed } from "../plain-answer.ts";
import { sendStream, sendWhole } from "./answer.ts";
import { shortenCallerTimeout } from "./caller-timeout.ts";
import { noBytes, oneChunk } from "./chunks.ts";
import { nameOf, procedureOf, protocolOf } from "./codes.ts";
import { reached } from "./reached.ts";
import { refuse } from "./refusal.ts";
import { type Body, type BodyLimits, readBody, streamBody } from "./request-body.ts";
import { shallowJson } from "./shallow-json.ts";
import { traceRefusal } from "./trace-refusal.ts";

export interface RpcHandlerOptions {
  readonly services: (router: ConnectRouter) => void;
  readonly interceptors: Interceptor[];
  /** Of a message, as sent and inflated. */
  readonly bodyBytesMax: number;
  readonly requestTimeoutMs: number;
  readonly clock: Clock;
  /** Aborts the handlers' signals, so that streams end. */
  readonly stopping: AbortSignal;
  /** Undefined: nothing is traced. */
  readonly tracing: Pick<Tracing, "traceRpc"> | undefined;
  /** A call that never reached the interceptors. */
  readonly onRefused: (rpc: Rpc) => void;
  /** A stream was cut because its client took nothing. */
  readonly onStalled: (procedure: string) => void;
  readonly onInternalError: (error: unknown, procedure: string) => void;
}

/** Answers a call. `body` is the request's where it has been read already. */
export type RpcHandler = (request: HttpRequest, response: HttpResponse, body?: Body) => void;

/** Shorter messages are not compressed, be it asked for: it would cost more than it saves. */
export const COMPRESS_MIN_BYTES = 1_024;

/** gRPC puts this in front of every message. */
const ENVELOPE_HEADER_BYTES = 5;

/** A client may take as long for a piece of a stream. Then it is cut. */
export const STALL_TIMEOUT_MS = 10_000;

/**
 * A handler for each procedure's path, for Connect, gRPC and gRPC-web over either version of HTTP.
 *
 * connect-node's own adapter is not used: it lets any body in, resets the connection when it refuses one, and ends
 * the process when a request names no host.
 */
export function createRpcHandlers(options: RpcHandlerOptions): ReadonlyMap<string, RpcHandler> {
  // Every running call listens to it; Node would take that for a leak.
  setMaxListeners(0, options.stopping);
  const router = createConnectRouter({
    interceptors: options.interceptors,
    readMaxBytes: options.bodyBytesMax,
    jsonOptions: shallowJson,
    shutdownSignal: options.stopping,
    compressMinBytes: COMPRESS_MIN_BYTES,
    // Brotli is left out: for one small body it takes 16 MiB of memory.
    acceptCompression: [compressionGzip],
  });
  options.services(router);
  return new Map(router.handlers.map((handler) => [handler.requestPath, handlerFor(handler, options)]));
}

function handlerFor(handler: UniversalHandler, options: RpcHandlerOptions): RpcHandler {
  return (request, response, body) => {
    if (!handler.allowedMethods.includes(request.method ?? "")) {
      sendMethodNotAllowed(request, response, handler.allowedMethods);
      return;
    }
    serve(handler, request, response, { ...options, body }).catch((error: unknown) => {
      options.onInternalError(error, procedureOf(handler.method));
      response.destroy();
    });
  };
}

interface Serving extends RpcHandlerOptions {
  readonly body: Body | undefined;
}

async function serve(
  handler: UniversalHandler,
  request: HttpRequest,
  response: HttpResponse,
  options: Serving,
): Promise<void> {
  const startedAt = options.clock.now();
  const left = new AbortController();
  response.once("close", () => left.abort(new ConnectError("the client left", Code.Canceled)));

  const contextValues = createContextValues();
  const call: UniversalServerRequest = {
    httpVersion: request.httpVersion,
    method: request.method ?? "",
    // Handlers see a URL, but only its path and query mean anything: any host will do, also none.
    url: `http://localhost${request.url}`,
    header: webHeaders(request),
    body: await bodyOf(handler, request, options),
    signal: left.signal,
    contextValues,
  };
  const answer = await handler(call);
  if (handler.method.methodKind !== "unary") {
    return sendStream(answer, response, {
      left: left.signal,
      stallTimeoutMs: STALL_TIMEOUT_MS,
      clock: options.clock,
      onStalled: () => options.onStalled(procedureOf(handler.method)),
    });
  }

  if (contextValues.get(reached)) return sendWhole(answer, response);
  const protocol = protocolOf(call.header.get("content-type"));
  const refusal = await refuse(protocol, answer);
  const rpc: Rpc = {
    procedure: procedureOf(handler.method),
    protocol,
    code: nameOf(refusal.code),
    durationMs: options.clock.now() - startedAt,
  };
  options.onRefused(rpc);
  traceRefusal(options.tracing, rpc, (name) => call.header.get(name) ?? undefined);
  return sendWhole(refusal.response, response);
}

/** The body, or its error, in a form that lets Connect answer in the caller's protocol. */
async function bodyOf(
  handler: UniversalHandler,
  request: HttpRequest,
  options: Serving,
): Promise<AsyncIterable<Uint8Array>> {
  const { body } = options;
  if (request.method === "GET") return noBytes();
  if (body !== undefined) return body instanceof ConnectError ? noBytes(body) : oneChunk(body);
  const { methodKind } = handler.method;
  if (methodKind !== "unary" && methodKind !== "server_streaming") return streamBody(request);
  try {
    return oneChunk(await readBody(request, limitsOf(options)));
  } catch (error) {
    return noBytes(ConnectError.from(error));
  }
}

/** Of a body, which holds one message and perhaps what stands before it. */
export function limitsOf({
  bodyBytesMax,
  requestTimeoutMs,
  clock,
}: {
  readonly bodyBytesMax: number;
  readonly requestTimeoutMs: number;
  readonly clock: BodyLimits["clock"];
}): BodyLimits {
  return { bytesMax: bodyBytesMax + ENVELOPE_HEADER_BYTES, timeoutMs: requestTimeoutMs, clock };
}

function webHeaders(request: HttpRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one);
  }
  shortenCallerTimeout(headers);
  return headers;
}
