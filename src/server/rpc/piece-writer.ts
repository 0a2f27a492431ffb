import type { Clock } from "../../system/clock.ts";
import type { HttpResponse } from "../listener/exchange.ts";

export interface PieceWriterOptions {
  readonly response: HttpResponse;
  /** Aborts when the client has left. */
  readonly left: AbortSignal;
  /** How long a client may take for a piece. Then it is cut: what it does not take is held in memory. */
  readonly stallTimeoutMs: number;
  readonly clock: Pick<Clock, "after">;
  /** It is being cut. */
  readonly onStalled: () => void;
}

/** A long message goes out in pieces, so that a slow client can be told from one that takes nothing. */
const PIECE_BYTES = 64 * 1_024;

/**
 * Writes an answer no faster than its client takes it. A piece is taken once it has left this process: the systems on
 * the way hold some megabytes, and cannot be asked whether the client has read them.
 */
export class PieceWriter {
  readonly #options: PieceWriterOptions;

  constructor(options: PieceWriterOptions) {
    this.#options = options;
  }

  /** Resolves when all of it is taken, or the client is gone. Nothing else is to be written before. */
  async write(message: Uint8Array): Promise<void> {
    for (const piece of piecesOf(message)) {
      if (this.#options.left.aborted) return;
      await this.#taken(piece);
    }
  }

  /** Calls `onTaken` once that is so; never if the client leaves or is cut. Nothing else is to be written before. */
  writePiece(piece: Uint8Array, onTaken: () => void): void {
    const { response, left, stallTimeoutMs, clock, onStalled } = this.#options;
    if (left.aborted) return;
    let isSettled = false;
    const settle = () => {
      isSettled = true;
      left.removeEventListener("abort", settle);
      cancel();
    };
    const cancel = clock.after(stallTimeoutMs, () => {
      settle();
      onStalled();
      response.destroy();
    });
    left.addEventListener("abort", settle, { once: true });
    response.write(piece, (error) => {
      // An error is the end of the connection, of which `left` tells.
      if (isSettled || error) return;
      settle();
      onTaken();
    });
  }

  #taken(piece: Uint8Array): Promise<void> {
    const { left } = this.#options;
    return new Promise((resolve) => {
      const done = () => {
        left.removeEventListener("abort", done);
        resolve();
      };
      left.addEventListener("abort", done, { once: true });
      this.writePiece(piece, done);
    });
  }
}

/** What `writePiece` takes of each, in order. Nothing is copied. */
export function* piecesOf(...parts: readonly Uint8Array[]): Generator<Uint8Array, void> {
  for (const part of parts)
    for (let at = 0; at < part.length; at += PIECE_BYTES) yield part.subarray(at, at + PIECE_BYTES);
}
