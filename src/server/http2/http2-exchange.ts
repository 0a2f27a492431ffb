import type { ByteText } from "../byte-text.ts";

/** Where the answer to a plain request over HTTP/2 goes. One of these is called, once. */
export interface Http2Exchange {
  /** `block` is the head's header block, `trailers` is one too; undefined: there are none. */
  reply(block: ByteText, body: ByteText, trailers: ByteText | undefined): void;
  /** Has the request answered by those who answer any, if the client is still there. */
  fallThrough(): void;
  /** Gives up, and the stream with it. */
  destroy(): void;
}
