/** With which a client of HTTP/2 begins, as latin1. */
export const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/** Types of frames by their numbers (RFC 9113, section 6). */
const TYPES = [
  ...(["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY"] as const),
  ...(["WINDOW_UPDATE", "CONTINUATION"] as const),
] as const;

export type FrameType = (typeof TYPES)[number];

/** Flags of frames. Which of them mean something depends on the type. */
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
export const PRIORITY = 32;

/** Codes of errors by their numbers (RFC 9113, section 7). */
const ERRORS = [
  ...(["NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"] as const),
  ...(["STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"] as const),
  ...(["CONNECT_ERROR", "ENHANCE_YOUR_CALM"] as const),
] as const;

export type ErrorName = (typeof ERRORS)[number];

/** Settings by their numbers (RFC 9113, section 6.5.2). */
const SETTING_NUMBERS = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

export interface FrameParts {
  readonly flags?: number;
  /** Unset: the connection's own. */
  readonly stream?: number;
  /** As latin1. */
  readonly payload?: string;
}

/** A frame of HTTP/2, as latin1. A type that has no name is a number. */
export function frame(
  type: FrameType | number,
  { flags = 0, stream = 0, payload = "" }: FrameParts = {},
): string {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(typeof type === "number" ? type : TYPES.indexOf(type), 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return head.toString("latin1") + payload;
}

/** No settings at all. */
export const SETTINGS = frame("SETTINGS");

/** By name, or by number. */
export type SettingValues = Readonly<Partial<Record<keyof typeof SETTING_NUMBERS | number, number>>>;

export function settings(values: SettingValues): string {
  const numbers: Readonly<Record<string, number>> = SETTING_NUMBERS;
  const entries = Object.entries<number | undefined>(values).map(
    ([name, value = 0]) => uint32(numbers[name] ?? Number(name)).slice(2) + uint32(value),
  );
  return frame("SETTINGS", { payload: entries.join("") });
}

export function windowUpdate(stream: number, bytes: number): string {
  return frame("WINDOW_UPDATE", { stream, payload: uint32(bytes) });
}

export function rstStream(stream: number, error: ErrorName): string {
  return frame("RST_STREAM", { stream, payload: uint32(ERRORS.indexOf(error)) });
}

export function uint32(number: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(number);
  return bytes.toString("latin1");
}

export interface ReadFrame extends Required<FrameParts> {
  readonly type: FrameType;
}

/** Frames as they come one after the other, as far as they are whole. */
export function readFrames(text: string): readonly ReadFrame[] {
  const bytes = Buffer.from(text, "latin1");
  const frames: ReadFrame[] = [];
  for (let at = 0; at + 9 <= bytes.length; ) {
    const end = at + 9 + bytes.readUIntBE(at, 3);
    if (end > bytes.length) break;
    const type = TYPES[bytes.readUInt8(at + 3)];
    if (type === undefined) throw new Error(`Cannot tell the type of a frame: ${bytes.readUInt8(at + 3)}`);
    const [flags, stream] = [bytes.readUInt8(at + 4), bytes.readUInt32BE(at + 5)];
    frames.push({ type, flags, stream, payload: text.slice(at + 9, end) });
    at = end;
  }
  return frames;
}

/** The error that stands at this place of a frame's payload. */
export function errorAt(payload: string, at: number): ErrorName {
  const error = ERRORS[Buffer.from(payload, "latin1").readUInt32BE(at)];
  if (error === undefined) throw new Error("Cannot tell an error's name");
  return error;
}
