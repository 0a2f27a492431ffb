import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { StateService } from "../gen/pbflagd/v1/state_pb.ts";
import { UpstreamService } from "../gen/pbflagd/v1/upstreams_pb.ts";
import { WatchService } from "../gen/pbflagd/v1/watch_pb.ts";
import { FlagEvaluatorService } from "../gen/pbflags/v1/evaluator_pb.ts";
import type { DependencyCheck } from "../health/dependency-health.ts";
import type { Namespace } from "../namespaces/namespace.ts";
import type { Clock } from "../system/clock.ts";
import type { Rpc } from "../telemetry/call-counts.ts";
import type { RenderedMetrics } from "../telemetry/metrics.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import { createEvaluatorService, type Evaluated } from "./evaluator-service.ts";
import type { FastCallOptions } from "./fast/fast-calls.ts";
import { createFastHttp1 } from "./fast/fast-http1.ts";
import { createFastHttp2, createFastPlain } from "./fast/fast-routes.ts";
import { createFastRpcs } from "./fast/fast-rpcs.ts";
import { createHealthService } from "./health-service.ts";
import { createInterceptors } from "./interceptors.ts";
import { pathOf, type RequestHandler } from "./listener/exchange.ts";
import { sendNotFound } from "./plain-answer.ts";
import { createProbes } from "./probes.ts";
import { indexDescriptors } from "./reflection/descriptor-index.ts";
import { addReflection } from "./reflection/reflection-service.ts";
import { procedureOf } from "./rpc/codes.ts";
import { type Permit, permitAll } from "./rpc/permit.ts";
import { createRpcHandlers, STALL_TIMEOUT_MS } from "./rpc/rpc-handlers.ts";
import { createStateService, type HandedOn } from "./state-service.ts";
import { createUpstreamService, type ListedPool } from "./upstream-service.ts";
import { Followers } from "./watch/followers.ts";
import { WatchEvents } from "./watch/watch-events.ts";
import { createWatchService } from "./watch/watch-service.ts";
import { createWorth } from "./worth.ts";

/** What the evaluator's port serves beside the probes. */
const SERVICES: readonly DescService[] = [
  FlagEvaluatorService,
  StateService,
  UpstreamService,
  WatchService,
  Health,
  ServerReflection,
  ServerReflectionAlpha,
];

/** Every RPC that is served, as `package.Service/Method`. */
export const PROCEDURES: readonly string[] = SERVICES.flatMap(({ methods }) => methods.map(procedureOf));

export interface RouteOptions {
  readonly namespace: Evaluated & HandedOn & Pick<Namespace, "ready" | "whenReady" | "onKnowledge">;
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
  /** Where calls are traced, none goes the fast way. */
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
  const evaluator = createEvaluatorService({
    namespace,
    bulkFlagsMax: limits.bulkFlagsMax,
    worth,
    tracing,
  });
  const state = createStateService({
    namespace,
    catchUpTimeoutMs: limits.fetchTimeoutMs,
    version: options.version,
    clock,
  });
  const health = createHealthService({ namespace, services: [FlagEvaluatorService.typeName], stopping });
  const { onFollowers = () => {}, onStalled = () => {} } = options;
  const events = new WatchEvents(namespace, clock);
  const followers = new Followers({
    namespace,
    takeIn: () => events.takeIn(),
    stopping,
    onCount: onFollowers,
  });
  const rpcs = createRpcHandlers({
    services(router) {
      router.service(FlagEvaluatorService, evaluator);
      router.service(StateService, state);
      router.service(UpstreamService, options.upstreamService ?? createUpstreamService(options.upstreams));
      router.service(Health, health);
      addReflection(router, indexDescriptors(SERVICES));
    },
    interceptors: createInterceptors({ clock, tracing, permit, onRpc, onInternalError }),
    bodyBytesMax: limits.bodyBytesMax,
    requestTimeoutMs: limits.requestTimeoutMs,
    clock,
    stopping,
    onRefused: onRpc,
    onStalled,
    onInternalError,
  });
  const probes = createProbes({
    ready: () => namespace.ready,
    draining: () => stopping.aborted,
    checks: options.checks,
    metrics: options.metrics,
    onInternalError,
  });
  const handlers = new Map<string, RequestHandler>([...rpcs, ...probes]);
  handlers.set(
    `/${procedureOf(WatchService.method.watch)}`,
    createWatchService({
      events,
      followers,
      permit,
      bodyBytesMax: limits.bodyBytesMax,
      requestTimeoutMs: limits.requestTimeoutMs,
      stallTimeoutMs: STALL_TIMEOUT_MS,
      clock,
      stopping,
      onRpc,
      onStalled,
      onInternalError,
    }),
  );
  const handle: RequestHandler = (request, response) =>
    (handlers.get(pathOf(request)) ?? sendNotFound)(request, response);
  if (!isFast || tracing !== undefined) return handle;

  const calls: FastCallOptions = { ...limits, worth, permit, clock, onRpc, onInternalError };
  const fastRpcs = createFastRpcs({ namespace, bulkFlagsMax: limits.bulkFlagsMax });
  for (const rpc of fastRpcs) {
    const path = `/${rpc.procedure}`;
    handlers.set(path, createFastHttp1(rpc, { ...calls, otherwise: rpcs.get(path) ?? sendNotFound }));
  }
  return Object.assign(handle, {
    plain: createFastPlain(fastRpcs, calls),
    plainHttp2: createFastHttp2(fastRpcs, calls),
  });
}
