import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import type { Source } from "../evaluation/precedence.ts";
import { createLogger } from "../telemetry/logger.ts";
import { createMetrics } from "../telemetry/metrics.ts";
import { reportEvents } from "./report-events.ts";

test.each<[string, readonly Source[]]>([
  ["none", []],
  ["one", ["killed"]],
  ["alike", ["global", "global", "global"]],
  ["alike but for the last", ["global", "global", "stale"]],
  ["mixed", ["default", "global", "global", "killed", "default", "killed", "killed"]],
])("every evaluation of a call is counted under its source: %s", async (_, sources) => {
  using metrics = createMetrics({ version: "1.2.3", procedures: [] });
  report(sources, { metrics, level: "error" });
  const { body } = await metrics.render();
  const counted = (source: Source) =>
    Number(
      new RegExp(`^pbflags_evaluations_total{source="${source}",status="ok"} (.*)$`, "m").exec(body)?.[1],
    );
  for (const source of ["default", "global", "killed", "stale"] as const)
    expect(counted(source), source).toBe(sources.filter((each) => each === source).length);
});

test("every evaluation of a call has a line of its own at debug level", () => {
  using metrics = createMetrics({ version: "1.2.3", procedures: [] });
  const lines = (...sources: Source[]) => report(sources, { metrics, level: "debug" });
  const one = { event: "evaluated", flag_id: "a/0", entity_id: "ann", source: "global" };
  expect(lines("global", "killed")).toMatchObject([one, { ...one, flag_id: "a/1", source: "killed" }]);
  expect(lines("global")).toMatchObject([one]);
});

function report(
  sources: readonly Source[],
  {
    metrics,
    level,
  }: { readonly metrics: ReturnType<typeof createMetrics>; readonly level: "error" | "debug" },
): readonly unknown[] {
  const lines: unknown[] = [];
  const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };
  const logger = createLogger({ level, format: "json", destination, clock: new FakeClock() });
  const events = reportEvents({ metrics, logger, backend: "db" });
  const evaluations = sources.map((source) => ({ value: undefined, source }));
  const [first] = evaluations;
  if (first !== undefined && evaluations.length === 1) events.onEvaluation("a/0", "ann", first);
  else
    events.onEvaluations({ flags: sources.map((_, i) => ({ id: `a/${i}` })), entityId: "ann", evaluations });
  return lines;
}
