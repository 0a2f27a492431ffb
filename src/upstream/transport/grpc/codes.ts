import { RPC_CODES } from "../../../system/rpc-codes.ts";

/** Connect's name of a `grpc-status`; `ok` for 0. One that gRPC does not know is unknown. */
export function codeOfStatus(status: string): string {
  return (/^\d{1,3}$/.test(status) ? RPC_CODES[Number(status)] : undefined) ?? "unknown";
}

/** HTTP/2's error codes, by number. */
const ERRORS: readonly string[] = [
  "NO_ERROR",
  "PROTOCOL_ERROR",
  "INTERNAL_ERROR",
  "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT",
  "STREAM_CLOSED",
  "FRAME_SIZE_ERROR",
  "REFUSED_STREAM",
  "CANCEL",
  "COMPRESSION_ERROR",
  "CONNECT_ERROR",
  "ENHANCE_YOUR_CALM",
  "INADEQUATE_SECURITY",
  "HTTP_1_1_REQUIRED",
];

/** For people. */
export function nameOfHttp2Error(code: number): string {
  return ERRORS[code] ?? `error ${code}`;
}
