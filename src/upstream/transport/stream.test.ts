import { once } from "node:events";
import { createServer as createHttpServer, type ServerResponse } from "node:http";
import { constants, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { type CollectedStream, collectStream } from "../../../test/support/collect-stream.ts";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { listen } from "../../../test/support/listen.ts";
import { openTcpProxy } from "../../../test/support/tcp-proxy.ts";
import { type WatchResponse, WatchResponseSchema, WatchService } from "../../gen/pbflagd/v1/watch_pb.ts";
import type { ConnectionSettings } from "../upstream-settings.ts";
import { withDeadline } from "./deadline.ts";
import { toEnvelope } from "./envelopes.ts";
import { openTransport } from "./open-transport.ts";
import type { Transport } from "./transport.ts";

const { watch } = WatchService.method;
const PROTOCOLS = ["http", "grpc"] as const;
type Protocol = (typeof PROTOCOLS)[number];

function message(ageMs: number): Uint8Array {
  return toEnvelope(toBinary(WatchResponseSchema, create(WatchResponseSchema, { ageMs: BigInt(ageMs) })));
}

/** What a played upstream may do with a stream, whatever it speaks. */
interface Speaker {
  readonly headers: Readonly<Record<string, unknown>>;
  begin(): void;
  write(bytes: Uint8Array): void;
  end(error?: { readonly code: number; readonly name: string; readonly words: string }): void;
  /** Without the end that the protocol has. */
  endAbruptly(): void;
  /** Something that is not of the protocol. */
  answer(status: number, contentType: string, body: string): void;
  /** Closes the connection. */
  hangUp(): void;
  readonly socket: Socket;
  /** Undefined: HTTP/1.1 has none. */
  readonly http2: ServerHttp2Stream | undefined;
}

describe.each(PROTOCOLS)("%s", (protocol) => {
  test("asks as the protocol wants it, without a time limit, and gets the messages one by one", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(1));
    expect((await stream.at(0)).ageMs).toBe(1n);
    speaker.write(Buffer.concat([message(2), message(3)]));
    expect((await stream.at(2)).ageMs).toBe(3n);
    expect(stream.end).toBeUndefined();
    speaker.end();
    expect(await stream.ended).toBeUndefined();
    const { "content-type": type, "connect-timeout-ms": connect, "grpc-timeout": grpc } = speaker.headers;
    expect([type, connect, grpc]).toEqual([
      protocol === "grpc" ? "application/grpc+proto" : "application/connect+proto",
      undefined,
      undefined,
    ]);
    expect(Buffer.from(upstream.body)).toEqual(Buffer.from([0, 0, 0, 0, 2, 16, 1]));
    await eventually(() => upstream.connectionCount === 0);
  });

  test("puts a message together that comes a byte at a time", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    for (const byte of Buffer.concat([message(300), message(70_000)])) {
      speaker.write(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await stream.at(1)).ageMs).toBe(70_000n);
  });

  test("tells the error with which the upstream ends a stream", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(1));
    speaker.end({ code: 8, name: "resource_exhausted", words: "too many followers" });
    expect(await stream.ended).toMatchObject({
      code: "resource_exhausted",
      answered: true,
      message: `${upstream.url} answered resource_exhausted: too many followers`,
    });
    expect(stream.messages).toHaveLength(1);
  });

  test("one that knows no such method is told by its answer", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    (await upstream.speaker()).answer(404, "text/plain", "404 page not found");
    expect(await stream.ended).toMatchObject({ code: "unimplemented", answered: false });
  });

  test("one that answers something else without end is not listened to", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.answer(200, "text/html", "x".repeat(9 * 1024 * 1024));
    expect(await stream.ended).toMatchObject({ code: "answer" });
    await eventually(() => upstream.connectionCount === 0);
  });

  test.each<[string, Uint8Array, string]>([
    [
      "compressed without having been asked to be",
      Uint8Array.of(1, 0, 0, 0, 1, 0),
      "a message with the flags 1",
    ],
    ["longer than any that makes sense", Uint8Array.of(0, 1, 0, 0, 0), "at most 8388608 bytes, got more"],
    [
      "of another kind",
      toEnvelope(Uint8Array.of(0xff, 0xff)),
      "must be a pbflagd.v1.WatchResponse, got 2 other bytes",
    ],
  ])("a message that is %s ends the stream", async (_, bytes, reason) => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(bytes);
    const error = await stream.ended;
    expect(error).toMatchObject({ name: "UpstreamError", code: "answer" });
    expect(String(error)).toContain(reason);
    await eventually(() => upstream.connectionCount === 0);
  });

  test.each(["reset", "closed"] as const)(
    "a connection that is %s ends the stream with the reason",
    async (how) => {
      await using upstream = await serve(protocol);
      await using client = openClient(upstream.url);
      await using stream = follow(client);
      const speaker = await upstream.speaker();
      speaker.begin();
      speaker.write(message(1));
      await stream.at(0);
      if (how === "reset") speaker.socket.resetAndDestroy();
      else speaker.hangUp();
      expect(await stream.ended).toMatchObject({
        code: "connection",
        message: expect.stringContaining(`Cannot reach ${upstream.url}: `),
      });
    },
  );

  test("a stream without the protocol's end has not ended in order", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(1));
    speaker.endAbruptly();
    expect(await stream.ended).toMatchObject({ name: "UpstreamError" });
  });

  test("an upstream that is not there is named with the reason", async () => {
    const url = `${protocol}://127.0.0.1:${await freePort()}`;
    await using client = openClient(url);
    await using stream = follow(client);
    expect(await stream.ended).toMatchObject({
      code: "connection",
      message: expect.stringContaining(`Cannot reach ${url}: `),
    });
  });

  test("ends with the reason of the signal, and closes its connection, however silent the other side is", async () => {
    await using upstream = await serve(protocol);
    await using proxy = await openTcpProxy(upstream.port);
    await using client = openClient(`${protocol}://127.0.0.1:${proxy.port}`);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(1));
    await stream.at(0);
    proxy.drop();
    stream.leave();
    expect(await stream.ended).toMatchObject({ message: "left" });
    await eventually(() => proxy.connectionCount === 0);
  });

  test("takes no connection away from calls", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url, { connectionsMax: 1 });
    const streams = [follow(client), follow(client)];
    for (const stream of streams) {
      const speaker = await upstream.speaker();
      speaker.begin();
      speaker.write(message(1));
      await stream.at(0);
    }
    const answer = await withDeadline({ timeoutMs: 500, clock: new FakeClock() }, (deadline) =>
      client.call({ ...watch, name: "Unary" }, {}, deadline),
    );
    expect(answer.ageMs).toBe(7n);
    expect(upstream.connectionsEver).toBe(3);
    for (const stream of streams) await stream[Symbol.asyncDispose]();
  });

  test("ends with the transport, which then opens no other", async () => {
    await using upstream = await serve(protocol);
    const client = openClient(upstream.url);
    const stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(1));
    await stream.at(0);
    await client[Symbol.asyncDispose]();
    const closed = { code: "connection", message: expect.stringContaining("is closed for good") };
    expect(await stream.ended).toMatchObject(closed);
    expect(await follow(client).ended).toMatchObject(closed);
    await eventually(() => upstream.connectionCount === 0);
  });

  test("a reader that stops ends the call", async () => {
    await using upstream = await serve(protocol);
    await using client = openClient(upstream.url);
    const reading = (async () => {
      for await (const { ageMs } of client.stream(watch, {}, new AbortController().signal)) return ageMs;
      return undefined;
    })();
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(5));
    expect(await reading).toBe(5n);
    await eventually(() => upstream.connectionCount === 0);
  });
});

