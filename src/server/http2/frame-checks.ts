import { ConnectionError, ERROR, FLAG } from "./frames.ts";

// What is wrong with a frame ends the connection: all of these throw a `ConnectionError`.

export function expectStream(streamId: number, what: string): void {
  if (streamId === 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, `${what} on no stream`);
}

export function expectNoStream(streamId: number, what: string): void {
  if (streamId !== 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, `${what} on a stream`);
}

export function expectLength(payload: Buffer, bytes: number, what: string): void {
  if (payload.length !== bytes)
    throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, `${what} of ${payload.length} bytes`);
}

export function withoutPadding(flags: number, payload: Buffer): Buffer {
  if ((flags & FLAG.PADDED) === 0) return payload;
  const padding = payload[0] ?? 0;
  if (padding >= payload.length) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "more padding than frame");
  return payload.subarray(1, payload.length - padding);
}

export function withoutPriority(flags: number, payload: Buffer): Buffer {
  if ((flags & FLAG.PRIORITY) === 0) return payload;
  if (payload.length < 5) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "HEADERS end in its priority");
  return payload.subarray(5);
}
