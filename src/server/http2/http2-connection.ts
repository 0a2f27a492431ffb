import type { Clock } from "../../system/clock.ts";
import { type ByteText, uint32 } from "../byte-text.ts";
import type { Connection } from "../listener/connection.ts";
import type { RequestHandler } from "../listener/exchange.ts";
import type { PlainHandler } from "../listener/plain-route.ts";
import { COST, FloodLimit } from "./flood-limit.ts";
import {
  expectLength,
  expectNoStream,
  expectStream,
  withoutPadding,
  withoutPriority,
} from "./frame-checks.ts";
import { FrameReader } from "./frame-reader.ts";
import { FrameWriter } from "./frame-writer.ts";
import {
  ConnectionError,
  ERROR,
  type ErrorCode,
  FLAG,
  FRAME,
  frame,
  headerFrames,
  WINDOW_BYTES_MAX,
} from "./frames.ts";
import { type HeaderBlock, HeaderBlocks } from "./header-blocks.ts";
import { HpackDecoder, HpackError } from "./hpack/hpack-decoder.ts";
import { encodeField } from "./hpack/hpack-encoder.ts";
import type { Http2Exchange } from "./http2-exchange.ts";
import { Http2Stream, type StreamHost } from "./http2-stream.ts";
import { Liveness } from "./liveness.ts";
import { ReceiveWindow } from "./receive-window.ts";
import { type Asked, RequestFinder } from "./request-finder.ts";
import { FIRST_SETTINGS, type PeerSettings, readSettings, writeSettings } from "./settings.ts";

export interface Http2ConnectionOptions {
  /** Of a request's header list, as HTTP/2 counts it. */
  readonly headerBytesMax: number;
  /** At a time. */
  readonly streamsMax: number;
  readonly idleTimeoutMs: number;
  /** How long the rest of a plain request is waited for before it goes the longer way, which has limits for that. */
  readonly patienceMs: number;
  /** Offered every POST first. */
  readonly plain: PlainHandler<Http2Exchange> | undefined;
  /** Answers all others. */
  readonly handle: RequestHandler;
  /** Nothing came, or was taken, for `idleTimeoutMs`. */
  readonly onIdle: () => void;
  /** The client asked for nothing, and that too much. The connection is being closed. */
  readonly onFlood: () => void;
  /** Our own mistake. The connection is being closed. */
  readonly onInternalError: (error: unknown) => void;
  readonly httpDate: () => string;
  readonly clock: Pick<Clock, "now" | "after">;
}

/** What "all streams" is called in GOAWAY. */
const ALL_STREAMS = 2 ** 31 - 1;
const FIELDS_MAX = 200;
const OUR_PING: ByteText = "pbflagd?";
const TOO_LARGE: ByteText = encodeField(":status", "431");

/**
 * The server's side of a connection of HTTP/2 (RFC 9113), without Node's: that one makes a dozen objects of each request, and
 * takes longer over them than an answer takes. Requests for which there is a plain route are answered as they stand, all others
 * as a request and a response.
 */
export class Http2Connection implements StreamHost {
  readonly #connection: Connection;
  readonly #options: Http2ConnectionOptions;
  readonly #flood: FloodLimit;
  readonly #liveness: Liveness;
  readonly #frames = new FrameReader();
  readonly #blocks: HeaderBlocks;
  readonly out: FrameWriter;
  readonly #requests: RequestFinder;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #receiveWindow = new ReceiveWindow();
  #settings: PeerSettings = FIRST_SETTINGS;
  #hasSettings = false;
  #lastStreamId = 0;
  /** Requests on later streams are not taken. */
  #streamIdMax = ALL_STREAMS;
  #isTaking = false;
  /** Nothing that comes is taken any more. */
  #isOver = false;
  #stopWaiting: (() => void) | undefined;

