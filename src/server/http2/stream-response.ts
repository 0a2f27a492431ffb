import { EventEmitter } from "node:events";
import type { OutgoingHttpHeaders } from "node:http";
import type { ByteText } from "../byte-text.ts";
import type { HttpResponse } from "../listener/exchange.ts";
import { encodeField } from "./hpack/hpack-encoder.ts";

/** Where a response goes. After `sendLast` nothing follows. */
export interface ResponseSink {
  sendHead(block: ByteText): void;
  /** `written` as in `HttpResponse`. */
  sendBytes(bytes: Uint8Array, written?: (error?: Error | null) => void): void;
  sendLast(bytes: Uint8Array, trailers: ByteText | undefined): void;
  abandon(): void;
}

const NOTHING = new Uint8Array();

/** A response over HTTP/2, as those see it who answer. */
export class StreamResponse extends EventEmitter implements HttpResponse {
  readonly #sink: ResponseSink;
  #trailers: ByteText | undefined;
  #headersSent = false;
  #isEnded = false;

  constructor(sink: ResponseSink) {
    super();
    this.#sink = sink;
  }

  get headersSent(): boolean {
    return this.#headersSent;
  }

  writeHead(status: number, headers: OutgoingHttpHeaders = {}): this {
    this.#headersSent = true;
    this.#sink.sendHead(encodeField(":status", String(status)) + encodeHeaders(headers));
    return this;
  }

  write(chunk: Uint8Array, written: (error?: Error | null) => void): void {
    this.#sink.sendBytes(chunk, written);
  }

  addTrailers(headers: OutgoingHttpHeaders): void {
    this.#trailers = (this.#trailers ?? "") + encodeHeaders(headers);
  }

  end(chunk: Uint8Array = NOTHING): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#sink.sendLast(chunk, this.#trailers);
  }

  destroy(): void {
    this.#sink.abandon();
  }
}

function encodeHeaders(headers: OutgoingHttpHeaders): ByteText {
  let block = "";
  for (const [name, value] of Object.entries(headers)) {
    const values = Array.isArray(value) ? value : [value];
    for (const each of values) if (each !== undefined) block += encodeField(name.toLowerCase(), String(each));
  }
  return block;
}
