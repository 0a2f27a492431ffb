import type { ServerHttp2Session } from "node:http2";
import type { Socket } from "node:net";

/**
 * Finds HTTP/2 sessions that hang in the middle of a frame. Node has no timeout for them, and shows a frame only
 * once it is complete: half a HEADERS frame looks like silence.
 *
 * Bytes that came in and opened no stream are suspect. A client that is at the end of a frame answers a PING,
 * however idle it is; one that stopped inside a frame cannot. Suspect is also a session whose last stream was reset:
 * at more resets than it puts up with, Node ends it with a GOAWAY and keeps its connection open.
 */
export class SessionProbe {
  readonly #session: ServerHttp2Session;
  readonly #socket: Socket;
  #bytesExplained = 0;
  /** A session that never does anything is suspect from its start. */
  #suspectSince: number | undefined;
  #pinged = false;
  #wasReset = false;

  constructor(session: ServerHttp2Session, socket: Socket, now: number) {
    this.#session = session;
    this.#socket = socket;
    this.#suspectSince = now;
    session.on("stream", () => this.#clear());
  }

  streamWasReset(): void {
    this.#wasReset = true;
  }

  /** To be called several times per `patienceMs`. Returns whether the session has been suspect for that long. */
  isHalfOpen(now: number, patienceMs: number): boolean {
    if (this.#session.destroyed) return false;
    if (this.#wasReset || this.#socket.bytesRead > this.#bytesExplained) this.#suspectSince ??= now;
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
    this.#wasReset = false;
  }
}
