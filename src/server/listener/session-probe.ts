import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";

/**
 * Finds HTTP/2 sessions that hang in the middle of a frame. Node has no timeout for them, and shows a frame only
 * once it is complete: half a HEADERS frame looks like silence.
 *
 * Bytes that came in and opened no stream are suspect. A client that is at the end of a frame answers a PING,
 * however idle it is; one that stopped inside a frame cannot.
 */
export class SessionProbe {
  readonly #session: ServerHttp2Session;
  readonly #socket: Socket;
  #bytesExplained = 0;
  /** A session that never does anything is suspect from its start. */
  #suspectSince: number | undefined;
  #pinged = false;

  constructor(session: ServerHttp2Session, socket: Socket, now: number) {
    this.#session = session;
    this.#socket = socket;
    this.#suspectSince = now;
    session.on("stream", () => this.#clear());
  }

  /** To be called several times per `patienceMs`. Returns whether the session has been suspect for that long. */
  isHalfOpen(now: number, patienceMs: number): boolean {
    if (this.#session.destroyed) return false;
    if (this.#suspectSince === undefined && this.#socket.bytesRead > this.#bytesExplained)
      this.#suspectSince = now;
    if (this.#suspectSince === undefined) return false;
    const suspectMs = now - this.#suspectSince;
    if (suspectMs >= patienceMs / 2 && !this.#pinged) this.#ping();
    return suspectMs >= patienceMs;
  }

  #ping(): void {
    this.#pinged = true;
    this.#session.ping((error) => {
      if (error === null) this.#clear();
    });
  }

  #clear(): void {
    this.#bytesExplained = this.#socket.bytesRead;
    this.#suspectSince = undefined;
    this.#pinged = false;
  }
}
