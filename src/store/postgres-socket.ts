import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Client } from "pg";
import { lookUpOnce } from "../system/look-up-once.ts";

/** What is read in one turn of the event loop before others have theirs: Node alone would read two megabytes. */
const BYTES_A_TURN = 65_536;

/**
 * A socket for pg that survives nonsense from the other side, and holds nobody up with however much comes from there.
 *
 * pg reads the protocol inside the stream's "data" event, where an exception over a malformed message would
 * end the whole process. Here it ends the connection, as any other failure of it does.
 */
export class PostgresSocket extends Socket {
  constructor() {
    super();
    this.#guard(this);
  }

  /** To be called with the client that this is the socket of, before it connects. */
  follow({ connection }: Client): void {
    // What pg reads the protocol from then is TLS over this socket, whose data passes this socket by.
    connection.once("sslconnect", () => this.#guard(connection.stream));
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
    let bytesThisTurn = 0;
    stream.emit = (event: string | symbol, ...args: unknown[]) => {
      if (event !== "data") return emit(event, ...args);
      if (bytesThisTurn === 0) {
        setImmediate(() => {
          bytesThisTurn = 0;
          stream.resume();
        });
      }
      const [chunk] = args;
      bytesThisTurn += chunk instanceof Uint8Array ? chunk.length : 0;
      if (bytesThisTurn >= BYTES_A_TURN) stream.pause();
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
