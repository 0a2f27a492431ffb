import { type ByteText, uint32 } from "../byte-text.ts";
import { ConnectionError, ERROR, FRAME_BYTES_MAX, uint16, WINDOW_BYTES, WINDOW_BYTES_MAX } from "./frames.ts";

/** RFC 9113, section 6.5.2. */
const SETTING = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

const ENTRY_BYTES = 6;
/** In one frame. */
const ENTRIES_MAX = 32;
const TABLE_BYTES = 4_096;
const FRAME_BYTES_LIMIT = 2 ** 24 - 1;

/** What a client has said of itself, as far as it matters to what is sent to it. */
export interface PeerSettings {
  /** How much of a stream it takes before it says more. */
  readonly windowBytes: number;
  /** Its header table is, or has been, smaller than one has to be that nobody spoke of. */
  readonly hasSmallTable: boolean;
}

export const FIRST_SETTINGS: PeerSettings = { windowBytes: WINDOW_BYTES, hasSmallTable: false };

/** Our own, as the payload of a frame. */
export function writeSettings({
  streamsMax,
  headerBytesMax,
}: {
  readonly streamsMax: number;
  readonly headerBytesMax: number;
}): ByteText {
  return (
    uint16(SETTING.MAX_CONCURRENT_STREAMS) +
    uint32(streamsMax) +
    uint16(SETTING.MAX_HEADER_LIST_SIZE) +
    uint32(headerBytesMax)
  );
}

/** The settings after a frame with this payload. Throws a `ConnectionError`. */
export function readSettings(before: PeerSettings, payload: Buffer): PeerSettings {
  if (payload.length % ENTRY_BYTES !== 0)
    throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "SETTINGS end in the middle of one");
  if (payload.length > ENTRIES_MAX * ENTRY_BYTES)
    throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "too many SETTINGS in one frame");
  let { windowBytes, hasSmallTable } = before;
  for (let at = 0; at < payload.length; at += ENTRY_BYTES) {
    const value = payload.readUInt32BE(at + 2);
    switch (payload.readUInt16BE(at)) {
      case SETTING.HEADER_TABLE_SIZE:
        hasSmallTable ||= value < TABLE_BYTES;
        break;
      case SETTING.ENABLE_PUSH:
        if (value > 1) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1");
        break;
      case SETTING.INITIAL_WINDOW_SIZE:
        if (value > WINDOW_BYTES_MAX)
          throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large");
        windowBytes = value;
        break;
      case SETTING.MAX_FRAME_SIZE:
        // Ours are never larger than everybody takes.
        if (value < FRAME_BYTES_MAX || value > FRAME_BYTES_LIMIT)
          throw new ConnectionError(ERROR.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of bounds");
        break;
      default:
    }
  }
  return { windowBytes, hasSmallTable };
}
