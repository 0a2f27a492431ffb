import { createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { listen } from "../../test/support/listen.ts";
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

test("a message that breaks off in the middle ends the connection, and not the process", async () => {
  // An authentication request without saying which.
  using parrot = await openParrot(Buffer.from("5200000004", "hex"));
  const url = `postgres://me:secret@localhost:${parrot.port}/db`;
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
  for (const call of calls) await expect(call).rejects.toThrow(StoreError);
});
