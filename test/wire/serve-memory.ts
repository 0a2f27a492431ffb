import { FlagEvaluatorService } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import type { DependencyCheck } from "../../src/health/dependency-health.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { type DropReason, type HttpServer, openHttpServer } from "../../src/server/http-server.ts";
import type { ListenAddress } from "../../src/server/listener/listen.ts";
import type { ConnectionLimits } from "../../src/server/listener/node-servers.ts";
import { createRoutes } from "../../src/server/routes.ts";
import type { Permit } from "../../src/server/rpc/permit.ts";
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
  /** Whether plain calls go the fast way. Unset: yes. */
  readonly isFast?: boolean;
  readonly permit?: Permit;
  readonly clock?: Clock;
  /** Stands between the service and the namespace. */
  readonly wrap?: (namespace: Namespace) => Namespace;
  readonly checks?: readonly DependencyCheck[];
  /** As a proxy has them; without them, it is a root. */
  readonly upstreams?: ListedPool;
}

/** A server as the daemon composes it. Disposing of it leaves the namespace open. */
export interface ServedNamespace extends AsyncDisposable {
  readonly port: number;
  readonly server: HttpServer;
  readonly rpcs: readonly Rpc[];
  readonly drops: readonly DropReason[];
  readonly internalErrors: readonly { readonly error: unknown; readonly where: string }[];
  /** Ends readiness and streams, as the daemon does before it drains. */
  readonly stop: () => void;
}

/** The same over a real namespace whose store is in memory, which goes with it. */
export interface Served extends ServedNamespace {
  readonly store: MemoryStore;
  readonly namespace: Namespace;
}

/**
 * Flags: `notifications/1` (alias `notifications.email`) is "weekly", "never" for user-1 · `notifications/2` is a
 * bool without a row, default true · `notifications/3` is killed, default 5 · `checkout/1` has no default, no row.
 */
export async function serveMemory(options: ServeOptions = {}): Promise<Served> {
  const store = fillStore(new MemoryStore());
  store.away = options.storeAway ?? false;
  const namespace = openMemoryNamespace(store, options.clock ?? systemClock);
  const served = await serveNamespace(options.wrap?.(namespace) ?? namespace, options);
  if (!store.away) await namespace.whenReady(AbortSignal.timeout(10_000));
  return {
    ...served,
    store,
    namespace,
    async [Symbol.asyncDispose]() {
      await served[Symbol.asyncDispose]();
      await namespace[Symbol.asyncDispose]();
    },
  };
}

/** Serves a namespace that a test has opened. */
export async function serveNamespace(
  namespace: Namespace,
  options: Omit<ServeOptions, "storeAway" | "wrap"> = {},
): Promise<ServedNamespace> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const clock = options.clock ?? systemClock;
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
      namespace,
      upstreams: options.upstreams,
      version: "test",
      limits: { ...limits, fetchTimeoutMs: 500 },
      clock,
      tracing: options.tracing,
      isFast: options.isFast ?? true,
      ...(options.permit === undefined ? {} : { permit: options.permit }),
      stopping: stopping.signal,
      checks: () => options.checks ?? [],
      metrics: async () => ({ contentType: "text/plain; version=0.0.4", body: "up 1\n" }),
      onRpc: (rpc) => rpcs.push(rpc),
      onInternalError: (error, where) => internalErrors.push({ error, where }),
    }),
    onDrop: (reason) => drops.push(reason),
    onInternalError: (error, where) => internalErrors.push({ error, where }),
  });
  return {
    port: server.address.kind === "tcp" ? server.address.port : 0,
    server,
    rpcs,
    drops,
    internalErrors,
    stop: () => stopping.abort(),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await server[Symbol.asyncDispose]();
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
