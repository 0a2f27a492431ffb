import type { Clock } from "../../system/clock.ts";
import type { HttpResponse } from "../listener/exchange.ts";

export interface PieceWriterOptions {
  readonly response: HttpResponse;
  /** How long a client may take for the next piece. Then it is cut: what it does not take is held in memory. */
  readonly stallTimeoutMs: number;
  readonly clock: Pick<Clock, "sleep">;
  /** It was cut. */
  readonly onStalled: () => void;
}

/** A long message goes out in pieces, so that a slow client can be told from one that takes nothing. */
const PIECE_BYTES = 64 * 1_024;

/** Writes an answer no faster than its client takes it. What is not taken yet is at most one message. */
export class PieceWriter {
  readonly #options: PieceWriterOptions;
  #isClosed = false;

  constructor(options: PieceWriterOptions) {
    this.#options = options;
    options.response.once("close", () => {
      this.#isClosed = true;
    });
  }

  /** Undefined: the client can take more at once. Else resolves when it can, or is gone; nothing is to be written before. */
  write(message: Uint8Array): Promise<void> | undefined {
    return this.#writeFrom(message, 0);
  }

  #writeFrom(message: Uint8Array, from: number): Promise<void> | undefined {
    for (let at = from; at < message.length; at += PIECE_BYTES) {
      if (this.#isClosed) return undefined;
      if (this.#options.response.write(message.subarray(at, at + PIECE_BYTES))) continue;
      return this.#drained().then(() => this.#writeFrom(message, at + PIECE_BYTES));
    }
    return undefined;
  }

  #drained(): Promise<void> {
    const { response, stallTimeoutMs, clock, onStalled } = this.#options;
    return new Promise((resolve) => {
      const settled = new AbortController();
      const done = () => {
        response.off("drain", done);
        response.off("close", done);
        settled.abort();
        resolve();
      };
      response.once("drain", done);
      response.once("close", done);
      const cut = () => {
        onStalled();
        response.destroy();
      };
      clock.sleep(stallTimeoutMs, settled.signal).then(cut, () => {});
    });
  }
}
