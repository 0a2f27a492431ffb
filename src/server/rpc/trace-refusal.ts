import type { Rpc } from "../../telemetry/call-counts.ts";
import type { TracedRpc, Tracing } from "../../telemetry/tracing.ts";

/**
 * A span for a call that was turned away before anything began that could be traced. One whose client left before its
 * message was there leaves none, whichever way the call would have gone.
 */
export function traceRefusal(
  tracing: Pick<Tracing, "traceRpc"> | undefined,
  { procedure, protocol, code }: Rpc,
  header: TracedRpc["header"],
): void {
  if (tracing === undefined || code === "canceled") return;
  const refuse = () => Promise.reject(new Error(code));
  tracing.traceRpc({ procedure, protocol, header, codeOf: () => code }, refuse).catch(() => {});
}
