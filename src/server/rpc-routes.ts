import type { DescService } from "@bufbuild/protobuf";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { StateService } from "../gen/pbflagd/v1/state_pb.ts";
import { UpstreamService } from "../gen/pbflagd/v1/upstreams_pb.ts";
import { WatchService } from "../gen/pbflagd/v1/watch_pb.ts";
import { FlagEvaluatorService } from "../gen/pbflags/v1/evaluator_pb.ts";
import { createEvaluatorService } from "./evaluator-service.ts";
import { createHealthService } from "./health-service.ts";
import { createInterceptors } from "./interceptors.ts";
import { WATCH } from "./procedures.ts";
import { indexDescriptors } from "./reflection/descriptor-index.ts";
import { addReflection } from "./reflection/reflection-service.ts";
import type { RouteOptions } from "./routes.ts";
import type { Permit } from "./rpc/permit.ts";
import { createRpcHandlers, type RpcHandler, STALL_TIMEOUT_MS } from "./rpc/rpc-handlers.ts";
import { createStateService } from "./state-service.ts";
import type { Evaluating } from "./trace-evaluations.ts";
import { createUpstreamService } from "./upstream-service.ts";
import { Followers } from "./watch/followers.ts";
import { WatchEvents } from "./watch/watch-events.ts";
import { createWatchService } from "./watch/watch-service.ts";
import type { Worth } from "./worth.ts";

/** What the evaluator's port serves beside the probes. */
export function listServices(): readonly DescService[] {
  return [
    FlagEvaluatorService,
    StateService,
    UpstreamService,
    WatchService,
    Health,
    ServerReflection,
    ServerReflectionAlpha,
  ];
}

/** What RPCs have in common with the fast way. */
export interface RpcRouteParts {
  readonly worth: Worth;
  readonly permit: Permit;
  readonly evaluating: Evaluating;
}

/** By path, every RPC on the evaluator's port, in every protocol. */
export function createRpcRoutes(
  options: RouteOptions,
  { worth, permit, evaluating }: RpcRouteParts,
): ReadonlyMap<string, RpcHandler> {
  const { namespace, limits, clock, tracing, stopping, onRpc, onInternalError } = options;
  const evaluator = createEvaluatorService({
    namespace,
    evaluating,
    bulkFlagsMax: limits.bulkFlagsMax,
    worth,
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
      addReflection(router, indexDescriptors(listServices()));
    },
    interceptors: createInterceptors({ clock, tracing, permit, onRpc, onInternalError }),
    bodyBytesMax: limits.bodyBytesMax,
    requestTimeoutMs: limits.requestTimeoutMs,
    clock,
    stopping,
    tracing,
    onRefused: onRpc,
    onStalled,
    onInternalError,
  });
  const watch = createWatchService({
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
  });
  return new Map([...rpcs, [`/${WATCH}`, watch]]);
}
