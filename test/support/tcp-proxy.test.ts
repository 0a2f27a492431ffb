import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { expect, test } from "vitest";
import { eventually } from "./eventually.ts";
import { listen } from "./listen.ts";
import { openTcpProxy } from "./tcp-proxy.ts";

/** Says back whatever it hears, in capitals. */
async function openEcho() {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (bytes) => socket.write(bytes.toString().toUpperCase()));
  });
  return {
    port: await listen(server),
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}

/** A client that notes what it hears and how it ends. */
function openTalk(port: number) {
  const socket = connect(port, "127.0.0.1");
  let heard = "";
  let ended: string | undefined;
  socket.on("data", (bytes) => {
    heard += bytes.toString("latin1");
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    ended = error.code;
  });
  socket.on("close", () => {
    ended ??= "closed";
  });
  return {
    say: (text: string) => socket.write(text),
    hangUp: () => socket.end(),
    heard: () => heard,
    ended: () => ended,
    [Symbol.dispose]: () => socket.destroy(),
  };
}

test("passes both ways, and an end as well", async () => {
  await using echo = await openEcho();
  await using proxy = await openTcpProxy(echo.port);
  using talk = openTalk(proxy.port);
  talk.say("hello");
  await eventually(() => talk.heard() === "HELLO");
  expect(proxy.connectionCount).toBe(1);
  talk.hangUp();
  await eventually(() => talk.ended() === "closed");
  await eventually(() => proxy.connectionCount === 0 && echo.sockets.size === 0);
});

test("cut resets open connections and new ones, until restored", async () => {
  await using echo = await openEcho();
  await using proxy = await openTcpProxy(echo.port);
  using before = openTalk(proxy.port);
  before.say("a");
  await eventually(() => before.heard() === "A");
  proxy.cut();
  await eventually(() => before.ended() === "ECONNRESET");
  using during = openTalk(proxy.port);
  await eventually(() => during.ended() !== undefined);
  await eventually(() => echo.sockets.size === 0);
  proxy.restore();
  using after = openTalk(proxy.port);
  after.say("b");
  await eventually(() => after.heard() === "B");
  expect(proxy.connectionCount).toBe(1);
});

test("drop loses everything while connections stay open; what was torn is reset when it ends", async () => {
  await using echo = await openEcho();
  await using proxy = await openTcpProxy(echo.port);
  using torn = openTalk(proxy.port);
  using quiet = openTalk(proxy.port);
  for (const talk of [torn, quiet]) talk.say("a");
  await eventually(() => torn.heard() === "A" && quiet.heard() === "A");
  proxy.drop();
  torn.say("b");
  using late = openTalk(proxy.port);
  late.say("c");
  // Something that did get through, to know that these would have.
  await using other = await openTcpProxy(echo.port);
  using witness = openTalk(other.port);
  witness.say("w");
  await eventually(() => witness.heard() === "W");
  expect([torn.heard(), late.heard(), torn.ended(), late.ended()]).toEqual(["A", "", undefined, undefined]);
  proxy.restore();
  await eventually(() => torn.ended() === "ECONNRESET" && late.ended() === "ECONNRESET");
  quiet.say("d");
  await eventually(() => quiet.heard() === "AD");
});

test("dropWhere loses only what goes over connections on which certain words were said", async () => {
  await using echo = await openEcho();
  await using proxy = await openTcpProxy(echo.port);
  using torn = openTalk(proxy.port);
  using other = openTalk(proxy.port);
  torn.say("please watch this");
  other.say("a");
  await eventually(() => torn.heard() === "PLEASE WATCH THIS" && other.heard() === "A");
  proxy.dropWhere("watch");
  torn.say("b");
  using late = openTalk(proxy.port);
  late.say("watch");
  other.say("c");
  await eventually(() => other.heard() === "AC");
  expect([torn.heard(), late.heard(), torn.ended(), late.ended()]).toEqual([
    "PLEASE WATCH THIS",
    "",
    undefined,
    undefined,
  ]);
  proxy.restore();
  await eventually(() => torn.ended() === "ECONNRESET" && late.ended() === "ECONNRESET");
  other.say("d");
  await eventually(() => other.heard() === "ACD");
});

test("slow holds everything up and keeps its order", async () => {
  await using echo = await openEcho();
  await using proxy = await openTcpProxy(echo.port);
  proxy.slow(60);
  using talk = openTalk(proxy.port);
  const startedAt = performance.now();
  talk.say("one ");
  talk.say("two");
  await eventually(() => talk.heard() === "ONE TWO");
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(118);
});

test("garble sends nonsense at once and instead of answers", async () => {
  await using echo = await openEcho();
  await using proxy = await openTcpProxy(echo.port);
  using talk = openTalk(proxy.port);
  talk.say("a");
  await eventually(() => talk.heard() === "A");
  proxy.garble();
  await eventually(() => talk.heard().length === 65);
  talk.say("hello");
  await eventually(() => talk.heard().length === 70);
  expect(talk.heard()).not.toContain("HELLO");
});
