import type { Socket } from "node:net";
import type { Http2Connection } from "../http2/http2-connection.ts";
import type { PlainConnection } from "./plain-connection.ts";

/** What a connection turned out to speak. */
export type Speaks =
  | { readonly kind: "unknown" }
  /** Plain: not handed over to Node's server yet. */
  | { readonly kind: "http1"; readonly plain: PlainConnection | undefined }
  | { readonly kind: "http2"; readonly http2: Http2Connection };

/** One accepted connection: what it speaks, and whether it has anything to do. Times are of the monotonic clock. */
export class Connection {
  readonly socket: Socket;
  readonly openedAt: number;
  speaks: Speaks = { kind: "unknown" };
  #requests = 0;
  #running = 0;
  #idleSince: number;

  constructor(socket: Socket, now: number) {
    this.socket = socket;
    this.openedAt = now;
    this.#idleSince = now;
  }

  requestBegan(): void {
    this.#requests += 1;
    this.#running += 1;
  }

  requestEnded(now: number): void {
    this.#running -= 1;
    this.#idleSince = now;
  }

  /** Whether it has ever asked for anything. */
  get used(): boolean {
    return this.#requests > 0;
  }

  /** Whether a request is being answered. */
  get busy(): boolean {
    return this.#running > 0;
  }

  /** 0 while a request is being answered. */
  idleMs(now: number): number {
    return this.busy ? 0 : now - this.#idleSince;
  }
}
