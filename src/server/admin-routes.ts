import type { DescService } from "@bufbuild/protobuf";
import { Health } from "../gen/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { ServerReflection as ServerReflectionAlpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.ts";
import { FlagAdminService } from "../gen/pbflags/v1/admin_pb.ts";
import type { FlagAdmin } from "../store/flag-admin.ts";
import type { Clock } from "../system/clock.ts";
import type { Rpc } from "../telemetry/call-counts.ts";
import type { Tracing } from "../telemetry/tracing.ts";
import { createAdminService } from "./admin-service.ts";
import { createHealthService } from "./health-service.ts";
import { createInterceptors } from "./interceptors.ts";
import { pathOf, type RequestHandler } from "./listener/exchange.ts";
import { sendNotFound } from "./plain-answer.ts";
import { indexDescriptors } from "./reflection/descriptor-index.ts";
import { addReflection } from "./reflection/reflection-service.ts";
import { procedureOf } from "./rpc/codes.ts";
import { createRpcHandlers } from "./rpc/rpc-handlers.ts";

const SERVICES: readonly DescService[] = [FlagAdminService, Health, ServerReflection, ServerReflectionAlpha];

/** Every RPC that is served on the admin's port, as `package.Service/Method`. */
export const ADMIN_PROCEDURES: readonly string[] = SERVICES.flatMap(({ methods }) =>
  methods.map(procedureOf),
);

export interface AdminRouteOptions {
  readonly admin: FlagAdmin;
  readonly limits: {
    /** Of a request's message, as sent and inflated. */
    readonly bodyBytesMax: number;
    /** For a request's body to come. */
    readonly requestTimeoutMs: number;
  };
  readonly clock: Clock;
  readonly tracing: Pick<Tracing, "traceRpc"> | undefined;
  /** Aborts when the daemon begins to drain: streams end, and what is being written is finished. */
  readonly stopping: AbortSignal;
  readonly onRpc: (rpc: Rpc) => void;
  /** The database is away, or lacks our functions or rights. */
  readonly onTrouble: (error: Error, procedure: string) => void;
  /** A stream was cut because its client took nothing for ten seconds. */
  readonly onStalled: (procedure: string) => void;
  /** An exception that nobody expected. */
  readonly onInternalError: (error: unknown, procedure: string) => void;
}

/** Everything on the admin's port: the admin service, gRPC health (whether it is served, not the database's), reflection. */
export function createAdminRoutes(options: AdminRouteOptions): RequestHandler {
  const { admin, limits, clock, tracing, stopping, onRpc, onTrouble, onInternalError } = options;
  const health = createHealthService({
    namespace: { ready: true, whenReady: () => Promise.resolve() },
    services: [FlagAdminService.typeName],
    stopping,
  });
  const handlers = createRpcHandlers({
    services(router) {
      router.service(FlagAdminService, createAdminService({ admin, onTrouble }));
      router.service(Health, health);
      addReflection(router, indexDescriptors(SERVICES));
    },
    interceptors: createInterceptors({ clock, tracing, onRpc, onInternalError }),
    bodyBytesMax: limits.bodyBytesMax,
    requestTimeoutMs: limits.requestTimeoutMs,
    clock,
    stopping,
    tracing,
    onRefused: onRpc,
    onStalled: options.onStalled,
    onInternalError,
  });
  return (request, response) => (handlers.get(pathOf(request)) ?? sendNotFound)(request, response);
}
