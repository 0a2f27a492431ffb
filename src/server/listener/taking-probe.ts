import type { ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";

/**
 * Finds HTTP/2 sessions whose client asks and does not take the answers. They wait in their streams, for as much as the
 * client allows to be sent, and the socket's own queue is empty meanwhile.
 *
 * A client takes something where a stream comes to its end, or where more goes out than comes in: what Node says by itself
 * to PING and SETTINGS frames is never longer than they are, so that nobody looks busy by sending those.
 */
export class TakingProbe {
  readonly #socket: Socket;
  readonly #streams = new Set<ServerHttp2Stream>();
  #bytesIn = 0;
  #bytesOut = 0;
  /** When the client last took something, or had nothing to take. */
  #wellAt: number;
  #streamEnded = false;

  constructor(socket: Socket, now: number) {
    this.#socket = socket;
    this.#wellAt = now;
  }

  began(stream: ServerHttp2Stream): void {
    this.#streams.add(stream);
  }

  ended(stream: ServerHttp2Stream): void {
    this.#streams.delete(stream);
    this.#streamEnded = true;
  }

  /** To be called several times per `patienceMs`. Whether nothing was taken for that long of answers that are complete. */
  isStalled(now: number, patienceMs: number): boolean {
    if (this.#tookSomething() || !this.#hasAnswerWaiting()) this.#wellAt = now;
    return now - this.#wellAt >= patienceMs;
  }

  #tookSomething(): boolean {
    const { bytesRead, bytesWritten } = this.#socket;
    const sentMore = bytesWritten - this.#bytesOut > bytesRead - this.#bytesIn;
    const tookSomething = this.#streamEnded || sentMore;
    this.#bytesIn = bytesRead;
    this.#bytesOut = bytesWritten;
    this.#streamEnded = false;
    return tookSomething;
  }

  /** Answers that are not complete yet wait for us, and those that have no end have a limit of their own. */
  #hasAnswerWaiting(): boolean {
    for (const stream of this.#streams) if (stream.writableEnded) return true;
    return false;
  }
}
