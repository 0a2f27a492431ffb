import type { HttpServerOptions } from "../server/http-server.ts";
import type { RouteOptions } from "../server/routes.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { DaemonDeps } from "./deps.ts";

export interface ServerReporters {
  readonly metrics: Pick<Metrics, "recordRpc" | "recordConnectionDropped">;
  readonly logger: DaemonDeps["logger"];
}

type Reports = Pick<HttpServerOptions, "onDrop" | "onInternalError"> &
  Pick<Required<RouteOptions>, "onRpc" | "onStalled">;

/** What happens on a port, to metrics and the log. */
export function reportServer({ metrics, logger }: ServerReporters): Reports {
  return {
    onRpc: (rpc) => metrics.recordRpc(rpc),
    onStalled(procedure) {
      metrics.recordConnectionDropped("stalled");
      logger.warn("stream_cut", { msg: "its client took nothing for ten seconds", procedure });
    },
    onInternalError: (error, where) => logger.error("internal_error", { where, err: error }),
    onDrop(reason) {
      metrics.recordConnectionDropped(reason);
      logger.warn("connection_dropped", { reason });
    },
  };
}