  /** The socket is paused, and begins with the client's preface. */
  constructor(connection: Connection, options: Http2ConnectionOptions) {
    const { headerBytesMax: bytesMax, idleTimeoutMs, onIdle, httpDate, clock } = options;
    const { socket } = connection;
    this.#connection = connection;
    this.#options = options;
    this.#flood = new FloodLimit(clock);
    this.#liveness = new Liveness(clock.now());
    this.out = new FrameWriter({ socket, flood: this.#flood, liveness: this.#liveness, httpDate });
    this.#blocks = new HeaderBlocks(bytesMax);
    this.#requests = new RequestFinder(new HpackDecoder({ bytesMax, fieldsMax: FIELDS_MAX }), options.plain);
    socket.on("data", this.#take);
    socket.on("drain", this.#drained);
    socket.on("error", () => socket.destroy());
    socket.on("close", this.#end);
    socket.on("timeout", onIdle);
    // HTTP/2 knows no half-closed connections.
    socket.allowHalfOpen = false;
    socket.setTimeout(idleTimeoutMs);
    this.out.send(frame(FRAME.SETTINGS, 0, 0, writeSettings(options)));
    socket.resume();
  }

  get handle(): RequestHandler {
    return this.#options.handle;
  }

  /** To be called several times per `patienceMs`. Whether the client has hung for that long, inside a frame for instance. */
  isHalfOpen(now: number, patienceMs: number): boolean {
    if (this.#liveness.isUnproven(now, patienceMs / 2) && !this.#isOver)
      this.out.send(frame(FRAME.PING, 0, 0, OUR_PING));
    return this.#liveness.isHalfOpen(now, patienceMs);
  }

  /** To be called several times per `patienceMs`. Whether nothing was taken for that long of answers that are complete. */
  isStalled(now: number, patienceMs: number): boolean {
    let isWaiting = false;
    for (const stream of this.#streams.values()) isWaiting ||= stream.isWaiting;
    const { bytesWritten, writableLength } = this.#connection.socket;
    return this.#liveness.isStalled(
      now,
      patienceMs,
      writableLength > 0 ? bytesWritten - writableLength : isWaiting ? "windows" : undefined,
    );
  }

  /** "Open no new streams": those under way, or on their way here, are still answered (RFC 9113, section 6.8). */
  announceEnd(): void {
    if (!this.#isOver) this.#sendGoAway(ALL_STREAMS, ERROR.NO_ERROR);
  }

  /** No later request than the last one is answered. */
  refuseNew(): void {
    if (this.#isOver || this.#streamIdMax < ALL_STREAMS) return;
    this.#streamIdMax = this.#lastStreamId;
    this.#sendGoAway(this.#lastStreamId, ERROR.NO_ERROR);
  }

  #sendGoAway(streamId: number, code: ErrorCode, why: ByteText = ""): void {
    this.out.send(frame(FRAME.GOAWAY, 0, 0, uint32(streamId) + uint32(code) + why));
  }

  readonly #take = (chunk: Buffer): void => {
    if (this.#isOver) return;
    this.#frames.add(chunk);
    this.#goOn();
  };

  readonly #drained = (): void => {
    this.#sendWhatWaits();
    this.#goOn();
  };

  /** Takes in what has come, frame by frame, as long as the answers get away. */
  readonly #goOn = (): void => {
    const { socket } = this.#connection;
    if (this.#isOver || this.#isTaking) return;
    this.#isTaking = true;
    this.out.hold();
    let hasTaken = false;
    try {
      while (!this.#isOver && !socket.writableNeedDrain && this.#frames.next()) {
        hasTaken = true;
        this.#takeFrame(this.#frames);
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#isTaking = false;
    this.out.release();
    if (this.#isOver) return;
    if (socket.writableNeedDrain) socket.pause();
    else if (socket.isPaused()) socket.resume();
    const isInside = this.#frames.hasMore || this.#blocks.isInside || !this.#hasSettings;
    // What waits for our own answers to get away has come.
    const isTheirs = isInside && !socket.isPaused();
    const now = this.#options.clock.now();
    this.#liveness.took(now, isTheirs, hasTaken && !this.#blocks.isInside);
    this.#beginWaiting(now);
  };

  #takeFrame({ type, flags, streamId, payload }: FrameReader): void {
    if (!this.#hasSettings && type !== FRAME.SETTINGS)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "the first frame is not SETTINGS");
    if (this.#blocks.isInside && type !== FRAME.CONTINUATION)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "a header block has no end");
    switch (type) {
      case FRAME.DATA:
        this.#takeData(flags, streamId, payload);
        break;
      case FRAME.HEADERS:
        this.#takeHeaders(flags, streamId, payload);
        break;
      case FRAME.CONTINUATION:
        this.#takeBlock(this.#blocks.goOn(streamId, flags, payload));
        break;
      case FRAME.PRIORITY:
        expectStream(streamId, "PRIORITY");
        expectLength(payload, 5, "PRIORITY");
        this.#spend(COST.FRAME);
        break;
      case FRAME.RST_STREAM:
        this.#takeReset(streamId, payload);
        break;
      case FRAME.SETTINGS:
        this.#takeSettings(flags, streamId, payload);
        break;
      case FRAME.PING:
        this.#takePing(flags, streamId, payload);
        break;
      case FRAME.GOAWAY:
        expectNoStream(streamId, "GOAWAY");
        if (payload.length < 8) expectLength(payload, 8, "GOAWAY");
        this.#spend(COST.FUTILE);
        break;
      case FRAME.WINDOW_UPDATE:
        this.#takeWindowUpdate(streamId, payload);
        break;
      case FRAME.PUSH_PROMISE:
        throw new ConnectionError(ERROR.PROTOCOL_ERROR, "a client cannot push");
      default:
        // Extensions are ignored (RFC 9113, section 5.5).
        this.#spend(COST.FUTILE);
    }
  }

  #takeData(flags: number, streamId: number, payload: Buffer): void {
    expectStream(streamId, "DATA");
    // Streams have windows of their own. This one is refunded whatever becomes of the bytes, and so is never used up.
    this.#receiveWindow.receive(payload.length);
    const refund = this.#receiveWindow.refund();
    if (refund > 0) this.out.send(frame(FRAME.WINDOW_UPDATE, 0, 0, uint32(refund)));
    const isLast = (flags & FLAG.END_STREAM) !== 0;
    const piece = withoutPadding(flags, payload);
    if (piece.length === 0 && !isLast) this.#spend(COST.FUTILE);
    const stream = this.#streams.get(streamId);
    if (stream === undefined) this.#expectKnown(streamId);
    else stream.receive(piece, payload.length, isLast);
  }

  #takeHeaders(flags: number, streamId: number, payload: Buffer): void {
    expectStream(streamId, "HEADERS");
    const piece = withoutPriority(flags, withoutPadding(flags, payload));
    this.#takeBlock(this.#blocks.begin(streamId, flags, piece));
  }

  /** A request's, or its trailers. Undefined: not all of it has come. */
  #takeBlock(block: HeaderBlock | undefined): void {
    if (block === undefined) return;
    if (block.streamId % 2 === 0)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, "a client's streams have odd numbers");
    if (block.streamId <= this.#lastStreamId) this.#takeTrailers(block);
    else this.#takeRequest(block);
  }

  /** Nobody asks for them. Those of a closed stream may have been on their way. */
  #takeTrailers({ streamId, isLast, bytes }: HeaderBlock): void {
    const isRequest = this.#requests.passOver(bytes);
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      if (isRequest) throw new ConnectionError(ERROR.STREAM_CLOSED, "a stream is used again");
      this.#spend(COST.FUTILE);
    } else if (isLast && !isRequest) stream.receiveTrailers();
    else this.refuse(streamId, ERROR.PROTOCOL_ERROR);
  }

  #takeRequest({ streamId, isLast, bytes }: HeaderBlock): void {
    const asked = this.#requests.find(bytes);
    // It has been told, or is about to be.
    if (streamId > this.#streamIdMax) {
      this.#spend(COST.FRAME);
      return;
    }
    this.#lastStreamId = streamId;
    if (this.#streams.size >= this.#options.streamsMax) this.refuse(streamId, ERROR.REFUSED_STREAM);
    else if (asked === "malformed") this.refuse(streamId, ERROR.PROTOCOL_ERROR);
    else if (asked === "too large") this.#refuseTooLarge(streamId, isLast);
    else this.#open(streamId, asked, isLast);
  }

  #open(streamId: number, { head, route }: Asked, isLast: boolean): void {
    const now = this.#options.clock.now();
    const sendWindow = this.#settings.windowBytes;
    const stream = new Http2Stream(streamId, { host: this, head, route, sendWindow, now });
    this.#streams.set(streamId, stream);
    this.#connection.requestBegan();
    this.#liveness.proved();
    stream.begin(isLast);
  }

  refuse(streamId: number, code: ErrorCode): void {
    const stream = this.#streams.get(streamId);
    if (stream === undefined) this.out.send(frame(FRAME.RST_STREAM, 0, streamId, uint32(code)));
    else stream.reset(code);
    this.#spend(COST.REFUSED);
  }

  #refuseTooLarge(streamId: number, isLast: boolean): void {
    this.out.send(headerFrames(streamId, this.out.blockStart() + TOO_LARGE + this.out.blockEnd(), true));
    if (!isLast) this.out.send(frame(FRAME.RST_STREAM, 0, streamId, uint32(ERROR.NO_ERROR)));
    this.#spend(COST.REFUSED);
  }

  #takeReset(streamId: number, payload: Buffer): void {
    expectStream(streamId, "RST_STREAM");
    expectLength(payload, 4, "RST_STREAM");
    this.#expectKnown(streamId);
    this.#streams.get(streamId)?.close();
    this.#spend(COST.FUTILE);
  }

  #takeSettings(flags: number, streamId: number, payload: Buffer): void {
    expectNoStream(streamId, "SETTINGS");
    this.#spend(COST.FUTILE);
    if ((flags & FLAG.ACK) !== 0) {
      expectLength(payload, 0, "the acknowledgement of SETTINGS");
      return;
    }
    const before = this.#settings;
    this.#settings = readSettings(before, payload);
    this.#hasSettings = true;
    if (this.#settings.hasSmallTable) this.out.tableIsSmall();
    this.out.send(frame(FRAME.SETTINGS, FLAG.ACK, 0, ""));
    const more = this.#settings.windowBytes - before.windowBytes;
    for (const stream of this.#streams.values()) {
      stream.sendWindow += more;
      if (stream.sendWindow > WINDOW_BYTES_MAX)
        throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "SETTINGS make a window too large");
    }
    if (more > 0) this.#sendWhatWaits();
  }

  #takePing(flags: number, streamId: number, payload: Buffer): void {
    expectNoStream(streamId, "PING");
    expectLength(payload, 8, "PING");
    this.#spend(COST.FUTILE);
    const text = payload.toString("latin1");
    if ((flags & FLAG.ACK) === 0) this.out.send(frame(FRAME.PING, FLAG.ACK, 0, text));
    else if (text === OUR_PING) this.#liveness.proved();
  }

