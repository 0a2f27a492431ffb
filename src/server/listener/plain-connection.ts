import type { Socket } from "node:net";
import type { Clock } from "../../system/clock.ts";
import type { Connection } from "./connection.ts";
import type { FoundRoute, PlainExchange } from "./plain-route.ts";

export interface PlainConnectionOptions {
  /** By the text of a head. */
  readonly findRoute: (head: string) => FoundRoute | undefined;
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
/**
 * How long the rest of a request is waited for, and in how many pieces. Then it is up to Node's server, which has limits
 * for that.
 */
const PATIENCE_MS = 200;
const PIECES_MAX = 32;
/** Of requests that wait for their turn. */
const WAITING_BYTES_MAX = 128 * 1_024;
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
  #bytes: Buffer = Buffer.alloc(0);
  /** What comes before, of the bytes, is answered or is being answered. */
  #at = 0;
  /** Where the request begins that is being answered. Undefined: none is. */
  #answering: number | undefined;
  #begun: Begun | undefined;
  #stopWaiting: (() => void) | undefined;
  #isAdvancing = false;
  #isHandedOver = false;
  #isDraining = false;

  /** The socket is paused. */
  constructor(connection: Connection, options: PlainConnectionOptions) {
    const { idleTimeoutMs } = options;
    this.#connection = connection;
    this.#socket = connection.socket;
    this.#options = options;
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
    if (this.#socket.destroyed) return;
    const connection = this.#isDraining ? "close" : this.#keepAlive;
    const head = `HTTP/1.1 200 OK\r\n${fields}Date: ${this.#options.httpDate()}\r\nConnection: ${connection}\r\n\r\n`;
    this.#socket.write(head + body, "latin1");
    if (this.#isDraining) this.#socket.end();
    else this.#advance();
  }

  fallThrough(): void {
    this.#at = this.#answering ?? this.#at;
    this.#answered();
    this.#handOver();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  readonly #take = (piece: Buffer): void => {
    const kept = this.#answering ?? this.#at;
    this.#bytes = kept === this.#bytes.length ? piece : Buffer.concat([this.#bytes.subarray(kept), piece]);
    this.#at -= kept;
    if (this.#answering !== undefined) this.#answering = 0;
    this.#advance();
  };

  /** Answers what can be answered now. */
  readonly #advance = (): void => {
    // Within itself, where an answer is there at once.
    if (this.#isAdvancing) return;
    this.#isAdvancing = true;
    while (this.#answerNext());
    this.#isAdvancing = false;
    if (this.#isHandedOver) return;
    const isFull = this.#bytes.length - this.#at > WAITING_BYTES_MAX;
    if (isFull) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  };

  /** False: it cannot, for now or for ever. */
  #answerNext(): boolean {
    if (this.#answering !== undefined || this.#isHandedOver || this.#socket.writableNeedDrain) return false;
    const next = this.#next();
    if (next === "nothing") return false;
    if (next === "other") {
      this.#handOver();
      return false;
    }
    if (!("bodyStart" in next)) {
      this.#begun = next;
      this.#stopWaiting ??= this.#options.clock.after(PATIENCE_MS, () => this.#handOver());
      return false;
    }
    const { found, bodyStart } = next;
    this.#forgetBegun();
    this.#answering = this.#at;
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
    if (headBytes > HEAD_BYTES_MAX || POST.compare(bytes, at, at + beginning, 0, beginning) !== 0)
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
    this.#isHandedOver = true;
    this.#forgetBegun();
    this.#listen("off");
    this.#socket.setTimeout(0).pause();
    if (this.#at < this.#bytes.length) this.#socket.unshift(this.#bytes.subarray(this.#at));
    this.#options.handOver();
  }

  /** As Node's server has it, a client that says it is done does not wait for an answer any more. */
  readonly #end = (): void => {
    this.#socket.end(this.#begun === undefined ? "" : BAD_REQUEST);
  };

  readonly #fail = (): void => {
    this.#socket.destroy();
  };

  readonly #close = (): void => {
    this.#begun?.found?.route.cutOff();
    this.#forgetBegun();
  };

  #listen(how: "on" | "off"): void {
    const socket = this.#socket;
    socket[how]("data", this.#take);
    socket[how]("drain", this.#advance);
    socket[how]("end", this.#end);
    socket[how]("error", this.#fail);
    socket[how]("close", this.#close);
    socket[how]("timeout", this.#options.onIdle);
  }
}
