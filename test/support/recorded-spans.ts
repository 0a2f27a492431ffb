import type { Tracing } from "../../src/telemetry/tracing.ts";

/** Traces, and keeps what it has traced as texts, in the order in which it ended. */
export function recordSpans(): {
  readonly spans: readonly string[];
  readonly tracing: Pick<Tracing, "traceRpc" | "traceEvaluate">;
} {
  const spans: string[] = [];

  /** `describe` gives undefined for what leaves no span. */
  function record<T>(run: () => T, describe: (result: unknown, error?: unknown) => string | undefined): T {
    const end = (result: unknown, error?: unknown) => {
      const span = describe(result, error);
      if (span !== undefined) spans.push(span);
    };
    const result = run();
    if (result instanceof Promise)
      result.then(end, (error: unknown) => end(undefined, error ?? new Error("rejected without a reason")));
    else end(result);
    return result;
  }

  return {
    spans,
    tracing: {
      traceRpc: ({ procedure, protocol, header, codeOf }, run) =>
        record(run, (result, error) => {
          if (result === undefined && error === undefined) return undefined;
          const code = error === undefined ? "ok" : codeOf(error);
          return `${procedure} ${protocol} ${code} ${header("traceparent")}`;
        }),
      traceEvaluate: ({ flagId, flagCount }, run) => record(run, () => `evaluate ${flagId ?? flagCount}`),
    },
  };
}
