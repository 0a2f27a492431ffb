import { readFileSync } from "node:fs";
import perfHooks from "node:perf_hooks";
import { expect, test, vi } from "vitest";
import { RPC_CODES } from "../system/rpc-codes.ts";
import { BucketCounts } from "./bucket-counts.ts";
import { METRICS, PROTOCOLS } from "./metric-list.ts";
import { createMetrics, type Gauges, type Metrics } from "./metrics.ts";

const EVALUATE = "pbflags.v1.FlagEvaluatorService/Evaluate";

test("counts evaluations by source, and shows sources that have not occurred as zero", async () => {
  using metrics = openMetrics();
  metrics.recordEvaluation("killed");
  metrics.recordEvaluation("killed");
  metrics.recordEvaluation("stale");

  const body = await bodyOf(metrics);
  expect(valueOf(body, 'pbflags_evaluations_total{source="killed",status="ok"}')).toBe(2);
  expect(valueOf(body, 'pbflags_evaluations_total{source="stale",status="ok"}')).toBe(1);
  expect(valueOf(body, 'pbflags_evaluations_total{source="default",status="ok"}')).toBe(0);
  expect(valueOf(body, 'pbflags_cache_hits_total{tier="kill_set"}')).toBe(2);
  expect(valueOf(body, 'pbflags_cache_misses_total{tier="kill_set"}')).toBe(1);
});

test("a scrape takes nothing away from the next one", async () => {
  using metrics = openMetrics();
  metrics.recordCacheHits("flags", 1);
  metrics.recordCacheMisses("overrides", 1);
  metrics.recordInvalidValue();
  metrics.recordDescriptorReload("held");
  await bodyOf(metrics);
  metrics.recordCacheHits("flags", 1);

  const body = await bodyOf(metrics);
  expect(valueOf(body, 'pbflags_cache_hits_total{tier="flags"}')).toBe(2);
  expect(valueOf(body, 'pbflags_cache_misses_total{tier="overrides"}')).toBe(1);
  expect(valueOf(body, "pbflags_invalid_values_total")).toBe(1);
  expect(valueOf(body, 'pbflags_descriptor_reloads_total{result="held"}')).toBe(1);
});

