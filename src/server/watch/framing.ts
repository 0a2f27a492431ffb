import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";
import type { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { parseTimeout as parseConnectTimeout } from "@connectrpc/connect/protocol-connect";
import { parseTimeout as parseGrpcTimeout } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import type { HttpResponse } from "../listener/exchange.ts";
import { nameOf, type RpcProtocol } from "../rpc/codes.ts";
import type { Format } from "./told-kills.ts";

/** How a protocol wraps a streaming answer of messages that are not compressed. */
export interface Framing {
  readonly protocol: RpcProtocol;
  readonly format: Format;
  readonly headers: OutgoingHttpHeaders;
  /** In which the request may say how its message is compressed. */
  readonly encodingHeader: string;
  /** How long the caller wants the stream to last; undefined: without an end. Throws a `ConnectError` if it cannot be read. */
  timeoutMs(headers: IncomingHttpHeaders): number | undefined;
  /** Says how the stream ended; without an error, well. */
  end(response: HttpResponse, error?: ConnectError): void;
}

type Protocol = Omit<Framing, "format" | "headers">;

/** Connect's flag of the last envelope. */
const END_FLAG = 2;

const connect: Protocol = {
  protocol: "connect",
  encodingHeader: "connect-content-encoding",
  timeoutMs: (headers) => timeoutIn(headers["connect-timeout-ms"], parseConnectTimeout),
  end(response, error) {
    const end = error === undefined ? {} : { error: { code: nameOf(error.code), message: error.rawMessage } };
    response.end(encodeEnvelope(END_FLAG, Buffer.from(JSON.stringify(end))));
  },
};

const grpc: Protocol = {
  protocol: "grpc",
  encodingHeader: "grpc-encoding",
  timeoutMs: (headers) => timeoutIn(headers["grpc-timeout"], parseGrpcTimeout),
  end(response, error) {
    response.addTrailers(grpcStatus(error));
    response.end();
  },
};

const grpcWeb: Protocol = {
  ...grpc,
  protocol: "grpc-web",
  end(response, error) {
    response.end(encodeEnvelope(trailerFlag, trailerSerialize(new Headers(grpcStatus(error)))));
  },
};

function grpcStatus(error: ConnectError | undefined): Record<string, string> {
  const status = { "grpc-status": String(error?.code ?? 0) };
  return error === undefined ? status : { ...status, "grpc-message": encodeURI(error.rawMessage) };
}

function timeoutIn(
  header: string | readonly string[] | undefined,
  parse: typeof parseConnectTimeout,
): number | undefined {
  if (header === undefined) return undefined;
  const { timeoutMs, error } = parse(String(header), Infinity);
  if (error !== undefined) throw error;
  return timeoutMs;
}

const PROTOCOLS: Readonly<Record<string, Protocol>> = { connect, grpc, "grpc-web": grpcWeb };

const CONTENT_TYPE =
  /^application\/(connect(?=\+)|grpc|grpc-web)(?:\+(?:proto|(json)(?:; ?charset=utf-?8)?))?$/i;

/** Undefined: nothing in which a stream can be asked for. */
export function framingOf(contentType: string | undefined): Framing | undefined {
  const [, name = "", json] = CONTENT_TYPE.exec(contentType ?? "") ?? [];
  const protocol = PROTOCOLS[name.toLowerCase()];
  if (protocol === undefined) return undefined;
  const format = json === undefined ? "proto" : "json";
  const headers = { "content-type": `application/${name.toLowerCase()}+${format}` };
  return { ...protocol, format, headers };
}
