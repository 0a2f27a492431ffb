import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { RPC_CODES, type RpcCode } from "../../system/rpc-codes.ts";
import type { Rpc } from "../../telemetry/call-counts.ts";

export type RpcProtocol = Rpc["protocol"];

/** `package.Service/Method`. */
export function procedureOf(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** What a request with this content type speaks. Connect GET has none. */
export function protocolOf(contentType: string | null | undefined): RpcProtocol {
  if (contentType?.startsWith("application/grpc-web")) return "grpc-web";
  return contentType?.startsWith("application/grpc") ? "grpc" : "connect";
}

/** Connect's name of a code, for metrics and traces. */
export function nameOf(code: Code): RpcCode {
  const name = codeToString(code);
  return RPC_CODES.find((known) => known === name) ?? "unknown";
}

/** The code with which a caller is told of an error: what is no `ConnectError` is our own bug. */
export function codeOf(error: unknown): Code {
  return error instanceof ConnectError ? error.code : Code.Internal;
}
