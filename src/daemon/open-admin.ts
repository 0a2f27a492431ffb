import type { Config } from "../config/settings.ts";
import { ADMIN_PROCEDURES, createAdminRoutes } from "../server/admin-routes.ts";
import { type HttpServer, openHttpServer } from "../server/http-server.ts";
import { ListenError } from "../server/listener/listen.ts";
import { openFlagAdmin } from "../store/flag-admin.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { DaemonDeps } from "./deps.ts";
import { reportServer } from "./report-server.ts";

export { ADMIN_PROCEDURES };

export interface AdminParts {
  readonly config: Config;
  readonly deps: Pick<DaemonDeps, "clock" | "logger" | "tracing">;
  readonly metrics: Metrics;
  /** Aborts when the daemon begins to drain. */
  readonly stopping: AbortSignal;
}

/** The admin service on an address of its own. Disposing of it drains it. */
export interface OpenAdmin extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly address: HttpServer["address"];
}

/**
 * Serves the admin service, if it is configured, over sessions of its own: whatever becomes of them, evaluation does
 * not notice. The database is not asked before somebody calls.
 *
 * @throws ListenError, which names the setting
 */
export async function openAdmin(parts: AdminParts): Promise<OpenAdmin | undefined> {
  const { config, deps, metrics, stopping } = parts;
  const { admin: address, database: url, limits } = config;
  const { clock, logger, tracing } = deps;
  if (address === undefined || url === undefined) return undefined;
  const { onRpc, onStalled, onInternalError, onDrop } = reportServer({ metrics, logger });
  const admin = openFlagAdmin({ url, clock });
  const server = await openHttpServer({
    address,
    limits,
    drainTimeoutMs: config.shutdownTimeoutMs,
    clock,
    handle: createAdminRoutes({
      admin,
      limits,
      clock,
      tracing,
      stopping,
      onRpc,
      onTrouble: (error, procedure) => logger.warn("admin_call_failed", { procedure, reason: error.message }),
      onStalled,
      onInternalError,
    }),
    onDrop,
    onInternalError,
  }).catch(async (error: unknown) => {
    await admin[Symbol.asyncDispose]();
    throw error instanceof ListenError ? new ListenError(`admin: ${error.message}`, { cause: error }) : error;
  });
  logger.info("admin_serving", { address: server.address });
  return {
    address: server.address,
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await admin[Symbol.asyncDispose]();
    },
  };
}
