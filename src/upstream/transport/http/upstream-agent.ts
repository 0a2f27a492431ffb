import { Agent, type ClientRequest } from "node:http";
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { ConnectionSettings } from "../../upstream-settings.ts";
import { closedError, type Dialer } from "../socket/dialer.ts";

/** A timer of Node that is asked for more fires at once. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** Keeps connections to one upstream, over TLS too: it is the dialer that knows. */
export class UpstreamAgent extends Agent {
  /** Requests that have no answer yet. */
  readonly underWay = new Set<ClientRequest>();
  readonly #dialer: Dialer;
  readonly #hasKeepAlive: boolean;
  #isClosed = false;

  constructor(dialer: Dialer, { connectionsMax, idleTimeoutMs, keepAliveMs }: ConnectionSettings) {
    super({
      keepAlive: true,
      keepAliveMsecs: keepAliveMs,
      maxSockets: connectionsMax,
      // Closes those that nobody uses.
      timeout: Math.min(idleTimeoutMs, TIMER_MAX_MS),
    });
    this.#dialer = dialer;
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
    return isKept;
  }

  /** Ends what is under way, and all connections. */
  override destroy(): void {
    this.#isClosed = true;
    // Those that wait for a connection too, which would otherwise open one.
    for (const request of this.underWay) request.destroy(closedError());
    super.destroy();
  }
}
