import { createMetrics } from "../../src/telemetry/metrics.ts";
import { FLAGS_PER_OUTCOME } from "./outcomes.ts";
import type { Variant } from "./questions.ts";

const PROCEDURE = "pbflags.v1.FlagEvaluatorService/Evaluate";

/** What it takes to count calls, as many as other variants ask for flags: by procedure, protocol and code, and how long each took. */
export function createCountingVariant(): Variant {
  const metrics = createMetrics({ version: "bench", procedures: [PROCEDURE] });
  return {
    run() {
      for (let i = 0; i < FLAGS_PER_OUTCOME; i++)
        metrics.recordRpc({
          procedure: PROCEDURE,
          protocol: "grpc",
          code: "ok",
          durationMs: i / 1_000,
          isFast: true,
        });
    },
  };
}
