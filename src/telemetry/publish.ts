import { Counter, Gauge, Histogram, type Registry } from "prom-client";
import type { BucketCounts } from "./bucket-counts.ts";
import type { MetricSpec } from "./metric-list.ts";

type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly value: number;
  readonly labels: Labels;
}

export interface Series {
  readonly counts: BucketCounts;
  readonly labels: Labels;
}

export function sample(value: number, labels: Labels = {}): Sample {
  return { value, labels };
}

/** 1 for the value that holds, 0 for the others, as Prometheus wants states. */
export function oneOf(
  label: string,
  values: readonly string[],
  holds: string,
  labels: Readonly<Record<string, string>> = {},
): readonly Sample[] {
  return values.map((value) => sample(value === holds ? 1 : 0, { ...labels, [label]: value }));
}

/** Publishes totals that are kept elsewhere: every scrape reads them anew. */
export function publishCounter(registry: Registry, spec: MetricSpec, read: () => readonly Sample[]): Counter {
  return new Counter({
    ...configuration(registry, spec),
    collect() {
      this.reset();
      for (const { labels, value } of read()) this.inc(labels, value);
    },
  });
}

export function publishGauge(registry: Registry, spec: MetricSpec, read: () => readonly Sample[]): Gauge {
  return new Gauge({
    ...configuration(registry, spec),
    collect() {
      this.reset();
      for (const { labels, value } of read()) this.set(labels, value);
    },
  });
}

export function publishHistogram(
  registry: Registry,
  spec: MetricSpec,
  read: () => readonly Series[],
): Histogram {
  return new PublishedHistogram(registry, spec, read);
}

/**
 * prom-client offers no way to set a histogram's buckets, and its `observe` hashes the labels every time.
 * So this one replaces where both the registry and `get` take a histogram's samples from.
 */
class PublishedHistogram extends Histogram {
  readonly #spec: MetricSpec;
  readonly #read: () => readonly Series[];

  constructor(registry: Registry, spec: MetricSpec, read: () => readonly Series[]) {
    super(configuration(registry, spec));
    this.#spec = spec;
    this.#read = read;
  }

  async getForPromString() {
    const { name, help, type } = this.#spec;
    return {
      name,
      help,
      type,
      aggregator: "sum",
      values: this.#read().flatMap((series) => samplesOf(name, series)),
    };
  }
}

function samplesOf(name: string, { counts, labels }: Series) {
  const buckets = counts.cumulative();
  return [
    ...buckets.map(({ le, count }) => ({
      metricName: `${name}_bucket`,
      labels: { le },
      sharedLabels: labels,
      value: count,
    })),
    { metricName: `${name}_sum`, labels: {}, sharedLabels: labels, value: counts.sum },
    { metricName: `${name}_count`, labels: {}, sharedLabels: labels, value: buckets.at(-1)?.count ?? 0 },
  ];
}

function configuration(registry: Registry, { name, help, labels }: MetricSpec) {
  return { name, help, labelNames: [...labels], registers: [registry] };
}
