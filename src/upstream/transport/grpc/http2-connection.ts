import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
  type OutgoingHttpHeaders,
} from "node:http2";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { Clock } from "../../../system/clock.ts";
import { QUIET_MS } from "../stale.ts";
import { nameOfHttp2Error } from "./codes.ts";

export interface Http2ConnectionOptions {
  /** Connected or about to be. Its errors are heard by somebody else. */
  readonly socket: Socket;
  readonly authority: string;
  /** 0: it may be idle for ever. */
  readonly idleTimeoutMs: number;
  /** 0: no pings. */
  readonly keepAliveMs: number;
  readonly clock: Pick<Clock, "now" | "sleep">;
  /** Called once, when it is gone. */
  readonly onClosed: (connection: Http2Connection) => void;
}

/** One call on a connection. */
export interface Http2Call {
  readonly stream: ClientHttp2Stream;
  /** What had been heard of the other side when it began. */
  readonly heard: number;
  /** What had been sent to it. */
  readonly sent: number;
  /** No call had been answered for so long that it may have been gone by then. */
  readonly isOnDoubtful: boolean;
}

/** Megabytes. With Node's 10, a client does not take a dozen large answers side by side. */
const SESSION_MEMORY_MAX = 100;
/** Large answers should not wait for leave to go on every 64 KiB. */
const WINDOW_BYTES = 1024 * 1024;
/** Half of those there are. A connection that has used up all of them would refuse every call. */
const STREAM_ID_MAX = 2 ** 30;

/**
 * One HTTP/2 connection as its client needs it: whether it still takes calls, and why one failed. Errors of the session
 * are always heard, in a call or not: one that nobody hears ends the process.
 */
export class Http2Connection {
  readonly socket: Socket;
  readonly #session: ClientHttp2Session;
  readonly #options: Http2ConnectionOptions;
  readonly #end = new AbortController();
  #calls = 0;
  #idleSince: number;
  #isLeaving = false;
  /** Undefined: nothing was answered yet. */
  #answeredAt: number | undefined;
  #failure: Error | undefined;
  /** Of the calls that the other side may have looked at. Undefined: it has not said goodbye. */
  #lastStreamId: number | undefined;

