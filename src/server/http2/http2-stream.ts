import { type ByteText, uint32 } from "../byte-text.ts";
import type { RequestHandler } from "../listener/exchange.ts";
import type { PlainRoute } from "../listener/plain-route.ts";
import type { FrameWriter } from "./frame-writer.ts";
import {
  ERROR,
  type ErrorCode,
  FLAG,
  FRAME,
  FRAME_BYTES_MAX,
  frame,
  frameHead,
  headerFrames,
} from "./frames.ts";
import { encodeField } from "./hpack/hpack-encoder.ts";
import type { Http2Exchange } from "./http2-exchange.ts";
import { ReceiveWindow } from "./receive-window.ts";
import type { RequestHead } from "./request-head.ts";
import { StreamRequest } from "./stream-request.ts";
import { type ResponseSink, StreamResponse } from "./stream-response.ts";

/** What a stream needs of its connection. */
export interface StreamHost {
  readonly out: FrameWriter;
  readonly handle: RequestHandler;
  /** The client breaks the protocol on this stream, which is reset. */
  refuse(streamId: number, code: ErrorCode): void;
  /** It is not heard of again. */
  closed(stream: Http2Stream, wasAnswered: boolean): void;
}

type Written = (error?: Error | null) => void;

interface Piece {
  /** A text stays one: it may be the same for all who wait for it. */
  readonly bytes: Uint8Array | ByteText;
  /** How much of it is sent. */
  at: number;
  readonly written: Written | undefined;
}

/** In which a request may come that goes the plain way. */
const PIECES_MAX = 32;
const NOTHING = Buffer.alloc(0);
const CONTINUE: ByteText = encodeField(":status", "100");

/** One request, and the answer to it, on a connection of HTTP/2. */
export class Http2Stream implements Http2Exchange, ResponseSink {
  readonly id: number;
  readonly openedAt: number;
  /** How much the client takes on this stream. Below zero after it has made its windows smaller. */
  sendWindow: number;
  readonly #host: StreamHost;
  readonly #head: RequestHead;
  /** Undefined: the request goes the longer way. */
  #route: PlainRoute<Http2Exchange> | undefined;
  #request: StreamRequest | undefined;
  #response: StreamResponse | undefined;
  /** Of the body, what nobody has been given yet. */
  #body: Buffer = NOTHING;
  #pieces = 0;
  #bodyBytes = 0;
  readonly #receiveWindow = new ReceiveWindow();
  /** All of the request is there. */
  #isAsked = false;
  readonly #queue: Piece[] = [];
  /** Nothing comes after what is in the queue but `#trailers`. */
  #isAnswered = false;
  #trailers: ByteText | undefined;
  #isClosed = false;

  constructor(
    id: number,
    {
      host,
      head,
      route,
      sendWindow,
      now,
    }: {
      readonly host: StreamHost;
      readonly head: RequestHead;
      readonly route: PlainRoute<Http2Exchange> | undefined;
      readonly sendWindow: number;
      readonly now: number;
    },
  ) {
    this.id = id;
    this.openedAt = now;
    this.sendWindow = sendWindow;
    this.#host = host;
    this.#head = head;
    this.#route = route;
  }

  /** Whether the rest of a plain request is being waited for. */
  get isBegun(): boolean {
    return this.#route !== undefined && !this.#isAsked;
  }

  /** Whether a complete answer waits for the client to take it. */
  get isWaiting(): boolean {
    return this.#isAnswered && this.#queue.length > 0;
  }

