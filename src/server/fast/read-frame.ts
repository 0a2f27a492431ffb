/** A flag and four bytes of length stand before a message. */
export const FRAME_HEADER_BYTES = 5;

/** The message in a gRPC body that is one frame and not compressed. Undefined for any other. */
export function messageIn(body: Buffer): Buffer | undefined {
  const isOne =
    body.length >= FRAME_HEADER_BYTES &&
    body[0] === 0 &&
    body.readUInt32BE(1) === body.length - FRAME_HEADER_BYTES;
  return isOne ? body.subarray(FRAME_HEADER_BYTES) : undefined;
}
