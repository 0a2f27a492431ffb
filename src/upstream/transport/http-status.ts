/** What a status of HTTP means that no service of ours has sent. Connect and gRPC agree on it. */
export function codeOfHttpStatus(status: number): string {
  return CODE_OF_STATUS[status] ?? "unknown";
}

const CODE_OF_STATUS: Readonly<Record<number, string>> = {
  400: "internal",
  401: "unauthenticated",
  403: "permission_denied",
  404: "unimplemented",
  429: "unavailable",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};