  #takeWindowUpdate(streamId: number, payload: Buffer): void {
    expectLength(payload, 4, "WINDOW_UPDATE");
    this.#spend(COST.FRAME);
    const more = payload.readUInt32BE(0) & ALL_STREAMS;
    if (streamId === 0) {
      this.out.window += more;
      if (more === 0) throw new ConnectionError(ERROR.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing");
      if (this.out.window > WINDOW_BYTES_MAX)
        throw new ConnectionError(ERROR.FLOW_CONTROL_ERROR, "the window is too large");
      this.#sendWhatWaits();
      return;
    }
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      this.#expectKnown(streamId);
      return;
    }
    stream.sendWindow += more;
    if (more === 0) this.refuse(streamId, ERROR.PROTOCOL_ERROR);
    else if (stream.sendWindow > WINDOW_BYTES_MAX) this.refuse(streamId, ERROR.FLOW_CONTROL_ERROR);
    else while (stream.sendNext());
  }

  /** Streams take turns, a frame each. */
  #sendWhatWaits(): void {
    let waiting = [...this.#streams.values()];
    while (waiting.length > 0) waiting = waiting.filter((stream) => stream.sendNext());
  }

  #expectKnown(streamId: number): void {
    const isNew = streamId > this.#lastStreamId && streamId <= this.#streamIdMax;
    if (isNew || streamId % 2 === 0)
      throw new ConnectionError(ERROR.PROTOCOL_ERROR, `stream ${streamId} was never opened`);
    this.#spend(COST.FRAME);
  }

  #spend(points: number): void {
    if (this.#flood.spend(points)) return;
    this.#options.onFlood();
    throw new ConnectionError(ERROR.ENHANCE_YOUR_CALM, "too many frames that ask for nothing");
  }

  /** Says why, and closes the connection. */
  #fail(error: unknown): void {
    const { socket } = this.#connection;
    const isForeseen = error instanceof ConnectionError || error instanceof HpackError;
    if (!isForeseen) this.#options.onInternalError(error);
    const why = isForeseen ? error.message : "internal error";
    this.#sendGoAway(this.#lastStreamId, codeOf(error), why);
    this.out.end();
    this.#isOver = true;
    this.#liveness.ended(this.#options.clock.now());
    this.#closeStreams();
    this.#frames.forget();
    // Read on all the same: unread, it would reset the connection, and the reason with it.
    socket.end();
    socket.resume();
  }

  readonly #end = (): void => {
    this.out.end();
    this.#isOver = true;
    this.#closeStreams();
  };

  #closeStreams(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
    for (const stream of [...this.#streams.values()]) stream.close();
  }

  closed(stream: Http2Stream, wasAnswered: boolean): void {
    this.#streams.delete(stream.id);
    this.#connection.requestEnded(this.#options.clock.now());
    this.#liveness.moved();
    if (wasAnswered) this.#flood.answered();
  }

  /** For the rest of what was begun. */
  #beginWaiting(now: number): void {
    if (this.#stopWaiting !== undefined) return;
    const { clock, patienceMs } = this.#options;
    let isWaiting = false;
    for (const stream of this.#streams.values()) isWaiting ||= stream.isBegun;
    if (!isWaiting) return;
    this.#stopWaiting = clock.after(patienceMs, () => {
      this.#stopWaiting = undefined;
      for (const stream of [...this.#streams.values()])
        if (stream.isBegun && stream.openedAt <= now) stream.takeLongerWay();
      this.#beginWaiting(clock.now());
    });
  }
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof ConnectionError) return error.code;
  return error instanceof HpackError ? ERROR.COMPRESSION_ERROR : ERROR.INTERNAL_ERROR;
}
