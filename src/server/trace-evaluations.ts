import type { Namespace } from "../namespaces/namespace.ts";
import type { Tracing } from "../telemetry/tracing.ts";

/** What evaluates, for both ways that a call can take. */
export type Evaluating = Pick<Namespace, "evaluate" | "evaluateMany">;

/** Puts each evaluation into a span. Where nothing is traced it costs nothing. */
export function traceEvaluations(
  namespace: Evaluating,
  tracing: Pick<Tracing, "traceEvaluate"> | undefined,
): Evaluating {
  if (tracing === undefined) return namespace;
  return {
    evaluate: (flagId, entityId) =>
      tracing.traceEvaluate({ flagId }, () => namespace.evaluate(flagId, entityId)),
    evaluateMany: (flagIds, entityId, memory) =>
      tracing.traceEvaluate({ flagCount: flagIds.length }, () =>
        namespace.evaluateMany(flagIds, entityId, memory),
      ),
  };
}
