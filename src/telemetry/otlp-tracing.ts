import {
  type Attributes,
  context,
  DiagLogLevel,
  diag,
  propagation,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  trace,
} from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { core, NodeSDK, resources } from "@opentelemetry/sdk-node";
import { hideSecrets } from "../system/hide-secrets.ts";
import { RPC_CODES } from "../system/rpc-codes.ts";
import { otlpSecrets } from "./otlp-secrets.ts";
import type { TracedRpc, Tracing, TracingOptions } from "./tracing.ts";

/** The SDK tells problems with stack and all. */
const PROBLEM_CHARACTERS_MAX = 4_000;

/**
 * Starts OpenTelemetry's SDK for traces alone. It belongs to the process: one at a time.
 * Endpoint, headers, sampler and batching are the SDK's to read from its own variables. Undefined where it cannot start
 * with what they say: nothing is traced then.
 */
export function openOtlpTracing(given: TracingOptions): Tracing | undefined {
  const clean = hideSecrets(otlpSecrets(given.env), PROBLEM_CHARACTERS_MAX);
  const options = { ...given, onProblem: (message: string) => given.onProblem(clean(message)) };
  const sdk = tryStart(options);
  if (sdk === undefined) return undefined;
  const tracer = trace.getTracer("pbflagd", options.serviceVersion);

  return {
    traceRpc(rpc, run) {
      const caller = propagation.extract(context.active(), rpc.header, headerGetter);
      const span = tracer.startSpan(
        rpc.procedure,
        { kind: SpanKind.SERVER, attributes: rpcAttributes(rpc) },
        caller,
      );
      return context.with(trace.setSpan(caller, span), () =>
        settle(
          run,
          (result) => {
            // A span that is not ended is not exported.
            if (result !== undefined) endRpc(span, rpc, "ok");
          },
          (error) => endRpc(span, rpc, rpc.codeOf(error)),
        ),
      );
    },

    traceEvaluate({ flagId, flagCount }, run) {
      const attributes: Attributes = {};
      if (flagId !== undefined) attributes["feature_flag.key"] = flagId;
      if (flagCount !== undefined) attributes["pbflags.flag_count"] = flagCount;
      return inSpan("evaluate", SpanKind.INTERNAL, attributes, run);
    },

    traceStoreCall({ backend, operation }, run) {
      if (trace.getActiveSpan() === undefined) return run();
      const attributes = { "pbflags.backend": backend, "pbflags.operation": operation };
      return inSpan(`store ${operation}`, SpanKind.CLIENT, attributes, run);
    },

    outgoingHeaders() {
      const headers: Record<string, string> = {};
      propagation.inject(context.active(), headers);
      return headers;
    },

    async [Symbol.asyncDispose]() {
      await closeWithin(sdk, options);
      letGo();
    },
  };

  function inSpan<T>(name: string, kind: SpanKind, attributes: Attributes, run: () => T): T {
    const span = tracer.startSpan(name, { kind, attributes });
    return context.with(trace.setSpan(context.active(), span), () =>
      settle(
        run,
        () => span.end(),
        (error) => endFailed(span, error),
      ),
    );
  }
}

/** Runs, and reports the outcome: at once, or when the promise that came of it settles. */
function settle<T>(run: () => T, onDone: (result: unknown) => void, onError: (error: unknown) => void): T {
  try {
    const result = run();
    if (result instanceof Promise) result.then(onDone, onError);
    else onDone(result);
    return result;
  } catch (error) {
    onError(error);
    throw error;
  }
}

function tryStart(options: TracingOptions): NodeSDK | undefined {
  try {
    return startSdk(options);
  } catch (error) {
    letGo();
    options.onProblem(
      `Cannot trace: OpenTelemetry's variables must be ones that its SDK takes, got ${String(error)}`,
    );
    return undefined;
  }
}

/** Of what the SDK has made its own in this process. */
function letGo(): void {
  trace.disable();
  context.disable();
  propagation.disable();
  diag.disable();
}

function startSdk({ env, serviceVersion, onProblem }: TracingOptions): NodeSDK {
  // The part of the SDK that speaks, its message, then what it is about: of that only errors, the rest may be anything.
  const report = (...told: readonly unknown[]) =>
    onProblem(told.filter((part) => typeof part === "string" || part instanceof Error).join(": "));
  const sdk = new NodeSDK({
    // What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes later and wins.
    resource: resources
      .defaultResource()
      .merge(
        resources.resourceFromAttributes({ "service.name": "pbflagd", "service.version": serviceVersion }),
      ),
    // Not the process detector: it sends the command line, and with it the database's password.
    resourceDetectors: [resources.envDetector, resources.hostDetector],
    textMapPropagator: new core.W3CTraceContextPropagator(),
    // Traces alone: without these the SDK would start exporting metrics and logs as well.
    metricReaders: [],
    logRecordProcessors: [],
    ...(isProtocolNamed(env) ? {} : { traceExporter: new OTLPTraceExporter() }),
  });
  // After the SDK was made: where OTEL_LOG_LEVEL is set, it installs a logger of its own that prints.
  diag.setLogger(
    { error: report, warn: report, info: () => {}, debug: () => {}, verbose: () => {} },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  sdk.start();
  return sdk;
}

/** Where no protocol is named the SDK would choose HTTP; we choose gRPC. */
function isProtocolNamed(env: TracingOptions["env"]): boolean {
  return ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_TRACES_EXPORTER"].some(
    (name) => (env[name] ?? "").trim() !== "",
  );
}

async function closeWithin(
  sdk: NodeSDK,
  { closeTimeoutMs, onProblem, clock }: TracingOptions,
): Promise<void> {
  const closed = new AbortController();
  const timeout = clock.sleep(closeTimeoutMs, closed.signal).then(
    () => onProblem(`Cannot export the last spans: the collector did not answer within ${closeTimeoutMs} ms`),
    () => {},
  );
  const shutdown = sdk
    .shutdown()
    .catch((error: unknown) => onProblem(`Cannot export the last spans: ${String(error)}`));
  await Promise.race([shutdown, timeout]);
  closed.abort();
}

const headerGetter: TextMapGetter<TracedRpc["header"]> = {
  keys: () => [],
  get: (header, name) => header(name),
};

/** By OpenTelemetry's conventions for RPCs. */
function rpcAttributes({ procedure, protocol }: TracedRpc): Attributes {
  const [service = "", method = ""] = procedure.split("/");
  return {
    "rpc.system": protocol === "connect" ? "connect_rpc" : "grpc",
    "rpc.service": service,
    "rpc.method": method,
  };
}

/** In the order of their numbers. */
const GRPC_CODES: readonly string[] = RPC_CODES;

/** The codes that are the server's fault; the caller's own mistakes do not make a span an error. */
const SERVER_FAULTS = new Set([
  "unknown",
  "deadline_exceeded",
  "unimplemented",
  "internal",
  "unavailable",
  "data_loss",
]);

function endRpc(span: Span, { protocol }: TracedRpc, code: string): void {
  if (protocol !== "connect") span.setAttribute("rpc.grpc.status_code", GRPC_CODES.indexOf(code));
  else if (code !== "ok") span.setAttribute("rpc.connect_rpc.error_code", code);
  if (SERVER_FAULTS.has(code)) span.setStatus({ code: SpanStatusCode.ERROR, message: code });
  span.end();
}

/** The error's class only: its message may hold what should not leave the process. */
function endFailed(span: Span, error: unknown): void {
  span.setAttribute("error.type", error instanceof Error ? error.name : typeof error);
  span.setStatus({ code: SpanStatusCode.ERROR });
  span.end();
}
