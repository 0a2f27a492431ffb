import type { Config } from "../config/settings.ts";
import type { DependencyCheck } from "../health/dependency-health.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Readiness } from "../namespaces/readiness.ts";
import type { OpenListener } from "../server/listener/open-listener.ts";
import type { RouteOptions } from "../server/routes.ts";
import type { RenderedMetrics } from "../telemetry/metrics.ts";

/** What a process is that is a daemon together with others. */
export type DaemonPart = PrimaryPart | WorkerPart;

/** Knows the store, and tells the workers. Nobody else calls it but for the admin service. */
export interface PrimaryPart {
  readonly kind: "primary";
  /** For the workers. */
  readonly limits: Config["limits"];
}

/** Answers callers with what the primary knows, its one upstream. */
export interface WorkerPart {
  readonly kind: "worker";
  readonly openListener: OpenListener;
  /** How the primary's store has been answering. */
  readonly health: Namespace["health"];
  /** Of all processes. */
  readonly readiness: Pick<Readiness, "reached" | "wait">;
  /** What /readyz shows of the dependencies, those of this process included. */
  checks(own: readonly DependencyCheck[]): readonly DependencyCheck[];
  /** The metrics of all processes. */
  metrics(): Promise<RenderedMetrics>;
  /** Shows the primary's upstreams. */
  readonly upstreamService: RouteOptions["upstreamService"];
}
