/**
 * Bytes as a text in latin1, a character each. Node writes the head of an answer and such a body in one piece.
 */
export type ByteText = string;

export function utf8(text: string): ByteText {
  return Buffer.from(text).toString("latin1");
}

/** The same text. One that was put together of others would be put together anew whenever it is written behind a head. */
export function inOnePiece(text: ByteText): ByteText {
  return byteText(bytesOfText(text));
}

export function byteText(bytes: Uint8Array): ByteText {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

export function bytesOfText(text: ByteText): Buffer {
  return Buffer.from(text, "latin1");
}

/** Four bytes, the highest first. */
export function uint32(number: number): ByteText {
  return String.fromCharCode(number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255);
}
