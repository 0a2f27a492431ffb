import type { PlainHandler, PlainRoute } from "../listener/plain-route.ts";
import { RepeatedTexts } from "../listener/repeated-texts.ts";
import type { HpackDecoder } from "./hpack/hpack-decoder.ts";
import type { Http2Exchange } from "./http2-exchange.ts";
import { type RequestHead, readRequestHead } from "./request-head.ts";

/** What a header block asks for. */
export interface Asked {
  readonly head: RequestHead;
  /** Undefined: it goes the longer way. */
  readonly route: PlainRoute<Http2Exchange> | undefined;
}

/** Blocks that are remembered, and how long one may be for that. */
const KNOWN_MAX = 32;
const KNOWN_BYTES_MAX = 512;

/**
 * Reads what the header blocks of one connection ask for. A client sends the same few over and over: while the decoder's
 * table is the same, the same bytes are not read again.
 */
export class RequestFinder {
  readonly #decoder: HpackDecoder;
  readonly #plain: PlainHandler<Http2Exchange> | undefined;
  readonly #known = new RepeatedTexts<Asked>(KNOWN_MAX);
  #knownAt = 0;

  constructor(decoder: HpackDecoder, plain: PlainHandler<Http2Exchange> | undefined) {
    this.#decoder = decoder;
    this.#plain = plain;
  }

  /** Throws an `HpackError`. */
  find(block: Buffer): Asked | "malformed" | "too large" {
    const decoder = this.#decoder;
    if (this.#knownAt !== decoder.revision) this.#known.forget();
    this.#knownAt = decoder.revision;
    const key = block.length <= KNOWN_BYTES_MAX ? block.toString("latin1") : undefined;
    const known = key === undefined ? undefined : this.#known.get(key);
    if (known !== undefined) return known;
    const fields = decoder.decode(block);
    if (fields === undefined) return "too large";
    const head = readRequestHead(fields);
    if (head === undefined) return "malformed";
    const isPlain = head.method === "POST" && head.headers["expect"] === undefined;
    const asked = { head, route: isPlain ? this.#plain?.(head) : undefined };
    // One that has changed the table is forgotten with the next.
    if (key !== undefined) this.#known.found(key, asked);
    return asked;
  }

  /** Reads a block of which nothing is needed, for the table has to follow. Whether it was a request's. Throws an `HpackError`. */
  passOver(block: Buffer): boolean {
    const [name = ""] = this.#decoder.decode(block) ?? [];
    return name.startsWith(":");
  }
}
