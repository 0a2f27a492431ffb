import type { ByteText } from "../byte-text.ts";

/** A length-delimited field of a message: `tag` is its number and wire type. */
export function field(tag: ByteText, content: ByteText): ByteText {
  let length = "";
  let rest = content.length;
  for (; rest >= 0x80; rest >>>= 7) length += String.fromCharCode((rest & 0x7f) | 0x80);
  return tag + length + String.fromCharCode(rest) + content;
}
