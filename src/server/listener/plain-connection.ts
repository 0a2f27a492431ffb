import type { Socket } from "node:net";
import type { Clock } from "../../system/clock.ts";
import type { Connection } from "./connection.ts";
import type { FoundRoute, PlainExchange, PlainRoute } from "./plain-route.ts";

export interface PlainConnectionOptions {
  /** By the text of a head. */
  readonly findRoute: (head: string) => FoundRoute | undefined;
  /** Of a request's head. */
  readonly headBytesMax: number;
  /** How long the rest of a request is waited for. Then it is up to Node's server, which has limits for that. */
  readonly patienceMs: number;
  readonly idleTimeoutMs: number;
  /** Nothing came, or was taken, for that long. */
  readonly onIdle: () => void;
  /** Has Node's server take the connection. It is paused, and what is not answered is to be read from it once more. */
  readonly handOver: () => void;
  readonly httpDate: () => string;
  readonly clock: Pick<Clock, "now" | "after">;
}

/** A request of which not all has come. */
interface Begun {
  /** Undefined: not even all of its head has. */
  readonly found: FoundRoute | undefined;
  readonly pieces: number;
}

/** What comes next. Other: what is not for us. */
type Next = "nothing" | "other" | Begun | { readonly found: FoundRoute; readonly bodyStart: number };

/** Longer ones are not worth remembering. */
const HEAD_BYTES_MAX = 4 * 1_024;
const END_OF_HEAD = Buffer.from("\r\n\r\n");
const POST = Buffer.from("POST ");
const NOTHING = Buffer.alloc(0);
/** In which a request may come. */
const PIECES_MAX = 32;
/** As Node's server says of a request that ends too early. */
const BAD_REQUEST = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

/**
 * Answers requests of HTTP/1.1 as long as they are plain ones for which there is a route, without Node's parser and
 * without the objects that Node makes of every request. At the first one that is not, Node's server takes the
 * connection, with all that is not answered.
 */
export class PlainConnection implements PlainExchange {
  readonly #connection: Connection;
  readonly #socket: Socket;
  readonly #options: PlainConnectionOptions;
  readonly #keepAlive: string;
  readonly #headBytesMax: number;
  #bytes: Buffer = NOTHING;
  /** What comes before, of the bytes, is answered or is being answered. */
  #at = 0;
  /** Undefined: no request is being answered. */
  #answering: PlainRoute<PlainExchange> | undefined;
  /** Where the request that is being answered begins. */
  #answeringAt = 0;
  #begun: Begun | undefined;
  #stopWaiting: (() => void) | undefined;
  #isAdvancing = false;
  /** Nothing more is answered here: Node's server has the connection, or one side has said that it is done. */
  #isOver = false;
  #isDraining = false;

  /** The socket is paused. */
  constructor(connection: Connection, options: PlainConnectionOptions) {
    const { idleTimeoutMs } = options;
    this.#connection = connection;
    this.#socket = connection.socket;
    this.#options = options;
    this.#headBytesMax = Math.min(HEAD_BYTES_MAX, options.headBytesMax);
    this.#keepAlive = `keep-alive\r\nKeep-Alive: timeout=${Math.floor(idleTimeoutMs / 1_000)}`;
    this.#listen("on");
    this.#socket.setTimeout(idleTimeoutMs).resume();
  }