test("store calls fall into the buckets that dashboards know, failed ones too", async () => {
  using metrics = openMetrics();
  metrics.recordFetch({ backend: "db", operation: "flag_state", durationMs: 3, failed: false });
  metrics.recordFetch({ backend: "db", operation: "flag_state", durationMs: 5, failed: false });
  metrics.recordFetch({ backend: "db", operation: "flag_state", durationMs: 1_500, failed: true });

  const body = await bodyOf(metrics);
  const labels = 'backend="db",operation="flag_state"';
  const buckets = [...body.matchAll(/^pbflags_fetch_duration_seconds_bucket\{le="([^"]+)",/gm)].map(
    ([, le]) => le,
  );
  expect(buckets).toEqual(["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "+Inf"]);
  expect(valueOf(body, `pbflags_fetch_duration_seconds_bucket{le="0.001",${labels}}`)).toBe(0);
  expect(valueOf(body, `pbflags_fetch_duration_seconds_bucket{le="0.005",${labels}}`)).toBe(2);
  expect(valueOf(body, `pbflags_fetch_duration_seconds_bucket{le="1",${labels}}`)).toBe(2);
  expect(valueOf(body, `pbflags_fetch_duration_seconds_bucket{le="+Inf",${labels}}`)).toBe(3);
  expect(valueOf(body, `pbflags_fetch_duration_seconds_count{${labels}}`)).toBe(3);
  expect(valueOf(body, `pbflags_fetch_duration_seconds_sum{${labels}}`)).toBeCloseTo(1.508);
  expect(valueOf(body, `pbflags_fetch_failures_total{${labels}}`)).toBe(1);
});

test("counts RPCs by procedure, protocol and code, and times them by procedure", async () => {
  using metrics = openMetrics();
  metrics.recordRpc({ procedure: EVALUATE, protocol: "connect", code: "ok", durationMs: 0.2 });
  metrics.recordRpc({ procedure: EVALUATE, protocol: "grpc-web", code: "invalid_argument", durationMs: 2 });
  metrics.recordRpc({ procedure: EVALUATE, protocol: "grpc-web", code: "invalid_argument", durationMs: 2 });

  const body = await bodyOf(metrics);
  const requests = body.split("\n").filter((line) => line.startsWith("pbflags_rpc_requests_total{"));
  expect(requests).toEqual([
    `pbflags_rpc_requests_total{procedure="${EVALUATE}",protocol="connect",code="ok"} 1`,
    `pbflags_rpc_requests_total{procedure="${EVALUATE}",protocol="grpc-web",code="invalid_argument"} 2`,
  ]);
  expect(valueOf(body, `pbflags_rpc_duration_seconds_bucket{le="0.00025",procedure="${EVALUATE}"}`)).toBe(1);
  expect(valueOf(body, `pbflags_rpc_duration_seconds_count{procedure="${EVALUATE}"}`)).toBe(3);
});

test("counts which RPCs went the fast way", async () => {
  using metrics = openMetrics();
  const rpc = { procedure: EVALUATE, protocol: "connect", code: "ok", durationMs: 0.2 } as const;
  metrics.recordRpc(rpc);
  expect(await bodyOf(metrics)).not.toContain("pbflags_rpc_fast_total{");
  metrics.recordRpc({ ...rpc, isFast: true });
  const body = await bodyOf(metrics);
  expect(valueOf(body, `pbflags_rpc_fast_total{procedure="${EVALUATE}"}`)).toBe(1);
  expect(
    valueOf(body, `pbflags_rpc_requests_total{procedure="${EVALUATE}",protocol="connect",code="ok"}`),
  ).toBe(2);
});

test("gauges show what holds at the time of the scrape", async () => {
  using metrics = openMetrics();
  const state = { ...GAUGES };
  metrics.observe(state);
  state.killSetSize = 3;
  state.healthStatus = "degraded";
  state.breakerState = "half-open";

  const body = await bodyOf(metrics);
  expect(valueOf(body, "pbflags_kill_set_size")).toBe(3);
  expect(valueOf(body, "pbflags_override_cache_size")).toBe(17);
  expect(valueOf(body, "pbflags_health_consecutive_failures")).toBe(4);
  expect(valueOf(body, "pbflags_poller_last_success_timestamp")).toBe(1_767_225_600.5);
  expect(valueOf(body, "pbflags_state_age_seconds")).toBe(2.5);
  expect(valueOf(body, 'pbflags_health_status{status="degraded"}')).toBe(1);
  expect(valueOf(body, 'pbflags_health_status{status="serving"}')).toBe(0);
  expect(valueOf(body, 'pbflags_health_status{status="connecting"}')).toBe(0);
  expect(valueOf(body, 'pbflags_breaker_state{state="half-open"}')).toBe(1);
  expect(valueOf(body, 'pbflags_breaker_state{state="closed"}')).toBe(0);
});

test("a store that was never read has a poll time of 0 and an infinite age, so that alerts on both fire", async () => {
  using metrics = openMetrics();
  const body = await bodyOf(metrics);
  expect(valueOf(body, "pbflags_poller_last_success_timestamp")).toBe(0);
  expect(body).toMatch(/^pbflags_state_age_seconds \+Inf$/m);
  expect(valueOf(body, 'pbflags_health_status{status="connecting"}')).toBe(1);
});

test("10,000 ids that only callers know add no series", async () => {
  using metrics = openMetrics();
  metrics.recordRpc({
    procedure: "pbflags.v1.Nothing/First",
    protocol: "grpc",
    code: "unimplemented",
    durationMs: 1,
  });
  const before = seriesOf(await bodyOf(metrics));

  for (let i = 0; i < 10_000; i++) {
    const procedure = `pbflags.v1.Nothing/Method${i}`;
    metrics.recordRpc({ procedure, protocol: "grpc", code: "unimplemented", durationMs: 1 });
  }

  const body = await bodyOf(metrics);
  expect(seriesOf(body)).toEqual(before);
  expect(
    valueOf(body, 'pbflags_rpc_requests_total{procedure="other",protocol="grpc",code="unimplemented"}'),
  ).toBe(10_001);
});

test("series stay bounded when everything occurs that can", async () => {
  using metrics = openMetrics();
  for (const protocol of PROTOCOLS) {
    for (const code of RPC_CODES) metrics.recordRpc({ procedure: EVALUATE, protocol, code, durationMs: 1 });
  }
  const requests = [...seriesOf(await bodyOf(metrics))].filter((series) =>
    series.startsWith("pbflags_rpc_requests_total"),
  );
  expect(requests).toHaveLength(PROTOCOLS.length * RPC_CODES.length);
});

test("every metric of the list is published with its type and its help, and nothing else of ours is", async () => {
  using metrics = openMetrics();
  const body = await bodyOf(metrics);
  for (const { name, type, help } of Object.values(METRICS)) {
    expect(body).toContain(`# TYPE ${name} ${type}\n`);
    expect(body).toContain(`# HELP ${name} ${help}\n`);
  }
  const published = [...body.matchAll(/^# TYPE (pbflags_\w+)/gm)].map(([, name = ""]) => name);
  expect(published.toSorted()).toEqual(
    Object.values(METRICS)
      .map(({ name }) => name)
      .toSorted(),
  );
});

test("docs/telemetry.md names every metric with its labels", () => {
  const docs = readFileSync(new URL("../../docs/telemetry.md", import.meta.url), "utf8");
  for (const { name, labels } of Object.values(METRICS)) {
    expect(docs).toContain(`\`${labels.length === 0 ? name : `${name}{${labels.join(",")}}`}\``);
  }
});

test("the text is what Prometheus reads: no series twice, every line a comment or a sample", async () => {
  using metrics = openMetrics();
  metrics.recordRpc({ procedure: EVALUATE, protocol: "connect", code: "ok", durationMs: 0.2 });
  const { contentType, body } = await metrics.render();
  expect(contentType).toBe("text/plain; version=0.0.4; charset=utf-8");
  const lines = body.split("\n").filter((line) => line !== "" && !line.startsWith("# "));
  for (const line of lines) expect(line).toMatch(/^[a-z0-9_]+(\{[^}]*\})? (\+Inf|Nan|[0-9.e+-]+)$/);
  expect(new Set(lines.map(nameAndLabels)).size).toBe(lines.length);
  expect(body).toContain('pbflags_build_info{version="1.2.3"} 1');
});

test("Node's own metrics are observed once in a process, however often metrics are opened", async () => {
  const observers = vi.spyOn(perfHooks, "PerformanceObserver");
  const probes = vi.spyOn(perfHooks, "monitorEventLoopDelay");
  for (let i = 0; i < 5; i++) {
    using metrics = openMetrics();
    expect(await bodyOf(metrics)).toMatch(/^process_resident_memory_bytes \d+/m);
  }
  expect(observers.mock.calls.length).toBeLessThanOrEqual(1);
  expect(probes.mock.calls.length).toBeLessThanOrEqual(1);
});

test("closed metrics hold on to nothing they were shown", async () => {
  const metrics = openMetrics();
  metrics.observe(GAUGES);
  metrics[Symbol.dispose]();
  expect(await bodyOf(metrics)).not.toContain("pbflags_");
});

test("a value equal to a bound belongs to its bucket, and one above all bounds to infinity", () => {
  const counts = new BucketCounts([1, 2]);
  for (const value of [0, 1, 1.5, 2, 3]) counts.observe(value);
  expect(counts.cumulative()).toEqual([
    { le: "1", count: 2 },
    { le: "2", count: 4 },
    { le: "+Inf", count: 5 },
  ]);
  expect(counts.sum).toBe(7.5);
});

const GAUGES: Gauges = {
  killSetSize: 2,
  overrideCacheSize: 17,
  failuresInARow: 4,
  healthStatus: "serving",
  killsReadAtWallMs: Date.UTC(2026, 0, 1) + 500,
  stateAgeMs: 2_500,
  breakerState: "closed",
  feedConnected: true,
  stateRevision: 7,
  upstreams: [],
};

function openMetrics(): Metrics {
  return createMetrics({ version: "1.2.3", procedures: [EVALUATE] });
}

async function bodyOf(metrics: Metrics): Promise<string> {
  return (await metrics.render()).body;
}

/** Undefined if there is no such series. */
function valueOf(body: string, series: string): number | undefined {
  const line = body.split("\n").find((candidate) => nameAndLabels(candidate) === series);
  return line === undefined ? undefined : Number(line.slice(series.length + 1));
}

function seriesOf(body: string): ReadonlySet<string> {
  return new Set(
    body
      .split("\n")
      .filter((line) => line.startsWith("pbflags_"))
      .map(nameAndLabels),
  );
}

function nameAndLabels(line: string): string {
  return line.slice(0, line.lastIndexOf(" "));
}
