import type { Socket } from "node:net";
import type { ByteText } from "../byte-text.ts";
import type { FloodLimit } from "./flood-limit.ts";
import { WINDOW_BYTES } from "./frames.ts";
import { EMPTY_TABLE, encodeField } from "./hpack/hpack-encoder.ts";
import type { Liveness } from "./liveness.ts";

export interface FrameWriterOptions {
  readonly socket: Socket;
  /** What is sent of answers pays for what clients say of it. */
  readonly flood: Pick<FloodLimit, "answered" | "sent">;
  readonly liveness: Pick<Liveness, "moved">;
  readonly httpDate: () => string;
}

/** So much is put together before it is written. */
const WRITE_BYTES = 65_536;
/** So much waits in the socket before answers wait in their streams, whatever a client's windows allow: there they share memory. */
const FULL_BYTES = 1_048_576;

/** Writes frames to a connection, what is said in one turn in one piece. */
export class FrameWriter {
  readonly #options: FrameWriterOptions;
  /** How much the client takes on all streams together before it says more. */
  window = WINDOW_BYTES;
  #out: ByteText = "";
  #isHeld = false;
  #isOver = false;
  #tellsTable = false;
  #dateText = "";
  #dateField: ByteText = "";

  constructor(options: FrameWriterOptions) {
    this.#options = options;
  }

  /** What is sent is put together, until `release`. */
  hold(): void {
    this.#isHeld = true;
  }

  release(): void {
    this.#isHeld = false;
    this.#flush();
  }

  /** Nothing more is sent. */
  end(): void {
    this.#flush();
    this.#isOver = true;
  }

  /** The client does not take what was sent, for now. */
  get isFull(): boolean {
    return this.#options.socket.writableLength >= FULL_BYTES;
  }

  send(text: ByteText): void {
    if (this.#isOver) return;
    this.#out += text;
    if (!this.#isHeld || this.#out.length >= WRITE_BYTES) this.#flush();
  }

  /** So much of the window is used. */
  sent(bytes: number): void {
    this.window -= bytes;
    this.#options.flood.sent(bytes);
  }

  /** A frame of an answer. `written` is called as in `HttpResponse`, at the end of a piece of a stream. */
  sendBytes(
    head: ByteText,
    bytes: Uint8Array | ByteText,
    written: ((error?: Error | null) => void) | undefined,
  ): void {
    const { socket, flood, liveness } = this.#options;
    liveness.moved();
    if (written !== undefined) flood.answered();
    socket.cork();
    this.#flush();
    if (typeof bytes === "string") {
      socket.write(head + bytes, "latin1", written);
    } else {
      socket.write(head, "latin1");
      socket.write(bytes, written);
    }
    socket.uncork();
  }

  #flush(): void {
    if (this.#out === "") return;
    const out = this.#out;
    this.#out = "";
    this.#options.socket.write(out, "latin1");
  }

  /** The client's header table has become smaller: the next block says that ours is empty. */
  tableIsSmall(): void {
    this.#tellsTable = true;
  }

  /** What a header block begins with, whatever it says. */
  blockStart(): ByteText {
    if (!this.#tellsTable) return "";
    this.#tellsTable = false;
    return EMPTY_TABLE;
  }

  /** What the header block of a response ends with. */
  blockEnd(): ByteText {
    const text = this.#options.httpDate();
    if (text !== this.#dateText) {
      this.#dateText = text;
      this.#dateField = encodeField("date", text);
    }
    return this.#dateField;
  }
}
