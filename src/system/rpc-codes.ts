/** How RPCs end, in Connect's spelling for every protocol; in the order of gRPC's numbers, which are their places. */
export const RPC_CODES = [
  "ok",
  "canceled",
  "unknown",
  "invalid_argument",
  "deadline_exceeded",
  "not_found",
  "already_exists",
  "permission_denied",
  "resource_exhausted",
  "failed_precondition",
  "aborted",
  "out_of_range",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
  "unauthenticated",
] as const;

export type RpcCode = (typeof RPC_CODES)[number];
