import { Code, ConnectError } from "@connectrpc/connect";
import { encodeEnvelope, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { trailerFlag, trailerParse, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import { bytesOf, noBytes, oneChunk } from "./chunks.ts";
import type { RpcProtocol } from "./codes.ts";

/** An answer to a unary call that was turned away before it reached its implementation. */
export interface Refusal {
  readonly code: Code;
  readonly response: UniversalServerResponse;
}

/**
 * Sees to a call that Connect itself refused. What cannot be parsed or inflated is the caller's mistake:
 * connect-es calls that INTERNAL, other implementations of Connect and gRPC (and we) INVALID_ARGUMENT.
 */
export async function refuse(protocol: RpcProtocol, response: UniversalServerResponse): Promise<Refusal> {
  if (response.status !== 200) return refuseConnect(response);
  return protocol === "grpc" ? refuseGrpc(response) : refuseGrpcWeb(response);
}

async function refuseConnect(response: UniversalServerResponse): Promise<Refusal> {
  const body = await bytesOf(response.body);
  const error = connectErrorIn(body);
  if (error === undefined)
    return { code: Code.Unimplemented, response: { ...response, body: oneChunk(body) } };
  const code = callersMistake(error.code);
  const bytes = errorToJsonBytes(new ConnectError(error.rawMessage, code), undefined);
  const header = new Headers(response.header);
  header.set("content-length", String(bytes.length));
  return { code, response: { status: codeToHttpStatus(code), header, body: oneChunk(bytes) } };
}

/** Undefined for the refusals of HTTP alone, such as 405 and 415, which have no body. */
function connectErrorIn(body: Uint8Array): ConnectError | undefined {
  try {
    return errorFromJsonBytes(body, undefined, new ConnectError("not a Connect error"));
  } catch {
    return undefined;
  }
}

async function refuseGrpc(response: UniversalServerResponse): Promise<Refusal> {
  // Reading to the end fills in the trailers; there is nothing else.
  await bytesOf(response.body);
  const trailer = new Headers(response.trailer);
  const code = correctStatus(trailer);
  return { code, response: { ...response, body: noBytes(), trailer } };
}

/** The trailers are all there is of the body: one envelope. */
async function refuseGrpcWeb(response: UniversalServerResponse): Promise<Refusal> {
  const envelope = await bytesOf(response.body);
  const trailer = trailerParse(envelope.subarray(ENVELOPE_HEADER_BYTES));
  const code = correctStatus(trailer);
  return {
    code,
    response: { ...response, body: oneChunk(encodeEnvelope(trailerFlag, trailerSerialize(trailer))) },
  };
}

const ENVELOPE_HEADER_BYTES = 5;

const CODES = new Map(
  Object.values(Code)
    .filter((code) => typeof code !== "string")
    .map((code) => [String(code), code]),
);

function correctStatus(trailer: Headers): Code {
  const code = callersMistake(CODES.get(trailer.get("grpc-status") ?? "") ?? Code.Unknown);
  trailer.set("grpc-status", String(code));
  return code;
}

function callersMistake(code: Code): Code {
  return code === Code.Internal ? Code.InvalidArgument : code;
}
