/** A flag and four bytes of length stand before a message. */
export const FRAME_HEADER_BYTES = 5;

/** A message that is not compressed, in gRPC's frame. It is given in pieces of `length` bytes in all. */
export function frame(pieces: readonly Uint8Array[], length: number, isCompressed = false): Buffer {
  const framed = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length);
  framed[0] = isCompressed ? 1 : 0;
  framed.writeUInt32BE(length, 1);
  let at = FRAME_HEADER_BYTES;
  for (const piece of pieces) {
    framed.set(piece, at);
    at += piece.length;
  }
  return framed;
}

/** The message in a body that is one frame and not compressed. Undefined for any other. */
export function messageIn(body: Buffer): Buffer | undefined {
  const isOne =
    body.length >= FRAME_HEADER_BYTES &&
    body[0] === 0 &&
    body.readUInt32BE(1) === body.length - FRAME_HEADER_BYTES;
  return isOne ? body.subarray(FRAME_HEADER_BYTES) : undefined;
}
