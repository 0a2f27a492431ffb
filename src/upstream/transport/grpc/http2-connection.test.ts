import { once } from "node:events";
import {
  constants,
  createServer,
  type Http2Session,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { eventually } from "../../../../test/support/eventually.ts";
import { FakeClock } from "../../../../test/support/fake-clock.ts";
import { listen } from "../../../../test/support/listen.ts";
import { openTcpProxy } from "../../../../test/support/tcp-proxy.ts";
import { Http2Connection } from "./http2-connection.ts";

test("is gone with its last call after a goodbye, though the other side does not close it", async () => {
  await using scene = await openScene();
  const { connection, streams, sessions, proxy } = scene;
  const call = connection.begin({ ":path": "/" });
  await eventually(() => streams.length === 1);
  sessions[0]?.goaway(constants.NGHTTP2_NO_ERROR, streams[0]?.id);
  await eventually(() => !connection.takesCalls);
  expect(connection.begin({ ":path": "/" })).toBeUndefined();
  expect(connection.socket.destroyed).toBe(false);

  proxy.drop();
  call?.stream.close(constants.NGHTTP2_CANCEL);
  connection.end("failed");
  await eventually(() => scene.closed === 1);
  expect(connection.socket.destroyed).toBe(true);
});

test("takes no more calls before it has run out of numbers for them", async () => {
  await using scene = await openScene();
  const { connection, streams } = scene;
  const first = connection.begin({ ":path": "/" });
  await eventually(() => streams.length === 1);
  expect(connection.takesCalls).toBe(true);
  // Node has it, its types do not.
  (first?.stream.session as Numbered | undefined)?.setNextStreamID(2 ** 30 + 1);
  const last = connection.begin({ ":path": "/" });
  expect(last?.stream.id).toBe(2 ** 30 + 1);
  expect(connection.takesCalls).toBe(false);
  await eventually(() => streams.length === 2);
});

type Numbered = Http2Session & { setNextStreamID(id: number): void };

async function openScene() {
  const streams: ServerHttp2Stream[] = [];
  const sessions: ServerHttp2Session[] = [];
  const server = createServer()
    .on("session", (session) => void sessions.push(session.on("error", () => {})))
    .on("stream", (stream) => void streams.push(stream.on("error", () => {})));
  const proxy = await openTcpProxy(await listen(server));
  let closed = 0;
  const connection = new Http2Connection({
    socket: connect(proxy.port, "127.0.0.1").on("error", () => {}),
    authority: "localhost",
    idleTimeoutMs: 0,
    keepAliveMs: 0,
    clock: new FakeClock(),
    onClosed: () => {
      closed += 1;
    },
  });
  return {
    connection,
    streams,
    sessions,
    proxy,
    get closed() {
      return closed;
    },
    async [Symbol.asyncDispose]() {
      connection.close();
      await proxy[Symbol.asyncDispose]();
      for (const session of sessions) session.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
