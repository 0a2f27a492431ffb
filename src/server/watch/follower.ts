import { Code, ConnectError } from "@connectrpc/connect";
import type { Version } from "../../evaluation/version.ts";
import type { Clock } from "../../system/clock.ts";
import type { Rpc } from "../../telemetry/call-counts.ts";
import type { HttpResponse } from "../listener/exchange.ts";
import { nameOf } from "../rpc/codes.ts";
import { PieceWriter, piecesOf } from "../rpc/piece-writer.ts";
import type { Followers, Seat } from "./followers.ts";
import type { Framing } from "./framing.ts";
import type { MessageBytes } from "./message-bytes.ts";
import { HEARTBEAT_MS, type Told, type WatchEvents } from "./watch-events.ts";

export interface FollowerOptions {
  readonly events: WatchEvents;
  readonly followers: Followers;
  readonly framing: Framing;
  readonly response: HttpResponse;
  readonly since: Version | undefined;
  readonly omitsKills: boolean;
  /** Undefined: it follows for as long as it likes. */
  readonly timeoutMs: number | undefined;
  readonly stallTimeoutMs: number;
  readonly clock: Pick<Clock, "after">;
  /** Aborts when the client has left. */
  readonly left: AbortSignal;
  readonly stopping: AbortSignal;
  /** It is being cut because it takes nothing. */
  readonly onStalled: () => void;
  readonly onEnd: (code: Rpc["code"]) => void;
}

/**
 * One stream that is open, until the client leaves or is cut, its time is up, or the daemon stops. It writes a piece when
 * its turn comes and the piece before is taken, and works out what is next only after the last one: what it holds is one
 * message, and of that the kill set is everybody's.
 */
export function follow(options: FollowerOptions): void {
  if (options.left.aborted) options.onEnd("canceled");
  else new Follower(options).begin();
}

class Follower {
  readonly #options: FollowerOptions;
  readonly #writer: PieceWriter;
  readonly #seat: Seat;
  readonly #wantNoMore: () => void;
  #cancelBeat: () => void = () => {};
  #cancelTimeout: () => void = () => {};
  #told: Told | undefined;
  /** What is left of the message that is being written. */
  #pieces: Iterator<Uint8Array, void> | undefined;
  #isFirst = true;
  #isBusy = false;
  #isBeatDue = false;
  #hasEnded = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
    const onStalled = () => {
      options.onStalled();
      this.#end("canceled");
    };
    this.#writer = new PieceWriter({ ...options, onStalled });
    this.#seat = options.followers.join(() => this.#look());
    this.#wantNoMore = options.omitsKills ? () => {} : options.events.want(options.framing.format);
  }

  begin(): void {
    const { response, framing, timeoutMs, clock, left } = this.#options;
    left.addEventListener("abort", () => this.#end("canceled"), { once: true });
    response.writeHead(200, framing.headers);
    if (timeoutMs !== undefined) this.#cancelTimeout = clock.after(timeoutMs, () => this.#timeOut());
    this.#beat();
    this.#seat.ask();
  }

  /** Goes on with what it says, or says what there is to say, if the client takes it. */
  #look(): void {
    const { stopping, framing, response } = this.#options;
    while (!this.#isBusy && !this.#hasEnded) {
      const piece = this.#pieces?.next();
      if (piece?.done === false) {
        this.#write(piece.value);
        return;
      }
      if (stopping.aborted) {
        // Who is told that all is well goes on elsewhere.
        framing.end(response);
        this.#end("ok");
        return;
      }
      const message = this.#nextMessage();
      if (message === undefined) return;
      this.#isFirst = false;
      this.#pieces = piecesOf(...message);
    }
  }

  #nextMessage(): MessageBytes | undefined {
    const { events, since, omitsKills, framing } = this.#options;
    const manner = { format: framing.format, omitsKills, isFirst: this.#isFirst };
    const news = this.#told === undefined ? events.first(since, manner) : events.next(this.#told, manner);
    if (news !== undefined) {
      this.#told = news.told;
      return news.message;
    }
    if (!this.#isFirst && !this.#isBeatDue) return undefined;
    if (this.#isBeatDue) this.#beat();
    return events.heartbeat(manner);
  }

  #write(piece: Uint8Array): void {
    this.#isBusy = true;
    this.#writer.writePiece(piece, () => {
      this.#isBusy = false;
      this.#seat.ask();
    });
  }

  /** Each keeps a time of its own, so that a thousand need not be told at once that there is nothing to tell. */
  #beat(): void {
    this.#isBeatDue = false;
    this.#cancelBeat = this.#options.clock.after(HEARTBEAT_MS, () => {
      this.#isBeatDue = true;
      this.#seat.ask();
    });
  }

  #timeOut(): void {
    const { framing, response } = this.#options;
    // Not into the middle of a message.
    if (this.#pieces?.next().done === false) response.destroy();
    else framing.end(response, new ConnectError("the operation timed out", Code.DeadlineExceeded));
    this.#end(nameOf(Code.DeadlineExceeded));
  }

  #end(code: Rpc["code"]): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#cancelBeat();
    this.#cancelTimeout();
    this.#wantNoMore();
    this.#seat.leave();
    this.#options.onEnd(code);
  }
}
