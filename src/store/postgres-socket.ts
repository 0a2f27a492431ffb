import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Client } from "pg";
import { lookUpOnce } from "../system/look-up-once.ts";

/**
 * A socket for pg that survives nonsense from the other side.
 *
 * pg reads the protocol inside the stream's "data" event, where an exception over a malformed message would
 * end the whole process. Here it ends the connection, as any other failure of it does.
 */
export class PostgresSocket extends Socket {
  #source: Duplex = this;
  /** Called with each sign of life of the other side: it has accepted, or sent something. Unset: nobody is. */
  onLife: (() => void) | undefined;

  constructor() {
    super();
    this.#guard(this);
  }

  /** What pg reads the protocol from: this socket, or TLS over it, whose data passes this socket by. */
  get source(): Duplex {
    return this.#source;
  }

  /** To be called with the client that this is the socket of, before it connects. */
  follow({ connection }: Client): void {
    connection.once("sslconnect", () => {
      this.#source = connection.stream;
      this.#guard(this.#source);
    });
  }

  /** As pg calls it: with a port and a host, or with the path of a socket file. */
  override connect(target: unknown, host?: unknown): this {
    if (typeof target === "number" && typeof host === "string") {
      return super.connect({ port: target, host, lookup: lookUpOnce });
    }
    if (typeof target === "string") return super.connect(target);
    throw new TypeError(`Cannot connect: expected a port and a host or a path, got ${typeof target}`);
  }

  /** It is this socket that ends, and TLS with it: pg hears of both, and those who wait for an end of this one. */
  #guard(stream: Duplex): void {
    const emit: (event: string | symbol, ...args: unknown[]) => boolean = stream.emit.bind(stream);
    stream.emit = (event: string | symbol, ...args: unknown[]) => {
      if (event === "connect" || event === "secureConnect" || event === "data") this.onLife?.();
      if (event !== "data") return emit(event, ...args);
      try {
        return emit(event, ...args);
      } catch (error) {
        this.destroy(
          new Error("the server sent something that is not the Postgres protocol", { cause: error }),
        );
        return true;
      }
    };
  }
}
