import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { listen } from "./listen.ts";

/** A way to a server that a test can break. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** Connections that clients have open right now. */
  readonly connectionCount: number;
  /** Resets every connection, and every new one. */
  cut(): void;
  /** As `drop`, but only what goes over connections on which a client has said `words`, before or after. */
  dropWhere(words: string): void;
  /** Loses what either side sends, and how it ends; new connections are accepted and hear nothing. */
  drop(): void;
  /** Holds everything up, each way, by so many milliseconds. */
  slow(ms: number): void;
  /** Sends clients nonsense, at once and in place of every answer. */
  garble(): void;
  /** Works again. Connections that lost something meanwhile are reset: nobody can make sense of their rest. */
  restore(): void;
}

type Mode =
  | { readonly kind: "pass" | "cut" | "drop" | "garble" }
  | { readonly kind: "drop where"; readonly words: string }
  | { readonly kind: "slow"; readonly delayMs: number };

/** Listens on a free loopback port and passes everything on. */
export async function openTcpProxy(
  target: number | { readonly host: string; readonly port: number },
): Promise<TcpProxy> {
  const to = typeof target === "number" ? { host: "127.0.0.1", port: target } : target;
  const links = new Set<Link>();
  /** Those that have not hung up, whether or not that could be passed on. */
  const clients = new Set<Socket>();
  let mode: Mode = { kind: "pass" };

  // Half open: an end is one more thing to pass on, late or never.
  const server = createServer({ allowHalfOpen: true }, (client) => {
    if (mode.kind === "cut") {
      client.on("error", () => {});
      client.resetAndDestroy();
      return;
    }
    const upstream = connect({ ...to, allowHalfOpen: true });
    const link = new Link(client, upstream, () => mode);
    links.add(link);
    clients.add(client);
    for (const event of ["end", "close"]) client.once(event, () => clients.delete(client));
    client.once("close", () => links.delete(link));
  });
  const port = await listen(server);
  const resetAll = () => {
    for (const link of links) link.reset();
  };

  return {
    port,
    get connectionCount() {
      return clients.size;
    },
    cut() {
      mode = { kind: "cut" };
      resetAll();
    },
    drop() {
      mode = { kind: "drop" };
    },
    dropWhere(words) {
      mode = { kind: "drop where", words };
    },
    slow(ms) {
      mode = { kind: "slow", delayMs: ms };
    },
    garble() {
      mode = { kind: "garble" };
      for (const link of links) link.client.write(garbage(Buffer.alloc(64)));
    },
    restore() {
      mode = { kind: "pass" };
      for (const link of links) if (link.isBroken) link.reset();
    },
    async [Symbol.asyncDispose]() {
      mode = { kind: "cut" };
      resetAll();
      server.close();
      await once(server, "close");
    },
  };
}

/** Words are not looked for across the edges of these. */
const CHUNKS_REMEMBERED_MAX = 16;

/** A client's connection and ours to the server. */
class Link {
  /** Something was lost or falsified on the way. */
  isBroken = false;
  readonly client: Socket;
  readonly #upstream: Socket;
  readonly #mode: () => Mode;
  /** By the client, each a chunk. */
  readonly #said: string[] = [];

  constructor(client: Socket, upstream: Socket, mode: () => Mode) {
    this.client = client;
    this.#upstream = upstream;
    this.#mode = mode;
    client.on("data", (bytes) => this.#remember(bytes));
    this.#pass(client, upstream, (bytes) => bytes);
    this.#pass(upstream, client, (bytes) => (mode().kind === "garble" ? garbage(bytes) : bytes));
  }

  reset(): void {
    this.client.resetAndDestroy();
    this.#upstream.resetAndDestroy();
  }

  #remember(bytes: Buffer): void {
    this.#said.push(bytes.toString("latin1"));
    if (this.#said.length > CHUNKS_REMEMBERED_MAX) this.#said.shift();
  }

  #pass(from: Socket, to: Socket, change: (bytes: Buffer) => Buffer): void {
    from.setNoDelay(true);
    from.on("data", (bytes) => this.#deliver(() => to.write(change(bytes))));
    from.on("end", () => this.#deliver(() => to.end()));
    from.on("error", () => this.#deliver(() => to.resetAndDestroy()));
    // Both ends seen, or our own reset: nothing more can come of the other side.
    from.on("close", () => this.#deliver(() => to.destroySoon()));
  }

  #deliver(send: () => void): void {
    const mode = this.#mode();
    const isLost =
      mode.kind === "drop" ||
      (mode.kind === "drop where" && this.#said.some((chunk) => chunk.includes(mode.words)));
    if (mode.kind === "garble" || isLost) this.isBroken = true;
    if (isLost) return;
    if (mode.kind === "slow") setTimeout(send, mode.delayMs);
    else send();
  }
}

/** Of the same length, and the same for the same bytes: a failure can be repeated. */
function garbage(bytes: Buffer): Buffer {
  return Buffer.from(bytes.map((byte, i) => (byte * 31 + i * 17 + 0xa5) & 0xff));
}
