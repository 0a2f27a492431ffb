/** With which a client of HTTP/2 begins, as latin1. */
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** The types of frames that tests write themselves (RFC 9113, section 6). */
const TYPES = { DATA: 0, HEADERS: 1, RST_STREAM: 3, SETTINGS: 4, PING: 6, CONTINUATION: 9 } as const;

/** Flags of a HEADERS frame, and of others. */
export const END_STREAM = 1;
export const END_HEADERS = 4;

export interface FrameParts {
  readonly flags?: number;
  /** Unset: the connection's own. */
  readonly stream?: number;
  /** As latin1. */
  readonly payload?: string;
}

/** A frame of HTTP/2, as latin1. */
export function frame(
  type: keyof typeof TYPES,
  { flags = 0, stream = 0, payload = "" }: FrameParts = {},
): string {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(TYPES[type], 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return head.toString("latin1") + payload;
}

/** No settings at all. */
export const SETTINGS = frame("SETTINGS");
