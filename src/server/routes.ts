import type { ServiceImpl } from "@connectrpc/connect";
import type { UpstreamService } from "../gen/pbflagd/v1/upstreams_pb.ts";
import type { DependencyCheck } from "../health/dependency-health.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";
import type { Rpc } from "../telemetry/call-counts.ts";
import type { RenderedMetrics } from "../telemetry/metrics.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import type { Evaluated } from "./evaluator-service.ts";
import type { FastCallOptions } from "./fast/fast-calls.ts";
import { createFastHttp1 } from "./fast/fast-http1.ts";
import { createFastHttp2, createFastPlain } from "./fast/fast-routes.ts";
import { createFastRpcs } from "./fast/fast-rpcs.ts";
import { pathOf, type RequestHandler } from "./listener/exchange.ts";
import { sendNotFound } from "./plain-answer.ts";
import { createProbes } from "./probes.ts";
import { PROCEDURES } from "./procedures.ts";
import { type Permit, permitAll } from "./rpc/permit.ts";
import type { RpcHandler } from "./rpc/rpc-handlers.ts";
import { createRpcRoutes } from "./rpc-routes.ts";
import type { HandedOn } from "./state-service.ts";
import { type Evaluating, traceEvaluations } from "./trace-evaluations.ts";
import type { ListedPool } from "./upstream-service.ts";
import { createWorth } from "./worth.ts";

export interface RouteOptions {
  readonly namespace: Evaluated &
    Evaluating &
    HandedOn &
    Pick<Namespace, "ready" | "whenReady" | "onKnowledge">;
  /** The pool that state is read from. Undefined in root mode. */
  readonly upstreams: ListedPool | undefined;
  /** Shows the upstreams where another process has them. Unset: those above are shown. */
  readonly upstreamService?: ServiceImpl<typeof UpstreamService> | undefined;
  /** Of the program. */
  readonly version: string;
  readonly limits: {
    /** Of a request's message, as sent and inflated. */
    readonly bodyBytesMax: number;
    readonly bulkFlagsMax: number;
    /** For a request's body to come. */
    readonly requestTimeoutMs: number;
    /** Longest wait for the store. */
    readonly fetchTimeoutMs: number;
  };
  readonly clock: Clock;
  /** Undefined: nothing is traced, and a call costs nothing. */
  readonly tracing: Pick<Tracing, "traceRpc" | "traceEvaluate"> | undefined;
  /** Unset: everybody may do everything. */
  readonly permit?: Permit;
  /** Whether plain calls of Evaluate and BulkEvaluate are answered past Connect's implementation. Unset: yes. */
  readonly isFast?: boolean;
  /** Aborts when the daemon begins to drain: readiness ends, and streams do. */
  readonly stopping: AbortSignal;
  readonly checks: () => readonly DependencyCheck[];
  readonly metrics: () => Promise<RenderedMetrics>;
  readonly onRpc: (rpc: Rpc) => void;
  /** How many follow what changes, whenever that changes. */
  readonly onFollowers?: (count: number) => void;
  /** A stream was cut because its client took nothing for ten seconds. */
  readonly onStalled?: (procedure: string) => void;
  /** An exception that nobody expected. `where` is a procedure or a path. */
  readonly onInternalError: (error: unknown, where: string) => void;
}

/** Everything on the evaluator's port: the evaluator, gRPC health and reflection, probes and metrics. */
export function createRoutes(options: RouteOptions): RequestHandler {
  const { namespace, limits, clock, tracing, stopping, onRpc, onInternalError } = options;
  const { permit = permitAll, isFast = true } = options;
  const worth = createWorth({ namespace, timeoutMs: limits.fetchTimeoutMs, clock });
  const evaluating = traceEvaluations(namespace, tracing);
  /** Made for the first call that needs them: a start has no time for all their messages, and many a daemon no use. */
  let rpcs: ReadonlyMap<string, RpcHandler> | undefined;
  const handlerOf =
    (path: string): RpcHandler =>
    (request, response, body) => {
      rpcs ??= createRpcRoutes(options, { worth, permit, evaluating });
      (rpcs.get(path) ?? sendNotFound)(request, response, body);
    };
  const probes = createProbes({
    ready: () => namespace.ready,
    draining: () => stopping.aborted,
    checks: options.checks,
    metrics: options.metrics,
    onInternalError,
  });
  const paths = PROCEDURES.map((procedure) => `/${procedure}`);
  const handlers = new Map<string, RequestHandler>([
    ...paths.map((path) => [path, handlerOf(path)] as const),
    ...probes,
  ]);
  const handle: RequestHandler = (request, response) =>
    (handlers.get(pathOf(request)) ?? sendNotFound)(request, response);
  if (!isFast) return handle;

  const calls: FastCallOptions = { ...limits, worth, permit, clock, tracing, onRpc, onInternalError };
  const fastRpcs = createFastRpcs({ namespace, evaluating, bulkFlagsMax: limits.bulkFlagsMax });
  for (const rpc of fastRpcs) {
    const path = `/${rpc.procedure}`;
    handlers.set(path, createFastHttp1(rpc, { ...calls, otherwise: handlerOf(path) }));
  }
  return Object.assign(handle, {
    plain: createFastPlain(fastRpcs, calls),
    plainHttp2: createFastHttp2(fastRpcs, calls),
  });
}
