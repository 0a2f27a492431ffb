import type { ByteText } from "../byte-text.ts";

/** Types of frames (RFC 9113, section 6). */
export const FRAME = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

/** What the bits of a frame's flags mean. Which of them do depends on its type. */
export const FLAG = {
  END_STREAM: 0x1,
  ACK: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

/** Why a stream or a connection ends (RFC 9113, section 7). */
export const ERROR = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  INTERNAL_ERROR: 2,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
} as const;

export type ErrorCode = (typeof ERROR)[keyof typeof ERROR];

/** The other side has broken the protocol in a way that ends the connection. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export const FRAME_HEAD_BYTES = 9;
/** Of a frame's payload, unless a side has said that it takes more. */
export const FRAME_BYTES_MAX = 16_384;
/** Of both sides' windows at first, of each stream and of the connection. */
export const WINDOW_BYTES = 65_535;
/** Of a window. */
export const WINDOW_BYTES_MAX = 2 ** 31 - 1;

export function frame(type: number, flags: number, streamId: number, payload: ByteText): ByteText {
  return frameHead(payload.length, type, flags, streamId) + payload;
}

export function frameHead(length: number, type: number, flags: number, streamId: number): ByteText {
  return String.fromCharCode(
    length >>> 16,
    (length >>> 8) & 255,
    length & 255,
    type,
    flags,
    streamId >>> 24,
    (streamId >>> 16) & 255,
    (streamId >>> 8) & 255,
    streamId & 255,
  );
}

/** A header block, cut into as many frames as it takes. */
export function headerFrames(streamId: number, block: ByteText, endsStream: boolean): ByteText {
  const flags = endsStream ? FLAG.END_STREAM : 0;
  if (block.length <= FRAME_BYTES_MAX) return frame(FRAME.HEADERS, flags | FLAG.END_HEADERS, streamId, block);
  let frames = frame(FRAME.HEADERS, flags, streamId, block.slice(0, FRAME_BYTES_MAX));
  for (let at = FRAME_BYTES_MAX; at < block.length; at += FRAME_BYTES_MAX) {
    const isLast = at + FRAME_BYTES_MAX >= block.length;
    const piece = block.slice(at, at + FRAME_BYTES_MAX);
    frames += frame(FRAME.CONTINUATION, isLast ? FLAG.END_HEADERS : 0, streamId, piece);
  }
  return frames;
}

export function uint16(number: number): ByteText {
  return String.fromCharCode(number >>> 8, number & 255);
}
