import { WINDOW_BYTES } from "./frames.ts";

/** A refund is worth a frame from here on. */
const REFUND_BYTES_MIN = 16_384;

/** How much a client may send on a stream, or on all of them, before it is told that it may send more (RFC 9113, section 5.2). */
export class ReceiveWindow {
  #left = WINDOW_BYTES;
  #refund = 0;

  /** False: it was not allowed to send so much. */
  receive(bytes: number): boolean {
    this.#left -= bytes;
    this.#refund += bytes;
    return this.#left >= 0;
  }

  /** By how much the window grows now that all that came is taken; 0: it is not worth telling. */
  refund(): number {
    const refund = this.#refund;
    if (refund < REFUND_BYTES_MIN) return 0;
    this.#left += refund;
    this.#refund = 0;
    return refund;
  }
}
