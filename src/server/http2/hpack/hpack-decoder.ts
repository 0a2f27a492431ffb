import { decodeHuffman } from "./huffman.ts";
import { STATIC_TABLE } from "./static-table.ts";

/** What stands in a header block makes no sense. The connection is lost: its two sides do not agree on the table. */
export class HpackError extends Error {
  override readonly name = "HpackError";
}

/** Names and values in turn, a byte a character. */
export type HeaderFields = readonly string[];

/** As much as is not said to be too little: the table's size unless settings say otherwise (RFC 9113, section 6.5.2). */
const TABLE_BYTES_MAX = 4_096;
/** What an entry of the table, and a field of a list, counts beside its texts (RFC 7541, section 4.1). */
const ENTRY_OVERHEAD_BYTES = 32;
/** No number in a block is larger: those are lengths and indexes. */
const NUMBER_MAX = 2 ** 24;

export interface HeaderListLimits {
  /** With 32 bytes for each field (RFC 9113, section 6.5.2). */
  readonly bytesMax: number;
  readonly fieldsMax: number;
}

/** Reads the header blocks of one connection, one after the other (RFC 7541). */
export class HpackDecoder {
  readonly #limits: HeaderListLimits;
  /** The newest entry comes last. */
  readonly #table: [name: string, value: string][] = [];
  #tableBytes = 0;
  #tableBytesMax = TABLE_BYTES_MAX;
  #revision = 0;
  #block: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(limits: HeaderListLimits) {
    this.#limits = limits;
  }

  /**
   * Another one after each block that has changed the table. While it is the same, the same bytes stand for the same
   * fields, and need not be read again.
   */
  get revision(): number {
    return this.#revision;
  }

  /** Undefined: more fields than are allowed. Throws an `HpackError`. */
  decode(block: Buffer): HeaderFields | undefined {
    this.#block = block;
    this.#at = 0;
    const { bytesMax, fieldsMax } = this.#limits;
    const fields: string[] = [];
    let bytes = 0;
    while (this.#at < block.length) {
      const field = this.#nextField(bytes === 0);
      if (field === undefined) continue;
      const [name, value] = field;
      bytes += sizeOf(name, value);
      // To the end all the same: the table has to follow.
      if (bytes <= bytesMax && fields.length < 2 * fieldsMax) fields.push(name, value);
      else bytes = Number.POSITIVE_INFINITY;
    }
    return bytes <= bytesMax ? fields : undefined;
  }

  /** Undefined: no field, but a size for the table. */
  #nextField(isFirst: boolean): readonly [name: string, value: string] | undefined {
    const byte = this.#block[this.#at] ?? 0;
    if (byte >= 0x80) return this.#entry(this.#number(7));
    if (byte >= 0x40) return this.#add(this.#literal(6));
    if (byte < 0x20) return this.#literal(4);
    if (!isFirst) throw new HpackError("the table's size changes in the middle of a block");
    this.#resize(this.#number(5));
    return undefined;
  }

  #literal(prefixBits: number): [name: string, value: string] {
    const index = this.#number(prefixBits);
    const name = index === 0 ? this.#text() : this.#entry(index)[0];
    return [name, this.#text()];
  }

  #entry(index: number): readonly [name: string, value: string] {
    const entry =
      index <= STATIC_TABLE.length
        ? STATIC_TABLE[index - 1]
        : this.#table[this.#table.length - (index - STATIC_TABLE.length)];
    if (entry === undefined) throw new HpackError(`nothing stands at index ${index}`);
    return entry;
  }

  #add(entry: [name: string, value: string]): readonly [name: string, value: string] {
    this.#revision += 1;
    const bytes = sizeOf(entry[0], entry[1]);
    this.#evict(this.#tableBytesMax - bytes);
    // One that is larger than the table empties it, and that is all.
    if (bytes > this.#tableBytesMax) return entry;
    this.#table.push(entry);
    this.#tableBytes += bytes;
    return entry;
  }

  #resize(bytesMax: number): void {
    if (bytesMax > TABLE_BYTES_MAX) throw new HpackError(`the table is to hold ${bytesMax} bytes`);
    this.#revision += 1;
    this.#tableBytesMax = bytesMax;
    this.#evict(bytesMax);
  }

  #evict(bytesMax: number): void {
    while (this.#tableBytes > bytesMax) {
      const oldest = this.#table.shift();
      if (oldest === undefined) return;
      this.#tableBytes -= sizeOf(oldest[0], oldest[1]);
    }
  }

  /** The rest of the first byte, and more bytes of seven bits each if that is full of ones (section 5.1). */
  #number(prefixBits: number): number {
    const prefix = 2 ** prefixBits - 1;
    let number = this.#byte() & prefix;
    if (number < prefix) return number;
    for (let weight = 1; ; weight *= 0x80) {
      const byte = this.#byte();
      number += (byte & 0x7f) * weight;
      if (number > NUMBER_MAX || weight > NUMBER_MAX) throw new HpackError("a number is too large");
      if (byte < 0x80) return number;
    }
  }

  #text(): string {
    const isHuffman = (this.#block[this.#at] ?? 0) >= 0x80;
    const length = this.#number(7);
    const start = this.#at;
    const end = start + length;
    if (end > this.#block.length) throw new HpackError("a text is longer than its block");
    this.#at = end;
    if (!isHuffman) return this.#block.toString("latin1", start, end);
    const text = decodeHuffman(this.#block, start, end);
    if (text === undefined) throw new HpackError("a text is not coded as it should be");
    return text;
  }

  #byte(): number {
    const byte = this.#block[this.#at];
    if (byte === undefined) throw new HpackError("a block ends in the middle of a field");
    this.#at += 1;
    return byte;
  }
}

function sizeOf(name: string, value: string): number {
  return name.length + value.length + ENTRY_OVERHEAD_BYTES;
}
