import type { Logger } from "../telemetry/logger.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { PoolEvents } from "../upstream/pool/upstream-pool.ts";

export interface PoolReporters {
  readonly metrics: Pick<
    Metrics,
    "recordUpstreamCall" | "recordUpstreamRetry" | "recordUpstreamRejection" | "recordUpstreamBreakerChange"
  >;
  readonly logger: Logger;
}

/** Turns what happens in a pool of upstreams into metrics and log lines. */
export function reportPool({
  metrics,
  logger,
}: PoolReporters): Omit<PoolEvents, "onUsable" | "onDescriptorHash"> {
  return {
    onCall: (upstream, operation, durationMs, error) =>
      metrics.recordUpstreamCall(upstream, operation, durationMs, error),
    onRetry: (upstream) => metrics.recordUpstreamRetry(upstream),
    onRejected: (upstream, reason) => metrics.recordUpstreamRejection(upstream, reason),
    onBreakerChange(upstream, { from, to, lastFailure }) {
      metrics.recordUpstreamBreakerChange(upstream, to);
      if (to === "open") {
        const reason = lastFailure === undefined ? undefined : reasonOf(lastFailure.error);
        logger.warn("upstream_breaker_opened", { upstream, reason });
      } else if (to === "closed") logger.info("upstream_breaker_closed", { upstream, from });
    },
    onStateChange(upstream, state, reason) {
      if (state === "up") logger.info("upstream_up", { upstream, reason });
      else if (state === "draining") logger.info("upstream_draining", { upstream, reason });
      else if (state === "down") logger.warn("upstream_down", { upstream, reason });
      else logger.error("upstream_refused", { upstream, reason });
    },
    onDegraded(upstream, isDegraded) {
      if (isDegraded)
        logger.warn("upstream_degraded", {
          upstream,
          msg: "its own store does not answer: it tells what it knows",
        });
      else logger.info("upstream_recovered", { upstream, msg: "its own store answers again" });
    },
  };
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
