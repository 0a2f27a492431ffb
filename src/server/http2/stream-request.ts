import { Readable } from "node:stream";
import type { RequestHead } from "./request-head.ts";

/** A request over HTTP/2, as those see it who answer it. */
export class StreamRequest extends Readable {
  readonly httpVersion = "2.0";
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly #onTaken: () => void;

  /** `onTaken`: what was pushed has been read, and more may come. */
  constructor({ method, path, headers }: RequestHead, onTaken: () => void) {
    super({ highWaterMark: 16_384 });
    this.method = method;
    this.url = path;
    this.headers = headers;
    this.#onTaken = onTaken;
  }

  override _read(): void {
    this.#onTaken();
  }
}
