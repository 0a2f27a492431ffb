import { FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import type { DependencyCheck } from "../../src/health/dependency-health.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { type DropReason, type HttpServer, openHttpServer } from "../../src/server/http-server.ts";
import type { ListenAddress } from "../../src/server/listener/listen.ts";
import type { ConnectionLimits } from "../../src/server/listener/node-servers.ts";
import { createRoutes } from "../../src/server/routes.ts";
import type { ListedPool } from "../../src/server/upstream-service.ts";
import { type Clock, systemClock } from "../../src/system/clock.ts";
import { Latest } from "../../src/system/latest.ts";
import type { Rpc } from "../../src/telemetry/call-counts.ts";
import type { Tracing } from "../../src/telemetry/tracing.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "../support/flag-builders.ts";
import { MemoryStore } from "../support/memory-store.ts";
import { silentEvents } from "../support/silent-events.ts";

/** The path of an RPC of the evaluator. */
export function evaluatorPath(method: keyof typeof FlagEvaluatorService.method): string {
  return `/${FlagEvaluatorService.typeName}/${FlagEvaluatorService.method[method].name}`;
}

/** The limits that config.md has by default. */
export const DEFAULT_LIMITS = {
  headerBytesMax: 16 * 1_024,
  bodyBytesMax: 1_024 * 1_024,
  bulkFlagsMax: 10_000,
  connectionsMax: 10_000,
  streamsMax: 250,
  headerTimeoutMs: 5_000,
  requestTimeoutMs: 10_000,
  idleTimeoutMs: 300_000,
};

export interface ServeOptions {
  readonly address?: ListenAddress;
  readonly limits?: Partial<ConnectionLimits & { bodyBytesMax: number; bulkFlagsMax: number }>;
  readonly drainTimeoutMs?: number;
  /** The store never answers. */
  readonly storeAway?: boolean;
  readonly tracing?: Pick<Tracing, "traceRpc" | "traceEvaluate">;
  readonly clock?: Clock;
  /** Stands between the service and the namespace. */
  readonly wrap?: (namespace: Namespace) => Namespace;
  readonly checks?: readonly DependencyCheck[];
  /** As a proxy has them; without them, it is a root. */
  readonly upstreams?: ListedPool;
}

/** A server as the daemon composes it, over a real namespace whose store is in memory. */
export interface Served extends AsyncDisposable {
  readonly port: number;
  readonly store: MemoryStore;
  readonly namespace: Namespace;
  readonly server: HttpServer;
  readonly rpcs: readonly Rpc[];
  readonly drops: readonly DropReason[];
  readonly internalErrors: readonly { readonly error: unknown; readonly where: string }[];
  /** Ends readiness and streams, as the daemon does before it drains. */
  readonly stop: () => void;
}

/**
 * Flags: `notifications/1` (alias `notifications.email`) is "weekly", "never" for user-1 · `notifications/2` is a
 * bool without a row, default true · `notifications/3` is killed, default 5 · `checkout/1` has no default, no row.
 */
export async function serveMemory(options: ServeOptions = {}): Promise<Served> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const clock = options.clock ?? systemClock;
  const store = fillStore(new MemoryStore());
  store.away = options.storeAway ?? false;
  const namespace = openMemoryNamespace(store, clock);
  const rpcs: Rpc[] = [];
  const drops: DropReason[] = [];
  const internalErrors: { error: unknown; where: string }[] = [];
  const stopping = new AbortController();
  const server = await openHttpServer({
    address: options.address ?? { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits,
    drainTimeoutMs: options.drainTimeoutMs ?? 10_000,
    clock,
    handle: createRoutes({
      namespace: options.wrap?.(namespace) ?? namespace,
      upstreams: options.upstreams,
      version: "test",
      limits: { ...limits, fetchTimeoutMs: 500 },
      clock,
      tracing: options.tracing,
      stopping: stopping.signal,
      checks: () => options.checks ?? [],
      metrics: async () => ({ contentType: "text/plain; version=0.0.4", body: "up 1\n" }),
      onRpc: (rpc) => rpcs.push(rpc),
      onInternalError: (error, where) => internalErrors.push({ error, where }),
    }),
    onDrop: (reason) => drops.push(reason),
  });
  if (!store.away) await namespace.whenReady(AbortSignal.timeout(10_000));
  return {
    port: server.address.kind === "tcp" ? server.address.port : 0,
    store,
    namespace,
    server,
    rpcs,
    drops,
    internalErrors,
    stop: () => stopping.abort(),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await server[Symbol.asyncDispose]();
      await namespace[Symbol.asyncDispose]();
    },
  };
}

function fillStore(store: MemoryStore): MemoryStore {
  store.set(stateOf("notifications/1"));
  store.set(stateOf("notifications/3", { mode: "killed", value: undefined, type: "INT64" }));
  store.set(stateOf("gone/1", { archived: true, value: flagValue("kept") }));
  store.setOverride(overrideOf("notifications/1", "user-1"));
  store.setOverride(overrideOf("notifications/2", "user-1", { mode: "killed", value: undefined }));
  return store;
}

function openMemoryNamespace(store: MemoryStore, clock: Clock): Namespace {
  const flags = tableOf(
    defineFlag("notifications/1", { name: "email" }),
    defineFlag("notifications/2", { name: "push", type: "BOOL", defaultValue: flagValue(true) }),
    defineFlag("notifications/3", { name: "retries", type: "INT64", defaultValue: flagValue(5n) }),
    defineFlag("checkout/1", { name: "banner", defaultValue: undefined }),
  );
  return openNamespace({
    flags: new Latest(flags),
    store,
    clock,
    random: () => 0.5,
    killTtlMs: 30_000,
    flagTtlMs: 300_000,
    overrideTtlMs: 300_000,
    negativeTtlMs: 5_000,
    overrideEntriesMax: 10_000,
    jitter: 0.2,
    events: silentEvents,
    traceStoreCall: (_, run) => run(),
  });
}
