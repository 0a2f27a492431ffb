/**
 * Whether the client of a connection of HTTP/2 is there, and takes what it asks for. Times are of the monotonic clock.
 *
 * Half open is who stops inside a frame or a header block, who has never asked for anything nor answered a PING, and who does
 * not close a connection that was ended. Stalled is who takes nothing of answers that are complete: they wait in their
 * streams for as much as the client allows to be sent, or in the socket. What is replied to PING and SETTINGS is no sign that
 * answers are taken.
 */
export class Liveness {
  #isProven = false;
  #isPinged = false;
  /** Since when it owes the rest of something, or the end of the connection. At first, a first frame. */
  #owesSince: number | undefined;
  readonly #openedAt: number;
  /** When the client last took something, or had nothing to take. */
  #wellAt: number;
  #hasMoved = false;
  #taken = -1;

  constructor(now: number) {
    this.#openedAt = now;
    this.#owesSince = now;
    this.#wellAt = now;
  }

  /** The client has asked for something, or has answered a PING. */
  proved(): void {
    this.#isProven = true;
  }

  /** What came is taken in. `owes`: it ended inside of something; `isNew`: of something that began with it. */
  took(now: number, owes: boolean, isNew: boolean): void {
    if (!owes) this.#owesSince = undefined;
    else if (isNew || this.#owesSince === undefined) this.#owesSince = now;
  }

  /** The connection is at its end, and it is for the client to close it. */
  ended(now: number): void {
    this.#owesSince = now;
  }

  /** Something of an answer was sent that the client allowed, or a stream has come to its end. */
  moved(): void {
    this.#hasMoved = true;
  }

  /** True once: it is to be pinged. */
  isUnproven(now: number, patienceMs: number): boolean {
    if (this.#isProven || this.#isPinged || now - this.#openedAt < patienceMs) return false;
    return (this.#isPinged = true);
  }

  isHalfOpen(now: number, patienceMs: number): boolean {
    const since = this.#owesSince ?? (this.#isProven ? undefined : this.#openedAt);
    return since !== undefined && now - since >= patienceMs;
  }

  /** `waiting`: answers wait for windows, or in the socket, which has got rid of so many bytes; undefined: none do. */
  isStalled(now: number, patienceMs: number, waiting: "windows" | number | undefined): boolean {
    const hasTaken = typeof waiting === "number" && waiting !== this.#taken;
    if (waiting === undefined || hasTaken || this.#hasMoved) this.#wellAt = now;
    if (typeof waiting === "number") this.#taken = waiting;
    this.#hasMoved = false;
    return now - this.#wellAt >= patienceMs;
  }
}
