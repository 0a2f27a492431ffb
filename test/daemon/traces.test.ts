import { expect, test } from "vitest";
import { startDaemon } from "../support/daemon.ts";
import { openOtlpCollector, type ReceivedSpan } from "../support/otlp-collector.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { CLIENT_KINDS, openEvaluatorClients } from "../support/wire-clients.ts";
import { openScene, serveArgs } from "./scene.ts";

const CALLERS_SPAN = "00f067aa0ba902b7";

/** The trace of the caller's call number `i`. */
function traceIdOf(i: number): string {
  return `4bf92f3577b34da6a3ce929d0e0e47${i.toString(16).padStart(2, "0")}`;
}

/** From the caller's span down, the first of each parent's children. */
function lineOf(spans: readonly ReceivedSpan[], parentId = CALLERS_SPAN): readonly string[] {
  const child = spans.find(({ parentSpanId }) => parentSpanId === parentId);
  return child === undefined ? [] : [child.name, ...lineOf(spans, child.spanId)];
}

test("the spans of a call are one line below its caller's, whichever way it goes, be it answered from memory or not", async () => {
  await using database = await createTestDatabase();
  await using scene = await openScene(database);
  await using collector = await openOtlpCollector();
  await using daemon = await startDaemon({
    args: serveArgs(database.url, scene),
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" },
  });
  await daemon.whenReady();
  using clients = openEvaluatorClients(daemon.port);
  for (const [i, kind] of CLIENT_KINDS.entries())
    for (const [n, name] of ["asked", "again"].entries()) {
      const headers = { traceparent: `00-${traceIdOf(2 * i + n)}-${CALLERS_SPAN}-01` };
      const answer = await clients.of[kind].evaluate({ flagId: "shop/1", entityId: kind }, { headers });
      expect(answer.value?.value, `${kind}, ${name}`).toEqual({ case: "stringValue", value: "weekly" });
    }
  const fast = Object.values(await daemon.metric("pbflags_rpc_fast_total"));
  expect(fast.reduce((sum, count) => sum + count, 0)).toBeGreaterThan(CLIENT_KINDS.length);
  // What is left is exported then.
  expect(await daemon.stop()).toBe(0);

  const line = ["pbflags.v1.FlagEvaluatorService/Evaluate", "evaluate"];
  for (const [i, kind] of CLIENT_KINDS.entries())
    for (const [n, wanted] of [[...line, "store overrides"], line].entries()) {
      const spans = collector.spans().filter(({ traceId }) => traceId === traceIdOf(2 * i + n));
      expect(lineOf(spans), kind).toEqual(wanted);
      expect(spans, kind).toHaveLength(wanted.length);
    }
});
