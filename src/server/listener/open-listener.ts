import { connect, createServer, type Socket } from "node:net";
import type { Clock } from "../../system/clock.ts";
import { type ListenAddress, listen } from "./listen.ts";

/** Where connections come from. Disposing of it resolves once those are closed that did not go on to another process. */
export interface Listener extends AsyncDisposable {
  /** With the port that was really taken. */
  readonly address: ListenAddress;
  /** Lets in those that have come, and from then on nobody. */
  stop(): Promise<void>;
}

/** Begins to hand over connections, one by one. Rejects with a `ListenError` if the address cannot be had. */
export type OpenListener = (accept: (socket: Socket) => void) => Promise<Listener>;

export interface ListenerOptions {
  readonly address: ListenAddress;
  readonly connectionsMax: number;
  /** Whether nothing of a connection is read here: it goes on to another process. Unset: false. */
  readonly isForOthers?: boolean;
  readonly clock: Clock;
  readonly onDrop: (reason: "too_many_connections" | "not_accepted") => void;
}

/** Listens on an address of this machine. */
export function listenOn(options: ListenerOptions): OpenListener {
  const { address: wanted, connectionsMax, isForOthers = false, clock, onDrop } = options;
  return async (accept) => {
    const server = createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, pauseOnConnect: isForOthers },
      accept,
    );
    server.maxConnections = connectionsMax;
    server.on("drop", () => onDrop("too_many_connections"));
    const address = await listen(server, wanted);
    // Unheard, an error such as "too many open files" would end the process.
    server.on("error", () => onDrop("not_accepted"));
    let closed: Promise<unknown> | undefined;
    const close = () => (closed ??= new Promise((resolve) => server.close(resolve)));
    return {
      address,
      async stop() {
        await letInWaiting(address, clock);
        void close();
      },
      async [Symbol.asyncDispose]() {
        const all = close();
        if (!isForOthers) await all;
      },
    };
  };
}

const LET_IN_MAX_MS = 1_000;

/**
 * Node lets in one connection a turn, in the order in which they came, and closing the listener resets those that
 * still wait. Comes as one more, and resolves once that one has been let in and has left.
 */
async function letInWaiting(address: ListenAddress, clock: Clock): Promise<void> {
  const last = address.kind === "unix" ? connect(address.path) : connect(address.port, address.host);
  const left = new AbortController();
  last.on("error", () => {});
  last.once("connect", () => last.end());
  last.once("close", () => left.abort());
  last.resume();
  await clock.sleep(LET_IN_MAX_MS, left.signal).catch(() => {});
  last.destroy();
}
