import { StringDecoder } from "node:string_decoder";
import type { Clock } from "../../system/clock.ts";

/** A longer line is cut. */
export const LINE_CHARS_MAX = 4_096;

/** Takes the bytes of one stream apart into lines. Empty ones are left out. */
export class LineSplitter {
  readonly #decoder = new StringDecoder("utf8");
  readonly #onLine: (line: string) => void;
  #line = "";
  #isCut = false;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** What has been begun is a line, too. */
  end(): void {
    this.#take(`${this.#decoder.end()}\n`);
  }

  #take(text: string): void {
    const [first = "", ...further] = text.split("\n");
    this.#append(first);
    for (const piece of further) {
      this.#finish();
      this.#append(piece);
    }
  }

  #append(piece: string): void {
    const room = LINE_CHARS_MAX - this.#line.length;
    this.#isCut ||= piece.length > room;
    this.#line += piece.slice(0, room);
  }

  #finish(): void {
    const line = this.#isCut ? `${this.#line}…` : this.#line.trimEnd();
    this.#line = "";
    this.#isCut = false;
    if (line !== "") this.#onLine(line);
  }
}

/** Lines that are passed on within `WINDOW_MS`. */
export const LINES_MAX = 100;
const WINDOW_MS = 1_000;

/**
 * Passes lines on, and leaves out what comes too fast: a program that floods its output fills nobody's log, and has
 * not to wait for it either. The next line that is passed on is preceded by one that says how many were left out.
 */
export class OutputLimiter {
  readonly #clock: Pick<Clock, "now">;
  readonly #onLine: (line: string) => void;
  #windowEndsAt = -Infinity;
  #passed = 0;
  #dropped = 0;

  constructor(clock: Pick<Clock, "now">, onLine: (line: string) => void) {
    this.#clock = clock;
    this.#onLine = onLine;
  }

  take(line: string): void {
    const now = this.#clock.now();
    if (now >= this.#windowEndsAt) {
      this.#windowEndsAt = now + WINDOW_MS;
      this.#passed = 0;
    }
    if (this.#passed >= LINES_MAX) {
      this.#dropped += 1;
      return;
    }
    this.end();
    this.#passed += 1;
    this.#onLine(line);
  }

  /** Says what has been left out, if nothing is to follow. */
  end(): void {
    if (this.#dropped === 0) return;
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.#onLine(`… ${dropped} more lines, too fast to be logged`);
  }
}
