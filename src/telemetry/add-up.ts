import { AggregatorRegistry, type MetricObjectWithValues, type MetricValue } from "prom-client";
import { ACROSS } from "./metric-list.ts";
import type { RenderedMetrics } from "./metrics.ts";

/** All metrics of one process, in a form that travels to another. */
export type ProcessMetrics = readonly MetricObjectWithValues<MetricValue<string>>[];

/** The processes of one daemon. */
export interface DaemonMetrics {
  readonly primary: ProcessMetrics;
  readonly workers: readonly ProcessMetrics[];
  /** What workers had counted that are gone; see `addGone`. */
  readonly gone: ProcessMetrics;
}

/** What several processes come to together, in Prometheus' text format. */
export async function renderTogether({ primary, workers, gone }: DaemonMetrics): Promise<RenderedMetrics> {
  const registry = AggregatorRegistry.aggregate([
    toShare(primary, "primary"),
    ...[...workers, gone].map((metrics) => toShare(metrics, "worker")),
  ]);
  return { contentType: registry.contentType, body: await registry.metrics() };
}

/** Keeps what a worker had counted when it was last heard, so that no total ever falls. */
export async function addGone(gone: ProcessMetrics, last: ProcessMetrics): Promise<ProcessMetrics> {
  const counted = last.filter(({ type }) => String(type) === "counter" || String(type) === "histogram");
  return AggregatorRegistry.aggregate([[...gone], counted]).getMetricsAsJSON();
}

/** What one process has to say in the sum, each metric with the way in which it is taken together. */
function toShare(metrics: ProcessMetrics, role: "primary" | "worker"): object[] {
  return metrics.flatMap((metric) => {
    const across = ACROSS.get(metric.name);
    // Node's own say themselves how. What they leave out, such as the start time, is the primary's.
    if (across === undefined) {
      if (metric.aggregator !== "omit") return metric;
      return role === "primary" ? { ...metric, aggregator: "first" } : [];
    }
    if ((across === "primary" && role !== "primary") || (across === "workers" && role !== "worker"))
      return [];
    const isAlone = across === "primary" || across === "workers";
    return { ...metric, aggregator: isAlone ? "sum" : across };
  });
}
