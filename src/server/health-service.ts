import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import {
  type Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../gen/grpc/health/v1/health_pb.ts";
import type { Namespace } from "../namespaces/namespace.ts";

export interface HealthServiceOptions {
  readonly namespace: Pick<Namespace, "ready" | "whenReady">;
  /** Full names of the services that are served here. */
  readonly services: readonly string[];
  /** Aborts when the daemon begins to drain. */
  readonly stopping: AbortSignal;
}

/** The gRPC health protocol. Serving means ready, and not draining; an empty service name is the whole server. */
export function createHealthService({
  namespace,
  services,
  stopping,
}: HealthServiceOptions): ServiceImpl<typeof Health> {
  const served = new Set(["", ...services]);

  function status(): ServingStatus {
    return namespace.ready && !stopping.aborted ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
  }

  return {
    check({ service }) {
      if (!served.has(service)) throw new ConnectError("Cannot check: no such service here", Code.NotFound);
      return { status: status() };
    },

    async *watch({ service }, { signal }) {
      if (served.has(service)) yield* statuses(signal);
      else yield { status: ServingStatus.SERVICE_UNKNOWN };
      await aborted(signal);
      // A client that left, or whose time is up, is not told that all is well.
      if (!stopping.aborted) throw signal.reason;
    },
  };

  /** The status now and whenever it changes, until `signal` aborts. */
  async function* statuses(signal: AbortSignal): AsyncGenerator<{ status: ServingStatus }> {
    if (!namespace.ready) {
      yield { status: ServingStatus.NOT_SERVING };
      await namespace.whenReady(signal).catch(() => {});
    }
    if (signal.aborted) return;
    yield { status: ServingStatus.SERVING };
    await aborted(signal);
    yield { status: status() };
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
