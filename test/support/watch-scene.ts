import type { Namespace } from "../../src/namespaces/namespace.ts";
import { openNamespace } from "../../src/namespaces/namespace.ts";
import { type HttpServer, openHttpServer } from "../../src/server/http-server.ts";
import { createRoutes, type RouteOptions } from "../../src/server/routes.ts";
import { Latest } from "../../src/system/latest.ts";
import type { Rpc } from "../../src/telemetry/call-counts.ts";
import { DEFAULT_LIMITS } from "../wire/serve-memory.ts";
import { eventually } from "./eventually.ts";
import { FakeClock, settle } from "./fake-clock.ts";
import { defineFlag, stateOf, tableOf } from "./flag-builders.ts";
import { MemoryStore } from "./memory-store.ts";
import { silentEvents } from "./silent-events.ts";

export interface WatchSceneOptions {
  /** Unset: a new one. */
  readonly store?: MemoryStore;
  readonly clock?: FakeClock;
  /** Unset: any free one. */
  readonly port?: number;
  /** The store does not answer until it is told to. */
  readonly storeAway?: boolean;
  /** As an older pbflagd. */
  readonly withoutWatch?: boolean;
  readonly onStalled?: RouteOptions["onStalled"];
  readonly permit?: RouteOptions["permit"];
}

const KILL_TTL_MS = 30_000;

/** A daemon over a store in memory, on a clock that is turned by hand and a real socket. `a/2` is killed. */
export class WatchScene implements AsyncDisposable {
  readonly clock: FakeClock;
  readonly store: MemoryStore;
  readonly namespace: Namespace;
  readonly rpcs: Rpc[] = [];
  readonly internalErrors: unknown[] = [];
  followers = 0;
  readonly #stopping = new AbortController();
  #server: HttpServer | undefined;

  private constructor(clock: FakeClock, store: MemoryStore) {
    this.clock = clock;
    this.store = store;
    this.namespace = openNamespace({
      flags: new Latest(tableOf(defineFlag("a/1"), defineFlag("a/2"))),
      store,
      clock,
      random: () => 0.5,
      killTtlMs: KILL_TTL_MS,
      flagTtlMs: 300_000,
      overrideTtlMs: 300_000,
      negativeTtlMs: 5_000,
      overrideEntriesMax: 100,
      jitter: 0,
      events: silentEvents,
      traceStoreCall: (_, run) => run(),
    });
  }

  static async open(options: WatchSceneOptions = {}): Promise<WatchScene> {
    const store = options.store ?? new MemoryStore();
    if (options.store === undefined) {
      store.set(stateOf("a/1"));
      store.set(stateOf("a/2", { mode: "killed" }));
    }
    store.away = options.storeAway ?? false;
    const scene = new WatchScene(options.clock ?? new FakeClock(), store);
    await settle();
    scene.#server = await scene.#listen(options);
    return scene;
  }

  get port(): number {
    const address = this.#server?.address;
    return address?.kind === "tcp" ? address.port : 0;
  }

  get server(): HttpServer {
    if (this.#server === undefined) throw new Error("the server is not open yet");
    return this.#server;
  }

  get version() {
    return this.store.versionAt(this.store.head);
  }

  /** Has the daemon read its store again. */
  async poll(): Promise<void> {
    await this.namespace.catchUp(this.version, AbortSignal.timeout(10_000));
  }

  /** As the daemon does before it drains. */
  stop(): void {
    this.#stopping.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    let isClosed = false;
    const closed = () => {
      isClosed = true;
    };
    void this.#server?.[Symbol.asyncDispose]().then(closed);
    // The drain looks again and again, by the clock.
    await eventually(async () => {
      await this.clock.advance(20);
      return isClosed;
    });
    await this.namespace[Symbol.asyncDispose]();
  }

  #listen(options: WatchSceneOptions): Promise<HttpServer> {
    const { port = 0, withoutWatch = false } = options;
    const limits = DEFAULT_LIMITS;
    const routes = this.#routes(options);
    return openHttpServer({
      address: { kind: "tcp", host: "127.0.0.1", port },
      limits,
      drainTimeoutMs: 10_000,
      clock: this.clock,
      handle(request, response) {
        if (!withoutWatch || !request.url?.startsWith("/pbflagd.v1.WatchService/")) routes(request, response);
        else {
          response.writeHead(404, {});
          response.end();
        }
      },
      onDrop: () => {},
      onInternalError: (error) => this.internalErrors.push(error),
    });
  }

  #routes({ onStalled, permit }: WatchSceneOptions) {
    return createRoutes({
      namespace: this.namespace,
      upstreams: undefined,
      version: "test",
      limits: { ...DEFAULT_LIMITS, fetchTimeoutMs: 500 },
      clock: this.clock,
      tracing: undefined,
      stopping: this.#stopping.signal,
      checks: () => [],
      metrics: async () => ({ contentType: "text/plain", body: "" }),
      onRpc: (rpc) => this.rpcs.push(rpc),
      onFollowers: (count) => {
        this.followers = count;
      },
      ...(onStalled === undefined ? {} : { onStalled }),
      ...(permit === undefined ? {} : { permit }),
      onInternalError: (error) => this.internalErrors.push(error),
    });
  }
}