test("a stream goes on after GOAWAY until its upstream ends it", async () => {
  await using upstream = await serve("grpc");
  await using client = openClient(upstream.url);
  await using stream = follow(client);
  const speaker = await upstream.speaker();
  speaker.begin();
  speaker.write(message(1));
  await stream.at(0);
  const id = speaker.http2?.id ?? 0;
  speaker.http2?.session?.goaway(constants.NGHTTP2_NO_ERROR, id);
  speaker.write(message(2));
  expect((await stream.at(1)).ageMs).toBe(2n);
  speaker.end();
  expect(await stream.ended).toBeUndefined();
});

test.each([
  ["refuses it", constants.NGHTTP2_REFUSED_STREAM, "unavailable"],
  ["is annoyed", constants.NGHTTP2_ENHANCE_YOUR_CALM, "resource_exhausted"],
])(
  "an HTTP/2 stream that is reset because the upstream %s has that as its reason",
  async (_, code, expected) => {
    await using upstream = await serve("grpc");
    await using client = openClient(upstream.url);
    await using stream = follow(client);
    const speaker = await upstream.speaker();
    speaker.begin();
    speaker.write(message(1));
    await stream.at(0);
    speaker.http2?.close(code);
    expect(await stream.ended).toMatchObject({ code: expected });
  },
);

