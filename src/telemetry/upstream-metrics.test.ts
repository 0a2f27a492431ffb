import { expect, test } from "vitest";
import { UPSTREAM_REJECTIONS } from "./metric-list.ts";
import { createMetrics, type Gauges, type Metrics } from "./metrics.ts";
import type { UpstreamGauges } from "./publish-upstreams.ts";

test("calls of upstreams are timed and their failures counted, by upstream and operation", async () => {
  using metrics = openMetrics(() => [gaugesOf("a"), gaugesOf("b")]);
  metrics.recordUpstreamCall("a", "flag_state", 3, undefined);
  metrics.recordUpstreamCall("a", "flag_state", 300, new Error("gone"));
  metrics.recordUpstreamCall("a", "descriptor_set", 1, undefined);
  metrics.recordUpstreamCall("b", "flag_state", 1, null);

  const series = await seriesOf(metrics);
  const ofA = 'upstream="a",operation="flag_state"';
  expect(series.get(`pbflags_upstream_request_duration_seconds_bucket{le="0.005",${ofA}}`)).toBe(1);
  expect(series.get(`pbflags_upstream_request_duration_seconds_bucket{le="0.5",${ofA}}`)).toBe(2);
  expect(series.get(`pbflags_upstream_request_duration_seconds_sum{${ofA}}`)).toBeCloseTo(0.303);
  expect(failuresIn(series)).toEqual([
    ['pbflags_upstream_failures_total{upstream="a",operation="flag_state"}', 1],
    ['pbflags_upstream_failures_total{upstream="a",operation="descriptor_set"}', 0],
    ['pbflags_upstream_failures_total{upstream="b",operation="flag_state"}', 1],
  ]);
});

test("retries, rejections and changes of breakers are counted by upstream, and shown as zero before the first", async () => {
  using metrics = openMetrics(() => [gaugesOf("a"), gaugesOf("b")]);
  metrics.recordUpstreamRetry("a");
  metrics.recordUpstreamRetry("a");
  metrics.recordUpstreamRejection("a", "retry_budget");
  metrics.recordUpstreamBreakerChange("a", "half-open");

  const series = await seriesOf(metrics);
  expect(series.get('pbflags_upstream_retries_total{upstream="a"}')).toBe(2);
  expect(series.get('pbflags_upstream_retries_total{upstream="b"}')).toBe(0);
  for (const reason of UPSTREAM_REJECTIONS) {
    const name = (upstream: string) =>
      `pbflags_upstream_rejected_total{upstream="${upstream}",reason="${reason}"}`;
    expect(series.get(name("a"))).toBe(reason === "retry_budget" ? 1 : 0);
    expect(series.get(name("b"))).toBe(0);
  }
  const changes = 'pbflags_upstream_breaker_changes_total{upstream="a",state=';
  expect(series.get(`${changes}"half-open"}`)).toBe(1);
  expect(series.get(`${changes}"open"}`)).toBe(0);
});

test("gauges show how each upstream is at the time of the scrape", async () => {
  let pool = [gaugesOf("a"), gaugesOf("b", { state: "refused", score: -3, breaker: "open", inFlight: 7 })];
  using metrics = openMetrics(() => pool);
  const before = await seriesOf(metrics);
  expect(before.get('pbflags_upstream_state{upstream="a",state="up"}')).toBe(1);
  expect(before.get('pbflags_upstream_state{upstream="a",state="draining"}')).toBe(0);
  expect(before.get('pbflags_upstream_state{upstream="b",state="refused"}')).toBe(1);
  expect(before.get('pbflags_upstream_score{upstream="b"}')).toBe(-3);
  expect(before.get('pbflags_upstream_breaker_state{upstream="b",state="open"}')).toBe(1);
  expect(before.get('pbflags_upstream_breaker_state{upstream="b",state="closed"}')).toBe(0);
  expect(before.get('pbflags_upstream_in_flight{upstream="b"}')).toBe(7);

  pool = [gaugesOf("a", { state: "down" })];
  const after = await seriesOf(metrics);
  expect(after.get('pbflags_upstream_state{upstream="a",state="down"}')).toBe(1);
  expect(after.get('pbflags_upstream_state{upstream="a",state="up"}')).toBe(0);
});

test("an upstream that leaves the pool takes its series along, and starts from zero if it comes back", async () => {
  let pool = [gaugesOf("a"), gaugesOf("b")];
  using metrics = openMetrics(() => pool);
  for (const name of ["a", "b"]) {
    metrics.recordUpstreamCall(name, "overrides", 1, new Error("gone"));
    metrics.recordUpstreamRetry(name);
  }
  pool = [gaugesOf("a")];
  // Of a call that was under way when it left.
  metrics.recordUpstreamCall("b", "overrides", 1, undefined);
  const names = [...(await seriesOf(metrics)).keys()];
  expect(names.filter((name) => name.includes('upstream="b"'))).toEqual([]);
  expect(names).toContain('pbflags_upstream_retries_total{upstream="a"}');

  pool = [gaugesOf("a"), gaugesOf("b")];
  expect((await seriesOf(metrics)).get('pbflags_upstream_retries_total{upstream="b"}')).toBe(0);
});

test("what one that drains does still shows", async () => {
  using metrics = openMetrics(() => [gaugesOf("a"), gaugesOf("old", { state: "draining" })]);
  metrics.recordUpstreamCall("old", "flag_state", 1, new Error("gone"));
  const series = await seriesOf(metrics);
  expect(series.get('pbflags_upstream_failures_total{upstream="old",operation="flag_state"}')).toBe(1);
  expect(series.get('pbflags_upstream_state{upstream="old",state="draining"}')).toBe(1);
});