  constructor(options: Http2ConnectionOptions) {
    const { socket, authority, idleTimeoutMs, keepAliveMs, clock, onClosed } = options;
    this.socket = socket;
    this.#options = options;
    this.#idleSince = clock.now();
    const fail = (error: Error) => {
      this.#failure ??= error;
    };
    // Before the session hears of it, and with it the calls.
    socket.on("error", fail);
    this.#session = connectHttp2(`${socket instanceof TLSSocket ? "https" : "http"}://${authority}`, {
      createConnection: () => socket,
      maxSessionMemory: SESSION_MEMORY_MAX,
      settings: { enablePush: false, initialWindowSize: WINDOW_BYTES },
    });
    this.#session.on("error", fail);
    this.#session.on("goaway", (code, lastStreamId) => this.#onGoaway(code, lastStreamId));
    this.#session.once("connect", () => this.#onConnect());
    this.#session.once("close", () => {
      this.#end.abort();
      onClosed(this);
    });
    if (idleTimeoutMs > 0) void this.#watchIdleness(idleTimeoutMs);
    if (keepAliveMs > 0) void this.#watchOtherSide(keepAliveMs);
  }

  /** False once either side wants to end it, or the other side may not be there any more. */
  get takesCalls(): boolean {
    return !this.#isLeaving && !this.#session.closed && !this.#session.destroyed;
  }

  /** Whether a call was answered on it. */
  get hasAnswered(): boolean {
    return this.#answeredAt !== undefined;
  }

  /** It broke, without the other side having taken its leave. */
  get isBroken(): boolean {
    return this.#session.destroyed && this.#lastStreamId === undefined;
  }

  /** Why it ended, if anything is known of that. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Begins a call. Undefined: it takes none. */
  begin(headers: OutgoingHttpHeaders): Http2Call | undefined {
    if (!this.takesCalls) return undefined;
    const { bytesRead, bytesWritten } = this.socket;
    const quietMs = this.#options.clock.now() - (this.#answeredAt ?? Infinity);
    const stream = this.#session.request(headers);
    // For what comes when nobody waits for the call any more.
    stream.on("error", () => {});
    this.#calls += 1;
    if ((stream.id ?? 0) > STREAM_ID_MAX) this.#isLeaving = true;
    return { stream, heard: bytesRead, sent: bytesWritten, isOnDoubtful: quietMs >= QUIET_MS };
  }

  /** Something came for a call that goes on: the other side is what it should be. */
  answered(): void {
    this.#answeredAt = this.#options.clock.now();
  }

  /** A call has ended. To be told once of each. */
  end(outcome: "answered" | "failed"): void {
    if (outcome === "answered") this.answered();
    this.#calls -= 1;
    if (this.#calls > 0) return;
    this.#idleSince = this.#options.clock.now();
    if (this.#isLeaving) this.close();
  }

  /** Nothing came for a call in all the time it had. If nothing came for any, nobody may be there. */
  doubt({ heard }: Http2Call): void {
    if (this.#session.connecting || this.socket.bytesRead !== heard) return;
    this.#isLeaving = true;
  }

  /** The other side has said that it did not even look at this call, or cannot have seen it. */
  isUnprocessed({ stream, sent }: Http2Call): boolean {
    if (this.#lastStreamId !== undefined) return (stream.id ?? Infinity) > this.#lastStreamId;
    return this.isBroken && this.hasAnswered && this.socket.bytesWritten === sent;
  }

  /** Ends it, and what is under way on it. `reason`: what those calls are told. */
  close(reason?: Error): void {
    this.#isLeaving = true;
    if (reason !== undefined) this.#failure ??= reason;
    // Without an error, the calls under way would look as if they had been answered to the end.
    if (reason === undefined) this.#session.destroy();
    else this.#session.destroy(reason, constants.NGHTTP2_CANCEL);
    // The session would wait until all it wrote was taken: nobody may be there to take it.
    setImmediate(() => this.socket.destroy());
  }

  #onConnect(): void {
    if (this.#session.destroyed) return;
    if (this.socket instanceof TLSSocket && this.socket.alpnProtocol !== "h2") {
      this.close(new Error("it does not speak HTTP/2 over TLS"));
      return;
    }
    this.#session.setLocalWindowSize(WINDOW_BYTES);
  }

  #onGoaway(code: number, lastStreamId: number): void {
    this.#lastStreamId = lastStreamId;
    this.#failure ??= new Error(`it ended the connection (${nameOfHttp2Error(code)})`);
    this.#isLeaving = true;
    if (this.#calls === 0) this.close();
  }

  async #watchIdleness(timeoutMs: number): Promise<void> {
    const { clock } = this.#options;
    for (let leftMs = timeoutMs; leftMs > 0; ) {
      await clock.sleep(leftMs, this.#end.signal).catch(() => {});
      if (this.#end.signal.aborted) return;
      leftMs = timeoutMs - (this.#calls > 0 ? 0 : clock.now() - this.#idleSince);
    }
    this.close();
  }

  /** Pings only while somebody waits for an answer and none has come: other pings annoy servers. */
  async #watchOtherSide(periodMs: number): Promise<void> {
    const { clock } = this.#options;
    for (let isPinged = false; ; ) {
      const heard = this.socket.bytesRead;
      await clock.sleep(periodMs, this.#end.signal).catch(() => {});
      if (this.#end.signal.aborted || this.#session.destroyed) return;
      const isSilent = this.#calls > 0 && this.socket.bytesRead === heard;
      if (isSilent && isPinged) {
        this.close(new Error(`it did not answer a ping within ${periodMs} ms`));
        return;
      }
      if (isSilent) this.#session.ping(() => {});
      isPinged = isSilent;
    }
  }
}
