import type { ServerHttp2Stream } from "node:http2";
import { ConnectError } from "@connectrpc/connect";
import type { RequestHandler, StreamHandler } from "../listener/exchange.ts";
import { takeBody } from "../rpc/request-body.ts";
import { limitsOf, type RpcHandler } from "../rpc/rpc-handlers.ts";
import { AGE, VERSION } from "../worth.ts";
import { CONTENT_TYPES } from "./content-types.ts";
import { type FastAnswer, type FastCallOptions, serveFast } from "./fast-calls.ts";
import type { FastRpc, Form } from "./fast-rpcs.ts";
import { CONNECT, type Dialect, formOf, GRPC } from "./plain-call.ts";
import { messageIn } from "./read-frame.ts";

/** An RPC, and what answers it where it does not go the fast way. */
export interface FastRoute {
  readonly rpc: FastRpc;
  readonly otherwise: RpcHandler;
}

/** gRPC's unary calls, and Connect's, over HTTP/2. */
export function createFastHttp2(routes: readonly FastRoute[], options: FastCallOptions): StreamHandler {
  const byPath = new Map(routes.map((route) => [`/${route.rpc.procedure}`, route]));
  const limits = limitsOf(options);

  return (stream, headers, handOver) => {
    const route = byPath.get(headers[":path"] ?? "");
    if (route === undefined || headers[":method"] !== "POST" || headers.expect !== undefined) return false;
    const dialect = GRPC.forms.has(headers["content-type"]) ? GRPC : CONNECT;
    const form = formOf(headers, dialect);
    if (form === undefined) return false;
    const { rpc, otherwise } = route;

    stream.on("error", ignore);
    takeBody(stream, headers["content-length"], limits, (body) => {
      const generic: RequestHandler = (request, response) => otherwise(request, response, body);
      const fallThrough = () => handOver(generic);
      const message = body instanceof ConnectError ? undefined : messageOf(body, form);
      if (message === undefined) {
        fallThrough();
        return;
      }
      serveFast(
        {
          rpc,
          dialect,
          form,
          headers,
          message,
          send: (answer) => send(stream, { dialect, form, answer }),
          fallThrough,
          destroy: () => stream.destroy(),
        },
        options,
      );
    });
    return true;
  };
}

/** A stream that has failed is closed, and that is all there is to do. */
function ignore(): void {}

function messageOf(body: Buffer, form: Form): Buffer | undefined {
  return form === "grpc" ? messageIn(body) : body;
}

interface Sending {
  readonly dialect: Dialect;
  readonly form: Form;
  readonly answer: FastAnswer;
}

function send(stream: ServerHttp2Stream, { dialect, form, answer }: Sending): void {
  // The client has left.
  if (stream.destroyed || stream.closed) return;
  const { body, worth, encoding, isCompressed } = answer;
  const head: Record<string, string | number> = { ":status": 200, "content-type": CONTENT_TYPES[form] };
  if (worth !== undefined) {
    head[VERSION] = worth.version;
    head[AGE] = worth.ageMs;
  }
  // gRPC names it though a short message is not compressed.
  if (encoding !== undefined && (isCompressed || dialect === GRPC)) head[dialect.encoding] = encoding;
  if (dialect === GRPC) {
    stream.respond(head, WITH_TRAILERS);
    stream.once("wantTrailers", sendOk);
  } else {
    head["content-length"] = body.length;
    stream.respond(head);
  }
  stream.end(body, "latin1");
}

const WITH_TRAILERS = { waitForTrailers: true };

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers({ "grpc-status": "0" });
}
