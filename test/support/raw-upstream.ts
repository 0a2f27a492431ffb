import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import {
  createServer as createHttp2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import { buffer } from "node:stream/consumers";
import { RPC_CODES } from "../../src/system/rpc-codes.ts";
import { listen } from "./listen.ts";

/** What an upstream sends, whether it makes sense or not. */
export type RawAnswer =
  /** Bytes where a message belongs. */
  | { readonly kind: "message"; readonly bytes: Uint8Array }
  /** As the service itself says no; the code as Connect names it. */
  | { readonly kind: "error"; readonly code: string; readonly message: string }
  /** What somebody on the way to it may say. */
  | {
      readonly kind: "page";
      readonly status: number;
      readonly contentType: string;
      readonly bytes: Uint8Array;
    };

export type Protocol = "connect" | "grpc";

/** An upstream that answers every RPC with the bytes a test gives it. */
export interface RawUpstream extends AsyncDisposable {
  /** As an upstream's settings have it. */
  readonly url: string;
  /** What it answers from now on, by the RPC's name. */
  answer: (method: string, request: Uint8Array) => RawAnswer;
}

export async function openRawUpstream(
  protocol: Protocol,
  answer: RawUpstream["answer"],
): Promise<RawUpstream> {
  const sessions = new Set<ServerHttp2Session>();
  const server =
    protocol === "grpc"
      ? createHttp2Server((request, response) => void handle(request, response))
      : createServer((request, response) => void handle(request, response));
  server.on("session", (session: ServerHttp2Session) => {
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
  });

  async function handle(
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ): Promise<void> {
    let body: Uint8Array;
    try {
      body = await buffer(request);
    } catch {
      // Whoever asked has gone.
      return;
    }
    const method = request.url?.split("/").at(-1) ?? "";
    if ("stream" in response) sendGrpc(response, upstream.answer(method, body.subarray(PREFIX_BYTES)));
    else sendConnect(response, upstream.answer(method, body));
  }

  const upstream: RawUpstream = {
    url: `${protocol === "grpc" ? "grpc" : "http"}://127.0.0.1:${await listen(server)}`,
    answer,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      if ("closeAllConnections" in server) server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return upstream;
}

function sendConnect(response: ServerResponse, answer: RawAnswer): void {
  switch (answer.kind) {
    case "message":
      response.writeHead(200, { "content-type": "application/proto" }).end(answer.bytes);
      break;
    case "error": {
      const { code, message } = answer;
      response.writeHead(500, { "content-type": "application/json" }).end(JSON.stringify({ code, message }));
      break;
    }
    case "page":
      response.writeHead(answer.status, { "content-type": answer.contentType }).end(answer.bytes);
  }
}

/** What gRPC has before each message. */
const PREFIX_BYTES = 5;

const GRPC_CODES: readonly string[] = RPC_CODES;

function sendGrpc(response: Http2ServerResponse, answer: RawAnswer): void {
  if (answer.kind === "page") {
    response.writeHead(answer.status, { "content-type": answer.contentType });
    response.end(answer.bytes);
    return;
  }
  response.writeHead(200, { "content-type": "application/grpc+proto" });
  if (answer.kind === "error") {
    const code = GRPC_CODES.indexOf(answer.code);
    response.addTrailers({
      "grpc-status": String(code < 0 ? 2 : code),
      "grpc-message": encodeURIComponent(answer.message),
    });
    response.end();
    return;
  }
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(answer.bytes.length, 1);
  response.addTrailers({ "grpc-status": "0" });
  response.end(Buffer.concat([prefix, answer.bytes]));
}
