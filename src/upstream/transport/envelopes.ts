import { ANSWER_BYTES_MAX, tooLong } from "./inflate.ts";

/** A flag and four bytes of length stand before each message of gRPC and of Connect's streams. */
export const PREFIX_BYTES = 5;
/** Every piece costs more than its bytes: some senders send one at a time. */
const PIECES_MAX = 1_000;

/** A message, not compressed, as both send it. */
export function toEnvelope(message: Uint8Array): Uint8Array {
  const envelope = Buffer.allocUnsafe(PREFIX_BYTES + message.byteLength);
  envelope[0] = 0;
  envelope.writeUInt32BE(message.byteLength, 1);
  envelope.set(message, PREFIX_BYTES);
  return envelope;
}

export interface Envelope {
  readonly flags: number;
  readonly bytes: Buffer;
}

/** Puts together the envelopes of a body that comes in pieces, and holds no more than one of at most 8 MiB. */
export class Envelopes {
  readonly #target: string;
  #pieces: Buffer[] = [];
  #length = 0;

  /** `target`: whose they are, for people. */
  constructor(target: string) {
    this.#target = target;
  }

  /** Whether part of one has come. */
  get isWithinOne(): boolean {
    return this.#length > 0;
  }

  /** Those that are complete with this piece. Throws an UpstreamError for one that is too long. */
  *take(piece: Buffer): Generator<Envelope> {
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (this.#pieces.length > PIECES_MAX) this.#first(this.#length);
    for (;;) {
      if (this.#length < PREFIX_BYTES) return;
      const prefix = this.#first(PREFIX_BYTES);
      const end = PREFIX_BYTES + prefix.readUInt32BE(1);
      if (end > PREFIX_BYTES + ANSWER_BYTES_MAX) throw tooLong(this.#target);
      if (this.#length < end) return;
      const bytes = this.#first(end);
      const rest = bytes.subarray(end);
      this.#pieces = rest.length === 0 ? [] : [rest];
      this.#length = rest.length;
      yield { flags: bytes.readUInt8(0), bytes: bytes.subarray(PREFIX_BYTES, end) };
    }
  }

  /** The pieces in one, if the first of them does not have so many bytes already. */
  #first(length: number): Buffer {
    const [first] = this.#pieces;
    if (first !== undefined && first.length >= length) return first;
    const all = Buffer.concat(this.#pieces);
    this.#pieces = [all];
    return all;
  }
}