test("a peer that says nothing is pinged, and the stream ends if it does not answer", async () => {
  const clock = new FakeClock();
  await using upstream = await serve("grpc");
  await using proxy = await openTcpProxy(upstream.port);
  await using client = openClient(`grpc://127.0.0.1:${proxy.port}`, { keepAliveMs: 1_000 }, clock);
  await using stream = follow(client);
  const speaker = await upstream.speaker();
  speaker.begin();
  speaker.write(message(1));
  await stream.at(0);
  await clock.advance(5_000);
  expect(stream.end).toBeUndefined();
  proxy.drop();
  await clock.advance(5_000);
  expect(await stream.ended).toMatchObject({
    code: "connection",
    message: expect.stringContaining("it did not answer a ping"),
  });
});

function follow(client: Transport): CollectedStream<WatchResponse> {
  return collectStream(client, watch, { omitKills: true });
}

function openClient(
  url: string,
  connection: Partial<ConnectionSettings> = {},
  clock = new FakeClock(),
): Transport {
  const settings = upstreamSettings({ name: "a", url });
  return openTransport({
    settings: { ...settings, connection: { ...settings.connection, ...connection } },
    clock,
  });
}

async function freePort(): Promise<number> {
  const server = createTcpServer();
  const port = await listen(server);
  server.close();
  await once(server, "close");
  return port;
}

/** An upstream whose streams a test speaks in. Calls named `Unary` are answered at once. */
async function serve(protocol: Protocol) {
  const speakers: Speaker[] = [];
  const body: number[] = [];
  let taken = 0;
  const server: Server =
    protocol === "http"
      ? createHttpServer((request, response) => {
          request.on("data", (chunk: Buffer) => body.push(...chunk));
          if (request.url?.endsWith("/Unary"))
            response.writeHead(200, { "content-type": "application/proto" }).end(message(7).subarray(5));
          else speakers.push(speakConnect(request.headers, response, request.socket));
        })
      : createHttp2Server().on("stream", (stream, headers) => {
          stream.on("error", () => {});
          stream.on("data", (chunk: Buffer) => body.push(...chunk));
          const speaker = speakGrpc(headers, stream);
          if (headers[":path"]?.endsWith("/Unary")) {
            speaker.begin();
            speaker.write(message(7));
            speaker.end();
          } else speakers.push(speaker);
        });
  const sockets = new Set<Socket>();
  let connectionsEver = 0;
  server.on("connection", (socket: Socket) => {
    connectionsEver += 1;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("session", (session) => session.on("error", () => {}));
  const port = await listen(server);
  return {
    url: `${protocol}://127.0.0.1:${port}`,
    port,
    /** Of all requests. */
    body,
    get connectionCount() {
      return sockets.size;
    },
    get connectionsEver() {
      return connectionsEver;
    },
    /** The next stream that was asked for. */
    async speaker(): Promise<Speaker> {
      await eventually(() => speakers.length > taken);
      const speaker = speakers[taken];
      if (speaker === undefined) throw new Error("there is none");
      taken += 1;
      return speaker;
    },
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}

function speakConnect(headers: Speaker["headers"], response: ServerResponse, socket: Socket): Speaker {
  return {
    headers,
    socket,
    http2: undefined,
    begin: () => void response.writeHead(200, { "content-type": "application/connect+proto" }),
    write: (bytes) => void response.write(bytes),
    end(error) {
      const end = error === undefined ? {} : { error: { code: error.name, message: error.words } };
      const envelope = toEnvelope(Buffer.from(JSON.stringify(end)));
      envelope[0] = 2;
      response.end(envelope);
    },
    endAbruptly: () => void response.end(),
    answer: (status, type, text) => void response.writeHead(status, { "content-type": type }).end(text),
    hangUp: () => void socket.end(),
  };
}

function speakGrpc(headers: Speaker["headers"], stream: ServerHttp2Stream): Speaker {
  let trailers: Record<string, string> = { "grpc-status": "0" };
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  return {
    headers,
    socket: (stream.session as unknown as { socket: Socket }).socket,
    http2: stream,
    begin: () => stream.respond({ "content-type": "application/grpc+proto" }, { waitForTrailers: true }),
    write: (bytes) => void stream.write(bytes),
    end(error) {
      if (error !== undefined)
        trailers = { "grpc-status": String(error.code), "grpc-message": encodeURI(error.words) };
      stream.end();
    },
    endAbruptly() {
      trailers = {};
      stream.end();
    },
    answer(status, type, text) {
      stream.respond({ ":status": status, "content-type": type });
      stream.end(text);
    },
    hangUp: () => stream.session?.destroy(),
  };
}
