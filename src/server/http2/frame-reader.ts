import { ConnectionError, ERROR, FRAME_BYTES_MAX, FRAME_HEAD_BYTES } from "./frames.ts";

const PREFACE_BYTES = 24;
const NOTHING = Buffer.alloc(0);
const STREAM_ID_BITS = 2 ** 31 - 1;

/** Cuts what a client sends into frames. It begins with the preface, which is known to be there. */
export class FrameReader {
  type = 0;
  flags = 0;
  streamId = 0;
  payload: Buffer = NOTHING;
  #rest: Buffer = NOTHING;
  #preface = PREFACE_BYTES;

  add(chunk: Buffer): void {
    const skipped = Math.min(this.#preface, chunk.length);
    this.#preface -= skipped;
    const bytes = chunk.subarray(skipped);
    this.#rest = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes]);
  }

  /** Whether there are bytes of which no frame has been read. */
  get hasMore(): boolean {
    return this.#rest.length > 0;
  }

  /** Reads the next frame. False: not all of it has come. Throws a `ConnectionError` for one that is too long. */
  next(): boolean {
    const rest = this.#rest;
    if (rest.length < FRAME_HEAD_BYTES) return false;
    const length = rest.readUIntBE(0, 3);
    if (length > FRAME_BYTES_MAX) throw new ConnectionError(ERROR.FRAME_SIZE_ERROR, "a frame is too long");
    const end = FRAME_HEAD_BYTES + length;
    if (rest.length < end) return false;
    this.type = rest[3] ?? 0;
    this.flags = rest[4] ?? 0;
    this.streamId = rest.readUInt32BE(5) & STREAM_ID_BITS;
    this.payload = rest.subarray(FRAME_HEAD_BYTES, end);
    // What is not held on to here can go.
    this.#rest = rest.length === end ? NOTHING : rest.subarray(end);
    return true;
  }

  forget(): void {
    this.#rest = NOTHING;
    this.payload = NOTHING;
  }
}
