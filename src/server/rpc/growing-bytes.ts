/** Bytes that arrive in pieces, kept in one piece of memory of at most twice their length, however small those are. */
export class GrowingBytes {
  #memory: Buffer = Buffer.alloc(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** All of them. Valid until the next `append`. */
  get bytes(): Buffer {
    return this.#memory.subarray(0, this.#length);
  }

  /** The first piece is kept as it is, not copied. */
  append(piece: Buffer): void {
    const length = this.#length + piece.length;
    if (this.#length === 0) {
      this.#memory = piece;
    } else {
      if (length > this.#memory.length) this.#grow(length);
      piece.copy(this.#memory, this.#length);
    }
    this.#length = length;
  }

  #grow(length: number): void {
    const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#memory.length));
    this.#memory.copy(larger, 0, 0, this.#length);
    this.#memory = larger;
  }
}