  /** The request has a head, and nothing but that if it `isAsked`. To be called first, and once. */
  begin(isAsked: boolean): void {
    if (isAsked) this.#receiveEnd();
    else if (this.#route === undefined) this.takeLongerWay();
  }

  /** A piece of the body, of a frame that counts so many bytes. `isLast`: it ends the request. */
  receive(piece: Buffer, frameBytes: number, isLast: boolean): void {
    const isAllowed = this.#receiveWindow.receive(frameBytes);
    this.#bodyBytes += piece.length;
    const error = isAllowed ? this.#errorIn(isLast) : ERROR.FLOW_CONTROL_ERROR;
    if (error !== undefined) {
      this.#host.refuse(this.id, error);
      return;
    }
    this.#isAsked = isLast;
    if (this.#request !== undefined) this.#push(this.#request, piece);
    else if (this.#route !== undefined) this.#collect(this.#route, piece);
    else {
      this.#body = piece;
      this.takeLongerWay();
    }
  }

  /** They end the request, which is no plain one then. Nobody looks at them. */
  receiveTrailers(): void {
    if (this.isBegun) this.takeLongerWay();
    this.#receiveEnd();
  }

  #receiveEnd(): void {
    this.receive(NOTHING, 0, true);
  }

  #errorIn(isLast: boolean): ErrorCode | undefined {
    if (this.#isAsked) return ERROR.STREAM_CLOSED;
    const { bodyBytes = this.#bodyBytes } = this.#head;
    const isRight = isLast ? this.#bodyBytes === bodyBytes : this.#bodyBytes <= bodyBytes;
    return isRight ? undefined : ERROR.PROTOCOL_ERROR;
  }

  #push(request: StreamRequest, piece: Buffer): void {
    if (piece.length > 0) request.push(piece);
    // There was nothing but padding.
    else this.#refundWindow();
    if (this.#isAsked) request.push(null);
  }

  #collect(route: PlainRoute<Http2Exchange>, piece: Buffer): void {
    this.#body = this.#body.length === 0 ? piece : Buffer.concat([this.#body, piece]);
    this.#pieces += 1;
    const isTooMuch = this.#body.length > route.bodyBytesMax || this.#pieces > PIECES_MAX;
    if (isTooMuch) this.takeLongerWay();
    else if (this.#isAsked) route.answer(this.#body, this);
    else this.#refundWindow();
  }

  /** Hands over what there is of the request to those who answer any, and from then on what comes. */
  takeLongerWay(): void {
    const request = new StreamRequest(this.#head, () => this.#refundWindow());
    const response = new StreamResponse(this);
    this.#route = undefined;
    this.#request = request;
    this.#response = response;
    this.#push(request, this.#body);
    this.#body = NOTHING;
    if (!this.#isAsked && this.#head.headers["expect"] === "100-continue")
      this.#host.out.send(headerFrames(this.id, this.#host.out.blockStart() + CONTINUE, false));
    this.#host.handle(request, response);
  }

  #refundWindow(): void {
    const refund = this.#isAsked || this.#isClosed ? 0 : this.#receiveWindow.refund();
    if (refund > 0) this.#host.out.send(frame(FRAME.WINDOW_UPDATE, 0, this.id, uint32(refund)));
  }

  reply(block: ByteText, body: ByteText, trailers: ByteText | undefined): void {
    if (this.#isClosed) return;
    const { out } = this.#host;
    if (out.isFull || body.length > Math.min(this.sendWindow, out.window, FRAME_BYTES_MAX)) {
      this.sendHead(block);
      this.sendLast(body, trailers);
      return;
    }
    this.sendWindow -= body.length;
    out.sent(body.length);
    const head = headerFrames(this.id, out.blockStart() + block + out.blockEnd(), false);
    const data = frame(FRAME.DATA, trailers === undefined ? FLAG.END_STREAM : 0, this.id, body);
    out.send(trailers === undefined ? head + data : head + data + headerFrames(this.id, trailers, true));
    this.#finish();
  }

  fallThrough(): void {
    if (this.#isClosed) this.#route?.cutOff();
    else this.takeLongerWay();
  }

  destroy(): void {
    this.abandon();
  }

  sendHead(block: ByteText): void {
    if (this.#isClosed) return;
    const { out } = this.#host;
    out.send(headerFrames(this.id, out.blockStart() + block + out.blockEnd(), false));
  }

  sendBytes(bytes: Uint8Array, written?: Written): void {
    if (this.#isClosed) {
      written?.(new Error("Cannot send: the stream is closed"));
      return;
    }
    this.#queue.push({ bytes, at: 0, written });
    while (this.sendNext());
  }

  sendLast(bytes: Uint8Array | ByteText, trailers: ByteText | undefined): void {
    if (this.#isClosed) return;
    this.#isAnswered = true;
    this.#trailers = trailers;
    // Without bytes too: a frame of none ends the stream.
    if (bytes.length > 0 || (this.#queue.length === 0 && trailers === undefined))
      this.#queue.push({ bytes, at: 0, written: undefined });
    while (this.sendNext());
  }

  abandon(): void {
    this.reset(ERROR.INTERNAL_ERROR);
  }

  /** Ends the stream without a (whole) answer. */
  reset(code: ErrorCode): void {
    if (this.#isClosed) return;
    this.#host.out.send(frame(FRAME.RST_STREAM, 0, this.id, uint32(code)));
    this.close();
  }

  /** Sends the next frame of what waits, if the client takes it. False: there is none, or it does not. */
  sendNext(): boolean {
    const [piece] = this.#queue;
    if (this.#isClosed) return false;
    if (piece === undefined) {
      if (this.#isAnswered) this.#sendTrailers(this.#trailers ?? "");
      return false;
    }
    const { out } = this.#host;
    const left = piece.bytes.length - piece.at;
    const room = Math.max(0, Math.min(this.sendWindow, out.window, FRAME_BYTES_MAX));
    if ((room === 0 || out.isFull) && left > 0) return false;
    const length = Math.min(left, room);
    const isWhole = length === left;
    const isEnd = isWhole && this.#isAnswered && this.#queue.length === 1 && this.#trailers === undefined;
    this.sendWindow -= length;
    out.sent(length);
    const bytes = partOf(piece, length);
    piece.at += length;
    if (isWhole) this.#queue.shift();
    const head = frameHead(length, FRAME.DATA, isEnd ? FLAG.END_STREAM : 0, this.id);
    out.sendBytes(head, bytes, isWhole ? piece.written : undefined);
    if (isEnd) this.#finish();
    return !isEnd;
  }

  #sendTrailers(trailers: ByteText): void {
    // The client's table may have become smaller since the head.
    this.#host.out.send(headerFrames(this.id, this.#host.out.blockStart() + trailers, true));
    this.#finish();
  }

  /** All of the answer is sent. A client that is still sending is told to stop (RFC 9113, section 8.1). */
  #finish(): void {
    if (!this.#isAsked) this.#host.out.send(frame(FRAME.RST_STREAM, 0, this.id, uint32(ERROR.NO_ERROR)));
    this.close(true);
  }

  /** Nothing comes any more, nor is anything sent. */
  close(wasAnswered = false): void {
    if (this.#isClosed) return;
    if (this.isBegun) this.#route?.cutOff();
    this.#isClosed = true;
    this.#host.closed(this, wasAnswered);
    for (const { written } of this.#queue.splice(0))
      written?.(new Error("Cannot send: the stream is closed"));
    const [request, response] = [this.#request, this.#response];
    if (request === undefined || response === undefined) return;
    request.destroy();
    // Not under the feet of whoever is ending the response.
    queueMicrotask(() => response.emit("close"));
  }
}

/** The next bytes of it. */
function partOf({ bytes, at }: Piece, length: number): Uint8Array | ByteText {
  return typeof bytes === "string" ? bytes.slice(at, at + length) : bytes.subarray(at, at + length);
}
