import { createServer, Socket } from "node:net";
import { Client } from "pg";
import { listen } from "./listen.ts";

/** What stands between many clients and few sessions, as PgBouncer does in transaction mode. */
export interface Pooler extends AsyncDisposable {
  readonly port: number;
}

const AUTHENTICATED = Buffer.from("520000000800000000", "hex");
const READY = Buffer.from("5a0000000549", "hex");
const SYNC = "S".charCodeAt(0);
const QUERY = "Q".charCodeAt(0);
const READY_FOR_QUERY = "Z".charCodeAt(0);

/**
 * A pooler that gives every transaction to the next of two sessions, so that whatever one transaction prepared
 * is missing in the next; and that refuses every setting at the start of a session which it does not know.
 */
export async function openPooler(url: string): Promise<Pooler> {
  const sessions = await Promise.all([openSession(url), openSession(url)]);
  const clients = new Set<Socket>();
  let turn = 0;
  const server = createServer((client) => {
    clients.add(client);
    client.on("error", () => {});
    client.on("close", () => clients.delete(client));
    let greeted = false;
    let batch: Buffer[] = [];
    readMessages(
      client,
      () => greeted,
      (message) => {
        if (!greeted) {
          const refused = /\0(statement_timeout)\0/.exec(message.toString("latin1"))?.[1];
          if (refused !== undefined)
            client.end(toError("08P01", `unsupported startup parameter: ${refused}`));
          else client.write(Buffer.concat([AUTHENTICATED, READY]));
          greeted = refused === undefined;
          return;
        }
        batch.push(message);
        if (message[0] !== SYNC && message[0] !== QUERY) return;
        const session = sessions[turn++ % sessions.length];
        const transaction = Buffer.concat(batch);
        batch = [];
        session?.run(transaction, (answer) => client.write(answer));
      },
    );
  });
  return {
    port: await listen(server),
    async [Symbol.asyncDispose]() {
      server.close();
      for (const client of clients) client.destroy();
      for (const session of sessions) session.close();
    },
  };
}

/** A session with the server, used raw once pg has logged it in. One transaction at a time. */
async function openSession(url: string) {
  const socket = new Socket();
  const client = new Client({ connectionString: url, stream: () => socket });
  client.on("error", () => {});
  await client.connect();
  socket.removeAllListeners("data");
  const queue: { readonly transaction: Buffer; readonly reply: (answer: Buffer) => void }[] = [];
  const sendNext = () => {
    if (queue[0] !== undefined) socket.write(queue[0].transaction);
  };
  readMessages(
    socket,
    () => true,
    (message) => {
      queue[0]?.reply(message);
      if (message[0] !== READY_FOR_QUERY) return;
      queue.shift();
      sendNext();
    },
  );
  return {
    run(transaction: Buffer, reply: (answer: Buffer) => void) {
      queue.push({ transaction, reply });
      if (queue.length === 1) sendNext();
    },
    close: () => {
      socket.destroy();
    },
  };
}

/** Cuts what comes in into the protocol's messages. The first of a client has no type before its length. */
function readMessages(socket: Socket, isTyped: () => boolean, onMessage: (message: Buffer) => void): void {
  let rest = Buffer.alloc(0);
  socket.on("data", (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes]);
    for (;;) {
      const head = isTyped() ? 1 : 0;
      if (rest.length < head + 4) return;
      const length = head + rest.readUInt32BE(head);
      if (rest.length < length) return;
      const message = rest.subarray(0, length);
      rest = rest.subarray(length);
      onMessage(message);
    }
  });
}

function toError(code: string, text: string): Buffer {
  const fields = Buffer.from(`SFATAL\0VFATAL\0C${code}\0M${text}\0\0`);
  const head = Buffer.alloc(5);
  head.write("E");
  head.writeUInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}
