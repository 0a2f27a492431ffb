import type { OutgoingHttpHeaders } from "node:http";
import { create, type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import type { HttpRequest, HttpResponse } from "../listener/exchange.ts";
import { nameOf, type RpcProtocol } from "../rpc/codes.ts";

/** How a protocol wraps a streaming answer of messages that are not compressed. */
export interface Framing {
  readonly protocol: RpcProtocol;
  readonly headers: OutgoingHttpHeaders;
  /** Says how the stream ended; without an error, well. */
  end(response: HttpResponse, error?: ConnectError): void;
}

/** Connect's flag of the last envelope. */
const END_FLAG = 2;

const connect: Framing = {
  protocol: "connect",
  headers: { "content-type": "application/connect+proto" },
  end(response, error) {
    const end = error === undefined ? {} : { error: { code: nameOf(error.code), message: error.rawMessage } };
    response.end(encodeEnvelope(END_FLAG, Buffer.from(JSON.stringify(end))));
  },
};

const grpc: Framing = {
  protocol: "grpc",
  headers: { "content-type": "application/grpc+proto" },
  end(response, error) {
    response.addTrailers({
      "grpc-status": String(error?.code ?? 0),
      ...(error === undefined ? {} : { "grpc-message": encodeURI(error.rawMessage) }),
    });
    response.end();
  },
};

/** Headers of a call that asks for more than the plain thing: a time limit, compression. */
const DEMANDS = ["connect-timeout-ms", "grpc-timeout", "connect-content-encoding", "grpc-encoding"];

/** Undefined for what is better left to Connect's own implementation of the protocols. */
export function framingOf({ method, headers, httpVersionMajor }: HttpRequest): Framing | undefined {
  if (method !== "POST" || DEMANDS.some((name) => headers[name] !== undefined)) return undefined;
  const type = headers["content-type"];
  if (type === "application/connect+proto") return connect;
  const isGrpc = type === "application/grpc" || type === "application/grpc+proto";
  return isGrpc && httpVersionMajor === 2 ? grpc : undefined;
}

/** A flag and four bytes of length stand before a message. */
const PREFIX_BYTES = 5;

/** The one message of a streaming call. Throws INVALID_ARGUMENT if it is another, none, or not the only one. */
export function parseRequest<I extends DescMessage>(schema: I, body: Uint8Array): MessageShape<I> {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const isOne =
    bytes.length >= PREFIX_BYTES && bytes[0] === 0 && bytes.readUInt32BE(1) === bytes.length - PREFIX_BYTES;
  if (!isOne) throw new ConnectError("Cannot read the request: must be one message", Code.InvalidArgument);
  // As most callers have it.
  if (bytes.length === PREFIX_BYTES) return create(schema);
  try {
    return fromBinary(schema, bytes.subarray(PREFIX_BYTES));
  } catch (cause) {
    const message = `Cannot read the request: must be a ${schema.typeName}`;
    throw new ConnectError(message, Code.InvalidArgument, undefined, undefined, cause);
  }
}
