import { ConnectionError, ERROR, FLAG } from "./frames.ts";

/** Of a block as it is sent, if what may be in it is not more: then that. */
const BYTES_MAX = 65_536;
/** Of frames, and of bytes in each where they are more. */
const FRAMES_MAX = 32;
const FRAME_BYTES_MIN = 2_048;

/** A whole header block. */
export interface HeaderBlock {
  readonly streamId: number;
  /** It ends the request, or was all of it. */
  readonly isLast: boolean;
  readonly bytes: Buffer;
}

/** Puts header blocks together that come in several frames, which nothing else may come between (RFC 9113, section 6.10). */
export class HeaderBlocks {
  #begun: { readonly streamId: number; readonly isLast: boolean } | undefined;
  readonly #bytesMax: number;
  readonly #framesMax: number;
  readonly #pieces: Buffer[] = [];
  #bytes = 0;

  /** `listBytesMax`: of the header list that a block stands for. */
  constructor(listBytesMax: number) {
    this.#bytesMax = Math.max(BYTES_MAX, listBytesMax);
    this.#framesMax = Math.max(FRAMES_MAX, listBytesMax / FRAME_BYTES_MIN);
  }

  get isInside(): boolean {
    return this.#begun !== undefined;
  }

  /** By a HEADERS frame, without padding and priority. Undefined: more frames have to come. */
  begin(streamId: number, flags: number, piece: Buffer): HeaderBlock | undefined {
    const isLast = (flags & FLAG.END_STREAM) !== 0;
    if ((flags & FLAG.END_HEADERS) !== 0) return { streamId, isLast, bytes: piece };
    this.#begun = { streamId, isLast };
    this.#pieces.push(piece);
    this.#bytes = piece.length;
    return undefined;
  }

  /** By a CONTINUATION frame. Throws a `ConnectionError`. */
  goOn(streamId: number, flags: number, piece: Buffer): HeaderBlock | undefined {
    const begun = this.#begun;
    if (begun === undefined || begun.streamId !== streamId)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "CONTINUATION of nothing");
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    if (this.#bytes > this.#bytesMax || this.#pieces.length > this.#framesMax)
      throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "a header block is too long");
    if ((flags & FLAG.END_HEADERS) === 0) return undefined;
    this.#begun = undefined;
    return { ...begun, bytes: Buffer.concat(this.#pieces.splice(0)) };
  }
}
