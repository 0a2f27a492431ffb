import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { listen } from "./listen.ts";

/** What a client gets who has sent a request, or a part of it. */
export type Hostility = (client: Socket) => void;

/** Stands before a server that speaks HTTP/1.1, and passes everything on until it turns hostile. */
export interface HostileFront extends AsyncDisposable {
  readonly port: number;
  /** What has arrived from clients while it was hostile, by the piece. */
  readonly victimCount: number;
  /** From now on, on connections that are open as well, this is all that clients get. */
  turn(hostility: Hostility): void;
  /** Passes everything on again. Connections that got something else are reset. */
  relent(): void;
}

/** Listens on a free loopback port. */
export async function openHostileFront(target: number): Promise<HostileFront> {
  const clients = new Set<Socket>();
  const victims = new Set<Socket>();
  let hostility: Hostility | undefined;
  let victimCount = 0;

  const server = createServer((client) => {
    clients.add(client);
    const upstream = connect(target, "127.0.0.1");
    client.on("data", (bytes) => {
      if (hostility === undefined) {
        upstream.write(bytes);
        return;
      }
      victimCount += 1;
      victims.add(client);
      hostility(client);
    });
    upstream.on("data", (bytes) => {
      if (!victims.has(client)) client.write(bytes);
    });
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.on("error", () => {});
      one.on("close", () => other.destroy());
    }
    client.once("close", () => {
      clients.delete(client);
      victims.delete(client);
    });
  });

  return {
    port: await listen(server),
    get victimCount() {
      return victimCount;
    },
    turn(next) {
      hostility = next;
    },
    relent() {
      hostility = undefined;
      for (const victim of victims) victim.resetAndDestroy();
    },
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** Sends this, once for each piece that arrives. */
export function says(...parts: readonly (string | Uint8Array)[]): Hostility {
  const bytes = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return (client) => void client.write(bytes);
}

/** Sends this, and hangs up. */
export function ends(...parts: readonly (string | Uint8Array)[]): Hostility {
  const say = says(...parts);
  return (client) => {
    say(client);
    client.end();
  };
}

/** Sends this, and then one byte after the other of what comes next, a second apart. */
export function drips(head: string, rest: string): Hostility {
  const dripping = new WeakSet<Socket>();
  return (client) => {
    if (dripping.has(client)) return;
    dripping.add(client);
    client.write(head);
    let sent = 0;
    const drip = setInterval(() => client.write(rest.charAt(sent++ % rest.length)), 1_000);
    client.once("close", () => clearInterval(drip));
  };
}

/** Sends this, and then so many bytes in pieces of this kind, as fast as the client takes them. */
export function pours(head: string, piece: Uint8Array, totalBytes: number): Hostility {
  return (client) => {
    let left = totalBytes;
    client.write(head);
    const pour = () => {
      while (left > 0 && !client.destroyed) {
        left -= piece.length;
        if (!client.write(piece)) return;
      }
      client.off("drain", pour);
    };
    client.on("drain", pour);
    pour();
  };
}
