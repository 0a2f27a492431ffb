import type { Socket } from "node:net";
import { Readiness } from "../namespaces/readiness.ts";
import type { Listener, OpenListener } from "../server/listener/open-listener.ts";
import type { Clock } from "../system/clock.ts";
import type { ProcessMetrics } from "../telemetry/add-up.ts";
import type { LogLevel } from "../telemetry/logger.ts";
import type { RenderedMetrics } from "../telemetry/metrics.ts";
import type { Channel, Knows, StartMessage, Told, ToPrimary, ToWorker } from "./messages.ts";
import { Questions } from "./questions.ts";

export interface PrimaryLinkOptions {
  readonly channel: Channel<ToWorker, ToPrimary>;
  /** Aborts when the primary has ended, however it did. */
  readonly lost: AbortSignal;
  readonly clock: Pick<Clock, "now" | "after" | "sleep">;
}

/** For the metrics of all processes. */
const SCRAPE_MAX_MS = 2_000;
/** For the last connection, once the end is near. */
const NO_MORE_MAX_MS = 3_000;

/** What a worker has of its primary. */
export class PrimaryLink {
  /** Rejects if the primary is lost before it has said anything. */
  readonly start: Promise<StartMessage>;
  /** Aborts when this worker is to end. */
  readonly stopping: AbortSignal;
  /** What the primary last told of itself, and when on the clock. Undefined before the start. */
  told: (Told & { readonly at: number }) | undefined;
  /** The daemon's, of all its processes. */
  readonly readiness = new Readiness();
  onLogLevel: (level: LogLevel) => void = () => {};
  /** Asked for whenever the primary wants to know. */
  count: () => Promise<ProcessMetrics> = () => Promise.resolve([]);
  readonly #options: PrimaryLinkOptions;
  readonly #stop = new AbortController();
  readonly #noMore = new AbortController();
  readonly #scrapes: Questions<RenderedMetrics>;
  readonly #begun: (start: StartMessage) => void;
  #accept: (socket: Socket) => void = (socket) => socket.destroy();

  constructor(options: PrimaryLinkOptions) {
    const { channel, lost, clock } = options;
    this.#options = options;
    this.#scrapes = new Questions({ clock, timeoutMs: SCRAPE_MAX_MS });
    this.stopping = this.#stop.signal;
    const { promise, resolve, reject } = withResolvers<StartMessage>();
    this.start = promise;
    this.#begun = resolve;
    const onLost = () => {
      reject(new Error("Cannot work: the primary has ended"));
      this.#stop.abort("the primary has ended");
      this.#noMore.abort();
    };
    if (lost.aborted) onLost();
    else lost.addEventListener("abort", onLost, { once: true });
    channel.receive((message, socket) => this.#hear(message, socket));
  }

  /** From now on connections may come. To be said again once all is known: a daemon that is ready waits for that. */
  open(knows: Knows): void {
    this.#options.channel.send({ kind: "open", knows });
  }

  /** The metrics of all processes. Rejects if the primary does not tell them in time. */
  async scrape(): Promise<RenderedMetrics> {
    const metrics = await this.#scrapes.ask((id) => this.#options.channel.send({ kind: "scrape", id }));
    if (metrics === undefined)
      throw new Error(`Cannot tell the metrics: the primary did not within ${SCRAPE_MAX_MS} ms`);
    return metrics;
  }

  /** Takes connections from the primary, that listens on the address. */
  openListener(address: Listener["address"]): OpenListener {
    return async (accept) => {
      this.#accept = accept;
      return {
        address,
        stop: () => this.#options.clock.sleep(NO_MORE_MAX_MS, this.#noMore.signal).catch(() => {}),
        async [Symbol.asyncDispose]() {},
      };
    };
  }

  #hear(message: ToWorker, socket: Socket | undefined): void {
    switch (message.kind) {
      case "start":
        this.#tell(message.told);
        this.#begun(message);
        break;
      case "told":
        this.#tell(message.told);
        break;
      case "ready":
        this.readiness.reach();
        break;
      case "log_level":
        this.onLogLevel(message.level);
        break;
      case "connection":
        this.#take(message.id, socket);
        break;
      case "count":
        void this.count().then((metrics) =>
          this.#options.channel.send({ kind: "counted", id: message.id, metrics }),
        );
        break;
      case "scraped":
        this.#scrapes.answered(message.id, message.metrics);
        break;
      case "stop":
        this.#stop.abort("told to");
        break;
      case "no_more_connections":
        this.#noMore.abort();
        break;
    }
  }

  #tell(told: Told): void {
    this.told = { ...told, at: this.#options.clock.now() };
  }

  #take(id: number, socket: Socket | undefined): void {
    const { channel } = this.#options;
    // Before anything is read: from here on nobody else can serve it.
    channel.send({ kind: "accepted", id });
    const closed = () => channel.send({ kind: "closed" });
    if (socket === undefined) {
      closed();
      return;
    }
    socket.once("close", closed);
    // As the servers of this process would have it.
    socket.allowHalfOpen = true;
    this.#accept(socket);
  }
}

function withResolvers<T>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((settle, fail) => {
    resolve = settle;
    reject = fail;
  });
  // Who waits for it hears of it; who does not may ignore it.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
