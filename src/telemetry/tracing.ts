import type { Clock } from "../system/clock.ts";

/**
 * Where a request's time goes, as OpenTelemetry spans: the RPC, the evaluation within it, the store
 * calls within that. Each method runs what it is given, and returns or throws what that does.
 */
export interface Tracing extends AsyncDisposable {
  /**
   * A server span, and the beginning of a trace unless the caller's headers name one. Where what is run comes to
   * undefined the call is answered elsewhere, and traced there: this leaves no span.
   */
  traceRpc<T>(rpc: TracedRpc, run: () => T): T;
  traceEvaluate<T>(evaluate: TracedEvaluate, run: () => T): T;
  /** A client span within a traced request. Calls that no request waits for, such as polls, leave none. */
  traceStoreCall<T>(call: TracedStoreCall, run: () => T): T;
  /** Headers that carry the current trace on to another server: W3C `traceparent` and `tracestate`. */
  outgoingHeaders(): Readonly<Record<string, string>>;
}

export interface TracedRpc {
  /** `package.Service/Method`. */
  readonly procedure: string;
  readonly protocol: "connect" | "grpc" | "grpc-web";
  /** A request header by its name in lower case. */
  readonly header: (name: string) => string | undefined;
  /** Connect's name, such as `not_found`, for what `run` threw. */
  readonly codeOf: (error: unknown) => string;
}

export interface TracedEvaluate {
  /** Of a single evaluation. */
  readonly flagId?: string;
  /** Of a bulk evaluation. */
  readonly flagCount?: number;
}

export interface TracedStoreCall {
  readonly backend: "db" | "upstream";
  /** As in the metrics: `flag_state`, `overrides`, `killed_flags`. */
  readonly operation: string;
}

export interface TracingOptions {
  /** OpenTelemetry's variables. The SDK reads more of them from the process itself. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly serviceVersion: string;
  /** For exporting what is left when closing. */
  readonly closeTimeoutMs: number;
  /** What the SDK has to complain about, such as a collector that does not answer. */
  readonly onProblem: (message: string) => void;
  readonly clock: Pick<Clock, "sleep">;
}

/**
 * Undefined unless an OTLP endpoint is set: then nothing of OpenTelemetry is loaded, and a call costs nothing. Undefined as
 * well where OpenTelemetry's SDK cannot start, which is a problem, and no reason not to serve.
 */
export async function openTracing(options: TracingOptions): Promise<Tracing | undefined> {
  if (!isWanted(options.env)) return undefined;
  const { openOtlpTracing } = await import("./otlp-tracing.ts");
  return openOtlpTracing(options);
}

function isWanted(env: TracingOptions["env"]): boolean {
  const isSet = (name: string) => (env[name] ?? "").trim() !== "";
  // OpenTelemetry: only the word true, in any case, disables.
  const disabled = env["OTEL_SDK_DISABLED"]?.trim().toLowerCase() === "true";
  return !disabled && (isSet("OTEL_EXPORTER_OTLP_ENDPOINT") || isSet("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
}
