import type { ByteText } from "../../byte-text.ts";
import { STATIC_TABLE } from "./static-table.ts";

/** The fields that stand whole in the static table, as one byte. */
const WHOLE: ReadonlyMap<string, ByteText> = new Map(
  STATIC_TABLE.map(([name, value], i) => [`${name}: ${value}`, String.fromCharCode(0x80 | (i + 1))]),
);

/**
 * A field in a header block (RFC 7541, section 6.2.2). Nothing is ever added to the other side's table: blocks do not depend on
 * each other, and can be kept. `name` is in lower case; a character is a byte.
 */
export function encodeField(name: string, value: string): ByteText {
  return WHOLE.get(`${name}: ${value}`) ?? `\0${text(name)}${text(value)}`;
}

/** Writes fields of one name, whatever they say: faster, and seldom longer. */
export function fieldWriter(name: string): (value: string) => ByteText {
  const start = `\0${text(name)}`;
  return (value) => start + text(value);
}

function text(bytes: ByteText): ByteText {
  if (bytes.length < 0x7f) return String.fromCharCode(bytes.length) + bytes;
  let length = "\x7f";
  let rest = bytes.length - 0x7f;
  for (; rest >= 0x80; rest >>>= 7) length += String.fromCharCode((rest & 0x7f) | 0x80);
  return length + String.fromCharCode(rest) + bytes;
}

/** To be put before the first block after the other side has made its table smaller: the table is empty (section 4.2). */
export const EMPTY_TABLE: ByteText = "\x20";
