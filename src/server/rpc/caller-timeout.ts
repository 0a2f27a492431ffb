/** Timers of Node take no more than this, 24 days. Asked for more, they fire at once and print a warning. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/** gRPC's units of time that can be too long, in milliseconds. */
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000 };

/** Shortens a timeout that the caller sent to what a timer can hold. What is no timeout is left as it is. */
export function shortenCallerTimeout(headers: Headers): void {
  const connect = headers.get("connect-timeout-ms");
  if (connect !== null && /^\d+$/.test(connect) && Number(connect) > TIMEOUT_MS_MAX) {
    headers.set("connect-timeout-ms", String(TIMEOUT_MS_MAX));
  }
  const [, amount = "", unit = ""] = /^(\d+)([HMS])$/.exec(headers.get("grpc-timeout") ?? "") ?? [];
  if (Number(amount) * (UNIT_MS[unit] ?? 0) > TIMEOUT_MS_MAX) {
    headers.set("grpc-timeout", `${Math.floor(TIMEOUT_MS_MAX / 1_000)}S`);
  }
}
