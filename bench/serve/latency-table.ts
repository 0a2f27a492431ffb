import { median, toTable } from "../table.ts";
import { type MeasuredLatency, UNDISTURBED } from "./latency.ts";

const HEAD = [
  "Meanwhile",
  "p50 ms",
  "p99",
  "p99.9",
  "max",
  `p99 to ${UNDISTURBED}`,
  "missing or wrong",
  "CPU µs a request",
  "RSS MiB",
];

/** All that was measured, as a table in Markdown. */
export function describeLatencies(measured: ReadonlyMap<string, readonly MeasuredLatency[]>): string {
  const undisturbed = measured.get(UNDISTURBED) ?? [];
  return toTable(
    HEAD,
    [...measured].map(([name, results]) => [name, ...describeOne(results, undisturbed)]),
  );
}

function describeOne(
  results: readonly MeasuredLatency[],
  undisturbed: readonly MeasuredLatency[],
): readonly string[] {
  const middle = (of: (each: MeasuredLatency) => number) => median(results.map(of));
  const ratios = results.map(
    ({ latencyMs }, i) => latencyMs.p99 / (undisturbed[i]?.latencyMs.p99 ?? Number.NaN),
  );
  return [
    middle(({ latencyMs }) => latencyMs.p50).toFixed(2),
    middle(({ latencyMs }) => latencyMs.p99).toFixed(2),
    middle(({ latencyMs }) => latencyMs.p999).toFixed(2),
    middle(({ latencyMs }) => latencyMs.max).toFixed(2),
    median(ratios).toFixed(2),
    String(results.reduce((sum, { wrong }) => sum + wrong, 0)),
    middle(({ cpuMicrosPerRequest }) => cpuMicrosPerRequest).toFixed(1),
    middle(({ residentBytes }) => residentBytes / 2 ** 20).toFixed(0),
  ];
}
