import { expect, test } from "vitest";
import { addGone, type ProcessMetrics, renderTogether } from "./add-up.ts";
import { createMetrics, type Gauges } from "./metrics.ts";

const EVALUATE = "pbflags.v1.FlagEvaluatorService/Evaluate";
const NOBODY: ProcessMetrics = [];

interface Told {
  readonly evaluations?: number;
  readonly fetches?: number;
  readonly gauges?: Partial<Gauges>;
}

/** What a process tells in which so much has happened, copied as it is on its way to another process. */
async function told({ evaluations = 0, fetches = 0, gauges = {} }: Told): Promise<ProcessMetrics> {
  using metrics = createMetrics({ version: "1.2.3", procedures: [EVALUATE] });
  for (let i = 0; i < evaluations; i++) {
    metrics.recordEvaluation("global");
    metrics.recordCacheHits("flags", 1);
    metrics.recordRpc({ procedure: EVALUATE, protocol: "grpc", code: "ok", durationMs: 0.3 });
  }
  for (let i = 0; i < fetches; i++)
    metrics.recordFetch({ backend: "db", operation: "overrides", durationMs: 3, failed: true });
  metrics.observe({ ...calm, ...gauges });
  return structuredClone(await metrics.collect());
}

const calm: Gauges = {
  killSetSize: 0,
  overrideCacheSize: 0,
  failuresInARow: 0,
  healthStatus: "serving",
  killsReadAtWallMs: 1_000,
  stateAgeMs: 1_000,
  breakerState: "closed",
  stateRevision: 7,
  feedConnected: true,
  upstreams: [],
};

async function together(metrics: Partial<Parameters<typeof renderTogether>[0]>) {
  const { body } = await renderTogether({ primary: NOBODY, workers: [], gone: NOBODY, ...metrics });
  return (series: string) => {
    const line = body.split("\n").find((each) => each.startsWith(`${series} `));
    return line === undefined ? undefined : Number(line.slice(series.length).replace("Inf", "Infinity"));
  };
}

test("counts and histograms of workers add up", async () => {
  const valueOf = await together({
    primary: await told({}),
    workers: [await told({ evaluations: 2 }), await told({ evaluations: 3 })],
  });
  expect(valueOf('pbflags_evaluations_total{source="global",status="ok"}')).toBe(5);
  expect(valueOf(`pbflags_rpc_requests_total{procedure="${EVALUATE}",protocol="grpc",code="ok"}`)).toBe(5);
  expect(valueOf(`pbflags_rpc_duration_seconds_bucket{le="0.0005",procedure="${EVALUATE}"}`)).toBe(5);
  expect(valueOf(`pbflags_rpc_duration_seconds_count{procedure="${EVALUATE}"}`)).toBe(5);
});

test("what the primary does on behalf of workers is counted once", async () => {
  const valueOf = await together({
    primary: await told({ evaluations: 4, fetches: 1 }),
    workers: [await told({ evaluations: 4, fetches: 2 })],
  });
  expect(valueOf('pbflags_cache_hits_total{tier="flags"}')).toBe(4);
  expect(valueOf('pbflags_fetch_failures_total{backend="db",operation="overrides"}')).toBe(1);
});

test("states are the primary's, and where processes differ the one that is behind is shown", async () => {
  const valueOf = await together({
    primary: await told({ gauges: { killSetSize: 2, healthStatus: "degraded", stateAgeMs: 2_000 } }),
    workers: [
      await told({
        gauges: { stateAgeMs: Number.POSITIVE_INFINITY, stateRevision: 6, overrideCacheSize: 8 },
      }),
      await told({ gauges: { stateAgeMs: 3_000, feedConnected: false, overrideCacheSize: 5 } }),
    ],
  });
  expect(valueOf("pbflags_kill_set_size")).toBe(2);
  expect(valueOf('pbflags_health_status{status="degraded"}')).toBe(1);
  expect(valueOf('pbflags_health_status{status="serving"}')).toBe(0);
  expect(valueOf("pbflags_state_age_seconds")).toBe(Number.POSITIVE_INFINITY);
  expect(valueOf("pbflags_state_revision")).toBe(6);
  expect(valueOf("pbflags_feed_connected")).toBe(0);
  expect(valueOf("pbflags_override_cache_size")).toBe(8);
  expect(valueOf('pbflags_build_info{version="1.2.3"}')).toBe(1);
});

test("what workers had counted that are gone is kept, and what they were like is not", async () => {
  let gone = NOBODY;
  for (const evaluations of [1, 10])
    gone = await addGone(gone, await told({ evaluations, gauges: { stateAgeMs: 90_000 } }));
  const valueOf = await together({
    primary: await told({}),
    workers: [await told({ evaluations: 100 })],
    gone,
  });
  expect(valueOf('pbflags_evaluations_total{source="global",status="ok"}')).toBe(111);
  expect(valueOf(`pbflags_rpc_duration_seconds_bucket{le="+Inf",procedure="${EVALUATE}"}`)).toBe(111);
  expect(valueOf("pbflags_state_age_seconds")).toBe(1);
});

test("Node's own are those of all processes, but for the start, which is the primary's", async () => {
  const [primary, worker] = [await told({}), await told({})];
  const valueOf = await together({ primary, workers: [worker] });
  const single = (metrics: ProcessMetrics, name: string) =>
    metrics.find((metric) => metric.name === name)?.values[0]?.value ?? Number.NaN;
  const memory = "process_resident_memory_bytes";
  expect(valueOf(memory)).toBe(single(primary, memory) + single(worker, memory));
  const start = "process_start_time_seconds";
  expect(valueOf(start)).toBe(single(primary, start));
});