test.each([
  ["after", [gaugesOf("a", { score: 3 }), gaugesOf("a", { state: "draining", score: 1 })]],
  ["before", [gaugesOf("a", { state: "draining", score: 1 }), gaugesOf("a", { score: 3 })]],
  [
    "twice before",
    [gaugesOf("a", { state: "draining" }), gaugesOf("a", { state: "draining" }), gaugesOf("a", { score: 3 })],
  ],
])("one that drains %s its successor of the same name adds no second series", async (_, pool) => {
  using metrics = openMetrics(() => pool);
  metrics.recordUpstreamCall("a", "flag_state", 1, new Error("gone"));
  const series = await seriesOf(metrics);
  expect(series.get('pbflags_upstream_score{upstream="a"}')).toBe(3);
  expect(series.get('pbflags_upstream_state{upstream="a",state="up"}')).toBe(1);
  expect(series.get('pbflags_upstream_failures_total{upstream="a",operation="flag_state"}')).toBe(1);
});

test("10,000 reloads of a changing pool that nobody scrapes leave nothing behind", async () => {
  let pool: readonly UpstreamGauges[] = [gaugesOf("stays")];
  let reads = 0;
  using metrics = openMetrics(() => {
    reads += 1;
    return pool;
  });
  metrics.recordUpstreamRetry("stays");
  for (let i = 0; i < 10_000; i += 1) {
    pool = [gaugesOf("stays"), gaugesOf(`new${i}`)];
    metrics.recordUpstreamRetry("stays");
    metrics.recordUpstreamRetry(`new${i}`);
    metrics.recordUpstreamRetry(`new${i}`);
  }
  // Once for each new name: a call of one that is known costs no more than before.
  expect(reads).toBe(10_001);
  // A pool that says it is the old names' pool again finds their counts gone.
  pool = [gaugesOf("stays"), ...Array.from({ length: 10_000 }, (_, i) => gaugesOf(`new${i}`))];
  const series = await seriesOf(metrics);
  const retries = [...series].filter(([name]) => name.startsWith("pbflags_upstream_retries_total"));
  expect(retries.filter(([, value]) => value > 0)).toEqual([
    ['pbflags_upstream_retries_total{upstream="stays"}', 10_001],
    ['pbflags_upstream_retries_total{upstream="new9999"}', 2],
  ]);
});

test("what happens before the pool is shown to the metrics is not lost", async () => {
  using metrics = createMetrics({ version: "1.2.3", procedures: [] });
  metrics.recordUpstreamRetry("a");
  metrics.recordUpstreamRetry("b");
  expect((await seriesOf(metrics)).get('pbflags_upstream_retries_total{upstream="a"}')).toBe(1);
  metrics.observe(observed(() => [gaugesOf("a"), gaugesOf("b")]));
  expect((await seriesOf(metrics)).get('pbflags_upstream_retries_total{upstream="a"}')).toBe(1);
});

test("in root mode there are no series of upstreams", async () => {
  using metrics = openMetrics(() => []);
  const names = [...(await seriesOf(metrics)).keys()];
  expect(names.filter((name) => name.startsWith("pbflags_upstream_"))).toEqual([]);
});

test("reloads of the configuration are counted by what came of them", async () => {
  using metrics = openMetrics(() => []);
  metrics.recordConfigReload("applied");
  metrics.recordConfigReload("rejected");
  metrics.recordConfigReload("rejected");
  const series = await seriesOf(metrics);
  expect(
    ["applied", "unchanged", "rejected"].map((result) =>
      series.get(`pbflags_config_reloads_total{result="${result}"}`),
    ),
  ).toEqual([1, 0, 2]);
});

function gaugesOf(name: string, rest: Partial<UpstreamGauges> = {}): UpstreamGauges {
  return { name, state: "up", score: 1, breaker: "closed", inFlight: 0, ...rest };
}

function openMetrics(upstreams: () => readonly UpstreamGauges[]): Metrics {
  const metrics = createMetrics({ version: "1.2.3", procedures: [] });
  metrics.observe(observed(upstreams));
  return metrics;
}

function observed(upstreams: () => readonly UpstreamGauges[]): Gauges {
  return {
    killSetSize: 0,
    overrideCacheSize: 0,
    failuresInARow: 0,
    healthStatus: "serving",
    killsReadAtWallMs: undefined,
    stateAgeMs: undefined,
    breakerState: "closed",
    feedConnected: true,
    stateRevision: 7,
    get upstreams() {
      return upstreams();
    },
  };
}

/** All that a scrape shows, by name and labels. Fails if one is there twice: Prometheus would take nothing at all. */
async function seriesOf(metrics: Metrics): Promise<ReadonlyMap<string, number>> {
  const { body } = await metrics.render();
  const series = new Map<string, number>();
  for (const line of body.split("\n").filter((text) => text.startsWith("pbflags_"))) {
    const name = line.slice(0, line.lastIndexOf(" "));
    expect(series.has(name), name).toBe(false);
    series.set(name, Number(line.slice(name.length + 1)));
  }
  return series;
}

function failuresIn(series: ReadonlyMap<string, number>): readonly (readonly [string, number])[] {
  return [...series].filter(([name]) => name.startsWith("pbflags_upstream_failures_total"));
}
