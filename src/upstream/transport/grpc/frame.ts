import { PREFIX_BYTES } from "../envelopes.ts";
import { ANSWER_BYTES_MAX } from "../inflate.ts";

/** The most that a sensible answer has in it: one message. */
export const FRAME_BYTES_MAX = PREFIX_BYTES + ANSWER_BYTES_MAX;

export type Frame =
  | { readonly kind: "message"; readonly isCompressed: boolean; readonly message: Uint8Array }
  /** For people. */
  | { readonly kind: "nonsense"; readonly got: string };

/** The one message that these bytes are. */
export function fromFrame(bytes: Buffer): Frame {
  if (bytes.length === 0) return { kind: "nonsense", got: "no message" };
  if (bytes.length < PREFIX_BYTES) return { kind: "nonsense", got: "half a message" };
  const flag = bytes.readUInt8(0);
  if (flag > 1) return { kind: "nonsense", got: `a message with the flags ${flag}` };
  const end = PREFIX_BYTES + bytes.readUInt32BE(1);
  if (bytes.length < end) return { kind: "nonsense", got: "half a message" };
  if (bytes.length > end) return { kind: "nonsense", got: "more than that" };
  return { kind: "message", isCompressed: flag === 1, message: bytes.subarray(PREFIX_BYTES, end) };
}
