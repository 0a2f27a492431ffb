import { Agent, type ClientRequest } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Clock } from "../../../system/clock.ts";
import type { ConnectionSettings } from "../../upstream-settings.ts";
import { closedError, type Dialer } from "../socket/dialer.ts";
import { QUIET_MS } from "../stale.ts";

/** A timer of Node that is asked for more fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Keeps connections to one upstream, over TLS too: it is the dialer that knows. */
export class UpstreamAgent extends Agent {
  /** Requests that have no answer yet. */
  readonly underWay = new Set<ClientRequest>();
  readonly #dialer: Dialer;
  readonly #clock: Pick<Clock, "now">;
  readonly #hasKeepAlive: boolean;
  readonly #freeSince = new WeakMap<Duplex, number>();
  readonly #onDoubtful = new WeakSet<ClientRequest>();
  #isClosed = false;

  constructor(
    dialer: Dialer,
    { connectionsMax, idleTimeoutMs, keepAliveMs }: ConnectionSettings,
    clock: Pick<Clock, "now">,
  ) {
    super({
      keepAlive: true,
      keepAliveMsecs: keepAliveMs,
      maxSockets: connectionsMax,
      // Closes those that nobody uses.
      timeout: Math.min(idleTimeoutMs, TIMER_MAX_MS),
    });
    this.#dialer = dialer;
    this.#clock = clock;
    this.#hasKeepAlive = keepAliveMs > 0;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  override createConnection(): Duplex {
    return this.#dialer.dial();
  }

  override keepSocketAlive(socket: Duplex): void {
    const isKept = super.keepSocketAlive(socket);
    if (!this.#hasKeepAlive && socket instanceof Socket) socket.setKeepAlive(false);
    this.#freeSince.set(socket, this.#clock.now());
    return isKept;
  }

  override reuseSocket(socket: Duplex, request: ClientRequest): void {
    const quietMs = this.#clock.now() - (this.#freeSince.get(socket) ?? Infinity);
    if (quietMs >= QUIET_MS || !socket.writable) this.#onDoubtful.add(request);
    super.reuseSocket(socket, request);
  }

  /** Whether a request was given a connection that the other side may have given up long before. */
  isOnDoubtful(request: ClientRequest): boolean {
    return this.#onDoubtful.has(request);
  }

  /** Closes the connections that nobody uses: the one used last is always the first to be used again. */
  closeFree(): void {
    for (const sockets of Object.values(this.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }

  /** Ends what is under way, and all connections. */
  override destroy(): void {
    this.#isClosed = true;
    // Those that wait for a connection too, which would otherwise open one.
    for (const request of this.underWay) request.destroy(closedError());
    super.destroy();
  }
}
