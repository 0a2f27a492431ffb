import { Socket } from "node:net";
import { lookUpOnce } from "../system/look-up-once.ts";

/**
 * A socket for pg that survives nonsense from the other side.
 *
 * pg reads the protocol inside the socket's "data" event, where an exception over a malformed message would
 * end the whole process. Here it ends the connection, as any other failure of it does.
 */
export class PostgresSocket extends Socket {
  /** As pg calls it: with a port and a host, or with the path of a socket file. */
  override connect(target: unknown, host?: unknown): this {
    if (typeof target === "number" && typeof host === "string") {
      return super.connect({ port: target, host, lookup: lookUpOnce });
    }
    if (typeof target === "string") return super.connect(target);
    throw new TypeError(`Cannot connect: expected a port and a host or a path, got ${typeof target}`);
  }

  override emit(event: string | symbol, ...args: unknown[]): boolean {
    if (event !== "data") return super.emit(event, ...args);
    try {
      return super.emit(event, ...args);
    } catch (error) {
      this.destroy(
        new Error("the server sent something that is not the Postgres protocol", { cause: error }),
      );
      return true;
    }
  }
}