  /** Node's server takes the connection, unless a request is being answered: then that is the last one. */
  drain(): void {
    this.#isDraining = true;
    if (this.#answering === undefined) this.#handOver();
  }

  reply(fields: string, body: string): void {
    this.#answered();
    if (this.#isOver || this.#socket.destroyed) return;
    const connection = this.#isDraining ? "close" : this.#keepAlive;
    const head = `HTTP/1.1 200 OK\r\n${fields}Date: ${this.#options.httpDate()}\r\nConnection: ${connection}\r\n\r\n`;
    this.#socket.write(head + body, "latin1");
    if (this.#isDraining) this.#finish("");
    else this.#advance();
  }

  fallThrough(): void {
    const route = this.#answering;
    this.#answered();
    if (this.#isOver || this.#socket.destroyed) {
      route?.cutOff();
      return;
    }
    this.#at = this.#answeringAt;
    this.#handOver();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  readonly #take = (piece: Buffer): void => {
    // Read all the same: unread, it would reset the connection, and the last answer with it.
    if (this.#isOver) return;
    const kept = this.#answering === undefined ? this.#at : this.#answeringAt;
    this.#bytes = kept === this.#bytes.length ? piece : Buffer.concat([this.#bytes.subarray(kept), piece]);
    this.#at -= kept;
    this.#answeringAt = 0;
    this.#advance();
  };

  /** Answers what can be answered now. */
  readonly #advance = (): void => {
    // Within itself, where an answer is there at once.
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    while (this.#answerNext());
    this.#isAdvancing = false;
    if (this.#isOver) return;
    if (this.#at < this.#bytes.length && this.#begun === undefined) this.#putBack();
    else if (this.#socket.isPaused()) this.#socket.resume();
    // An idle connection holds no memory.
    if (this.#answering === undefined && this.#at === this.#bytes.length) {
      this.#bytes = NOTHING;
      this.#at = 0;
    }
  };

  /**
   * Requests wait for their turn in the socket, which reads nothing meanwhile. So it does not come to its end either before
   * they are answered.
   */
  #putBack(): void {
    this.#socket.pause();
    this.#socket.unshift(this.#bytes.subarray(this.#at));
    this.#bytes = this.#bytes.subarray(0, this.#at);
  }

  /** False: it cannot, for now or for ever. */
  #answerNext(): boolean {
    if (this.#answering !== undefined || this.#isOver || this.#socket.writableNeedDrain) return false;
    const next = this.#next();
    if (next === "nothing") return false;
    if (next === "other") {
      this.#handOver();
      return false;
    }
    if (!("bodyStart" in next)) {
      this.#begun = next;
      this.#stopWaiting ??= this.#options.clock.after(this.#options.patienceMs, () => this.#handOver());
      return false;
    }
    const { found, bodyStart } = next;
    this.#forgetBegun();
    this.#answering = found.route;
    this.#answeringAt = this.#at;
    this.#at = bodyStart + found.bodyBytes;
    this.#connection.requestBegan();
    found.route.answer(this.#bytes.subarray(bodyStart, this.#at), this);
    return true;
  }

  #next(): Next {
    const [bytes, at] = [this.#bytes, this.#at];
    if (at === bytes.length) return "nothing";
    const headEnd = bytes.indexOf(END_OF_HEAD, at);
    const headBytes = (headEnd === -1 ? bytes.length : headEnd) - at;
    const beginning = Math.min(headBytes, POST.length);
    if (headBytes > this.#headBytesMax || POST.compare(bytes, at, at + beginning, 0, beginning) !== 0)
      return "other";
    const found = headEnd === -1 ? undefined : this.#options.findRoute(bytes.toString("latin1", at, headEnd));
    if (headEnd !== -1 && found === undefined) return "other";
    const bodyStart = headEnd + END_OF_HEAD.length;
    if (found !== undefined && bodyStart + found.bodyBytes <= bytes.length) return { found, bodyStart };
    const pieces = (this.#begun?.pieces ?? 0) + 1;
    return pieces > PIECES_MAX ? "other" : { found, pieces };
  }

  #answered(): void {
    this.#answering = undefined;
    this.#connection.requestEnded(this.#options.clock.now());
  }

  #forgetBegun(): void {
    this.#begun = undefined;
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
  }

  #handOver(): void {
    if (this.#isOver || this.#socket.destroyed) return;
    this.#isOver = true;
    this.#forgetBegun();
    this.#listen("off");
    this.#socket.setTimeout(0).pause();
    if (this.#at < this.#bytes.length) this.#socket.unshift(this.#bytes.subarray(this.#at));
    this.#options.handOver();
  }

  #finish(last: string): void {
    if (this.#isOver) return;
    this.#cutOff();
    this.#socket.end(last).resume();
  }

  /** As Node's server has it, a client that says it is done does not wait for an answer any more. */
  readonly #end = (): void => {
    this.#finish(this.#begun === undefined ? "" : BAD_REQUEST);
  };

  readonly #fail = (): void => {
    this.#socket.destroy();
  };

  readonly #cutOff = (): void => {
    this.#isOver = true;
    this.#begun?.found?.route.cutOff();
    this.#forgetBegun();
  };

  #listen(how: "on" | "off"): void {
    const socket = this.#socket;
    socket[how]("data", this.#take);
    socket[how]("drain", this.#advance);
    socket[how]("end", this.#end);
    socket[how]("error", this.#fail);
    socket[how]("close", this.#cutOff);
    socket[how]("timeout", this.#options.onIdle);
  }
}
