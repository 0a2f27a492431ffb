import type { Clock } from "../../system/clock.ts";

/** What a connection may do without asking for anything, in points, at once and each second. */
const POINTS_MAX = 10_000;
const POINTS_A_SECOND = 330;
/** What an answer that was sent whole is worth. grpc-go sends a ping for each, and sometimes a window. */
const POINTS_AN_ANSWER = 20;
/**
 * And so many bytes of it a point. Some clients say of every 4 KiB that they have taken them, once for the stream and once for
 * the connection.
 */
const BYTES_A_POINT = 1_024;

/**
 * What of a client's doings costs. An answered request pays for as many acknowledgements, windows and pings as a client
 * sends for one; nobody waits for the others.
 */
export const COST = {
  /** Of a frame that little follows from. */
  FRAME: 1,
  /** Of one that is replied to, or undoes what was done, or says nothing. */
  FUTILE: 10,
  /** Of a request that breaks the protocol, or is one too many. */
  REFUSED: 100,
} as const;

/**
 * Bounds what a client of HTTP/2 can have done for nothing: PING, SETTINGS, resets, empty frames. In as many requests as
 * there are, or slowly, everything is allowed.
 */
export class FloodLimit {
  readonly #clock: Pick<Clock, "now">;
  #points = POINTS_MAX;
  #filledAt: number;

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
    this.#filledAt = clock.now();
  }

  /** An answer was sent, or a piece of a stream. */
  answered(): void {
    this.#earn(POINTS_AN_ANSWER);
  }

  /** So much of an answer was. */
  sent(bytes: number): void {
    this.#earn(bytes / BYTES_A_POINT);
  }

  #earn(points: number): void {
    this.#points = Math.min(POINTS_MAX, this.#points + points);
  }

  /** False: that was too much. */
  spend(points: number): boolean {
    this.#points -= points;
    return this.#points >= 0 || this.#refill();
  }

  #refill(): boolean {
    const now = this.#clock.now();
    const points = this.#points + ((now - this.#filledAt) / 1_000) * POINTS_A_SECOND;
    this.#filledAt = now;
    this.#points = Math.min(POINTS_MAX, points);
    return points >= 0;
  }
}
