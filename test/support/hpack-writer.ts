import { STATIC_TABLE } from "../../src/server/http2/hpack/static-table.ts";

/** Symbols of the Huffman code by the length of their codes, in the order of those (RFC 7541, appendix B). */
const SYMBOLS_BY_BITS: Readonly<Record<number, readonly number[]>> = {
  5: codesOf("012aceiost"),
  6: codesOf(" %-./3456789=A_bdfghlmnpru"),
  7: codesOf(":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
  8: codesOf("&*,;XZ"),
  10: codesOf('!"()?'),
  11: codesOf("'+|"),
  12: codesOf("#>"),
  13: codesOf("\0$@[]~"),
  14: codesOf("^}"),
  15: codesOf("<`{"),
  19: [92, 195, 208],
  20: [128, 130, 131, 162, 184, 194, 224, 226],
  21: [153, 161, 167, 172, 176, 177, 179, 209, 216, 217, 227, 229, 230],
  22: [
    ...[129, 132, 133, 134, 136, 146, 154, 156, 160, 163, 164, 169, 170, 173, 178, 181, 185, 186, 187, 189],
    ...[190, 196, 198, 228, 232, 233],
  ],
  23: [
    ...[1, 135, 137, 138, 139, 140, 141, 143, 147, 149, 150, 151, 152, 155, 157, 158, 165, 166, 168, 174],
    ...[175, 180, 182, 183, 188, 191, 197, 231, 239],
  ],
  24: [9, 142, 144, 145, 148, 159, 171, 206, 215, 225, 236, 237],
  25: [199, 207, 234, 235],
  26: [192, 193, 200, 201, 202, 205, 210, 213, 218, 219, 238, 240, 242, 243, 255],
  27: [203, 204, 211, 212, 214, 221, 222, 223, 241, 244, 245, 246, 247, 248, 250, 251, 252, 253, 254],
  28: [
    ...[2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 15, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30, 31],
    ...[127, 220, 249],
  ],
  // The last is the end of a string, all ones.
  30: [10, 13, 22, 256],
};

const HUFFMAN: ReadonlyMap<number, string> = new Map(codes());

function* codes(): Generator<[symbol: number, bits: string]> {
  let next = 0;
  let bitsBefore = 0;
  for (const [bits, symbols] of Object.entries(SYMBOLS_BY_BITS)) {
    next *= 2 ** (Number(bits) - bitsBefore);
    bitsBefore = Number(bits);
    for (const symbol of symbols) {
      yield [symbol, next.toString(2).padStart(bitsBefore, "0")];
      next += 1;
    }
  }
}

/** A text as the Huffman code has it, padded as it should be unless `padding` says otherwise, in bits. */
export function huffman(text: string, padding?: string): string {
  const bits = codesOf(text)
    .map((byte) => HUFFMAN.get(byte))
    .join("");
  return bytesOf(bits + (padding ?? "1".repeat((8 - (bits.length % 8)) % 8)));
}

/** The end of a string, in bits. */
export const END_OF_STRING_BITS = "1".repeat(30);

/** A number behind the `flags` of a first byte, whose last `prefixBits` bits are its own (section 5.1). */
export function integer(number: number, prefixBits: number, flags = 0): string {
  const prefix = 2 ** prefixBits - 1;
  if (number < prefix) return String.fromCharCode(flags | number);
  let text = String.fromCharCode(flags | prefix);
  let rest = number - prefix;
  for (; rest >= 128; rest = Math.floor(rest / 128)) text += String.fromCharCode(128 + (rest % 128));
  return text + String.fromCharCode(rest);
}

/** A text in a block. */
export function text(bytes: string, { isHuffman = false }: { readonly isHuffman?: boolean } = {}): string {
  const coded = isHuffman ? huffman(bytes) : bytes;
  return integer(coded.length, 7, isHuffman ? 0x80 : 0) + coded;
}

/** The ways to write a field as a literal: what stands before the index of its name, and how long that may be. */
const LITERALS = {
  /** Added to the table. */
  added: { flags: 0x40, prefixBits: 6 },
  plain: { flags: 0, prefixBits: 4 },
  "never indexed": { flags: 0x10, prefixBits: 4 },
} as const;

export type LiteralKind = keyof typeof LITERALS;

export interface LiteralParts {
  readonly kind?: LiteralKind;
  /** Of the name. 0: the name stands there. */
  readonly index?: number;
  readonly isHuffman?: boolean;
}

/** A field in a block, as latin1. */
export function literal(
  name: string,
  value: string,
  { kind = "plain", index = 0, isHuffman = false }: LiteralParts = {},
): string {
  const { flags, prefixBits } = LITERALS[kind];
  const named = index === 0 ? text(name, { isHuffman }) : "";
  return integer(index, prefixBits, flags) + named + text(value, { isHuffman });
}

/** A field that stands in one of the tables, at an index from 1 on. */
export function indexed(index: number): string {
  return integer(index, 7, 0x80);
}

/** A new size for the table. */
export function tableSize(bytes: number): string {
  return integer(bytes, 5, 0x20);
}

/** A field, and how it is to be written. */
export interface WrittenField {
  readonly name: string;
  readonly value: string;
  /** If it, or its name, is not referred to. */
  readonly kind: LiteralKind;
  readonly isHuffman: boolean;
  /** Refers to what stands in the tables, if the field or its name do. */
  readonly refers: boolean;
}

/** Writes the blocks of a client that keeps a table, as RFC 7541, section 4, tells of it. */
export interface HpackWriter {
  /** To be put in front of a block. */
  resize(bytes: number): string;
  field(field: WrittenField): string;
}

export function createHpackWriter(): HpackWriter {
  /** The newest entry comes first. */
  let table: (readonly [name: string, value: string])[] = [];
  let bytesMax = 4_096;
  const evict = () => {
    let room = bytesMax;
    table = table.filter(([name, value]) => (room -= name.length + value.length + 32) >= 0);
  };
  const add = (name: string, value: string) => {
    // One that is too large for the table empties it.
    if (name.length + value.length + 32 > bytesMax) table = [];
    else table.unshift([name, value]);
    evict();
  };
  return {
    resize(bytes) {
      bytesMax = bytes;
      evict();
      return tableSize(bytes);
    },
    field({ name, value, kind, isHuffman, refers }) {
      const known = [...STATIC_TABLE, ...table];
      const whole = known.findIndex((entry) => entry[0] === name && entry[1] === value) + 1;
      if (refers && whole > 0) return indexed(whole);
      // The last one, so that names are taken from both tables.
      const index = refers ? known.findLastIndex((entry) => entry[0] === name) + 1 : 0;
      if (kind === "added") add(name, value);
      return literal(name, value, { kind, index, isHuffman });
    },
  };
}

/** A field for each pair, as literals that leave the table alone. */
export function block(...fields: readonly (readonly [name: string, value: string])[]): string {
  return fields.map(([name, value]) => literal(name, value)).join("");
}

function codesOf(bytes: string): readonly number[] {
  return Array.from(bytes, (byte) => byte.charCodeAt(0));
}

function bytesOf(bits: string): string {
  return (bits.match(/.{8}/g) ?? []).map((byte) => String.fromCharCode(Number.parseInt(byte, 2))).join("");
}
