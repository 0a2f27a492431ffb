import { lookup } from "node:dns";
import { type LookupFunction, Socket } from "node:net";

type LookupCallback = Parameters<LookupFunction>[2];

/** Look-ups under way, and who waits for them. */
const lookups = new Map<string, LookupCallback[]>();

/**
 * Looks a host up once for all who ask meanwhile. A look-up that hangs cannot be stopped and holds one of the
 * few threads that also read files; giving up on connections must not pile them up.
 */
const lookUpOnce: LookupFunction = (hostname, options, callback) => {
  const key = JSON.stringify([hostname, options.family, options.all, options.hints]);
  const waiting = lookups.get(key);
  if (waiting !== undefined) {
    waiting.push(callback);
    return;
  }
  const callbacks = [callback];
  lookups.set(key, callbacks);
  lookup(hostname, options, (error, address, family) => {
    lookups.delete(key);
    for (const tell of callbacks) tell(error, address, family);
  });
};

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
