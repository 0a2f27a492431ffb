import type { DependencyCheck } from "../health/dependency-health.ts";
import { formatTimestamp } from "../system/timestamp.ts";
import type { RenderedMetrics } from "../telemetry/metrics.ts";
import type { HttpRequest, HttpResponse, RequestHandler } from "./listener/exchange.ts";
import { sendMethodNotAllowed, sendPlain, TEXT } from "./plain-answer.ts";

export interface ProbeOptions {
  /** Whether an Evaluate would be right. */
  readonly ready: () => boolean;
  readonly draining: () => boolean;
  /** The last results; nothing is checked for a probe. */
  readonly checks: () => readonly DependencyCheck[];
  readonly metrics: () => Promise<RenderedMetrics>;
  readonly onInternalError: (error: unknown, path: string) => void;
}

/** What orchestrators and Prometheus ask for, by path. GET and HEAD. */
export function createProbes(options: ProbeOptions): ReadonlyMap<string, RequestHandler> {
  const { ready, draining, checks } = options;

  function health(request: HttpRequest, response: HttpResponse): void {
    sendReport(request, response, 200, "ok", checks());
  }

  function readiness(request: HttpRequest, response: HttpResponse): void {
    // A dependency that fails later shows in the checks: a sidecar that degrades must not be taken away.
    if (draining()) sendReport(request, response, 503, "draining", checks());
    else if (!ready()) sendReport(request, response, 503, "starting", checks());
    else sendReport(request, response, 200, "ready", checks());
  }

  function metrics(request: HttpRequest, response: HttpResponse): void {
    options.metrics().then(
      (rendered) => sendPlain(request, response, { status: 200, ...rendered }),
      (error: unknown) => {
        options.onInternalError(error, "/metrics");
        sendPlain(request, response, { status: 500, contentType: TEXT, body: "internal error\n" });
      },
    );
  }

  return new Map([
    ["/healthz", readOnly(health)],
    ["/readyz", readOnly(readiness)],
    ["/metrics", readOnly(metrics)],
  ]);
}

function readOnly(handle: RequestHandler): RequestHandler {
  return (request, response) => {
    if (request.method === "GET" || request.method === "HEAD") handle(request, response);
    else sendMethodNotAllowed(request, response, ["GET", "HEAD"]);
  };
}

function sendReport(
  request: HttpRequest,
  response: HttpResponse,
  status: 200 | 503,
  word: "ok" | "ready" | "starting" | "draining",
  checks: readonly DependencyCheck[],
): void {
  const body = `${JSON.stringify({ status: word, checks: checks.map(toJson) })}\n`;
  sendPlain(request, response, { status, contentType: "application/json", body });
}

/** What is not known, because it was never checked, is null. */
function toJson({ name, healthy, message, latencyMs, checkedAt }: DependencyCheck) {
  return {
    name,
    healthy: healthy ?? null,
    message,
    latency_ms: latencyMs ?? null,
    checked_at: checkedAt === undefined ? null : formatTimestamp(checkedAt),
  };
}
