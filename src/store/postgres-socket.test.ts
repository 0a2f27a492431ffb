import { createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { listen } from "../../test/support/listen.ts";
import { openTlsFront } from "../../test/support/tls-front.ts";
import { systemClock } from "../system/clock.ts";
import { connectDatabase, DatabaseUnreachableError } from "./database.ts";
import { StoreError } from "./flag-store.ts";
import { openPostgresStore } from "./postgres-store.ts";

/** Says the same to everybody. */
async function openParrot(words: Buffer) {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.write(words);
  });
  return {
    port: await listen(server),
    [Symbol.dispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

test.each(["plainly", "over TLS"])(
  "a message that breaks off in the middle ends the connection, and not the process: %s",
  async (how) => {
    // An authentication request without saying which.
    using parrot = await openParrot(Buffer.from("5200000004", "hex"));
    await using front = await openTlsFront({ port: parrot.port, certificate: "server", isAskedFor: true });
    const url =
      how === "plainly"
        ? `postgres://me:secret@localhost:${parrot.port}/db`
        : `postgres://me:secret@localhost:${front.port}/db?sslmode=no-verify`;
    const connecting = connectDatabase({ url });
    await expect(connecting).rejects.toThrow(DatabaseUnreachableError);
    await expect(connecting).rejects.toThrow("the server sent something that is not the Postgres protocol");

    await using store = openPostgresStore({
      url,
      poolSize: 2,
      preparedStatements: "auto",
      fetchTimeoutMs: 5_000,
      clock: systemClock,
    });
    const calls = Array.from({ length: 5 }, () => store.kills(undefined));
    await Promise.all(calls.map((call) => expect(call).rejects.toThrow(StoreError)));
  },
);
