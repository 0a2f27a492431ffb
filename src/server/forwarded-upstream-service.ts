import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { codeFromString, codeToString } from "@connectrpc/connect/protocol-connect";
import { UpstreamService } from "../gen/pbflagd/v1/upstreams_pb.ts";
import type { Clock } from "../system/clock.ts";
import { type Deadline, withDeadline } from "../upstream/transport/deadline.ts";
import type { Transport } from "../upstream/transport/transport.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";

export interface ForwardOptions {
  readonly to: Pick<Transport, "call" | "target">;
  /** Longest wait for an answer; a caller may allow less. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Shows the upstreams that another process has. */
export function forwardUpstreamService(options: ForwardOptions): ServiceImpl<typeof UpstreamService> {
  const { to, clock } = options;
  const { listUpstreams, resetUpstream, checkUpstreams } = UpstreamService.method;

  function inTime<T>(caller: HandlerContext, ask: (deadline: Deadline) => Promise<T>): Promise<T> {
    const timeoutMs = Math.min(options.timeoutMs, caller.timeoutMs() ?? Infinity);
    return withDeadline({ timeoutMs, clock, outer: caller.signal }, ask).catch((error: unknown) => {
      throw toConnectError(error, to.target);
    });
  }

  return {
    listUpstreams: (request, caller) =>
      inTime(caller, (deadline) => to.call(listUpstreams, request, deadline)),
    resetUpstream: (request, caller) =>
      inTime(caller, (deadline) => to.call(resetUpstream, request, deadline)),
    checkUpstreams: (request, caller) =>
      inTime(caller, (deadline) => to.call(checkUpstreams, request, deadline)),
  };
}

/** What the other process answered is passed on; that it could not be asked is no mistake of the caller's. */
function toConnectError(error: unknown, target: string): unknown {
  if (error instanceof ConnectError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof UpstreamError && error.answered ? codeFromString(error.code) : undefined;
  if (code === undefined) return new ConnectError(message, Code.Unavailable);
  // Callers do not know that there is another process.
  return new ConnectError(message.replace(`${target} answered ${codeToString(code)}: `, ""), code);
}
