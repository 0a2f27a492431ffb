import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import {
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Server as GrpcServer, status as grpcStatus, ServerCredentials } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { eventually } from "../../../../test/support/eventually.ts";
import { FakeClock, settle } from "../../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../../test/support/fake-upstream.ts";
import { listen } from "../../../../test/support/listen.ts";
import { openTcpProxy } from "../../../../test/support/tcp-proxy.ts";
import {
  FlagEvaluatorService,
  GetFlagStateRequestSchema,
  GetKilledFlagsResponseSchema,
} from "../../../gen/pbflags/v1/evaluator_pb.ts";
import type { ConnectionSettings } from "../../upstream-settings.ts";
import { DeadlineError, withDeadline } from "../deadline.ts";
import { openTransport, type TransportOptions } from "../open-transport.ts";
import type { Transport } from "../transport.ts";

const { getKilledFlags, getFlagState } = FlagEvaluatorService.method;
const MESSAGE = toBinary(
  GetKilledFlagsResponseSchema,
  create(GetKilledFlagsResponseSchema, { flagIds: ["a/1"] }),
);
const GRPC = { ":status": 200, "content-type": "application/grpc+proto" };

test("sends what gRPC wants, with the time that is left and the headers it was given", async () => {
  const seen: IncomingHttpHeaders[] = [];
  const bodies: Buffer[] = [];
  await using server = await serve((stream, headers) => {
    seen.push(headers);
    stream.on("data", (chunk: Buffer) => bodies.push(chunk));
    stream.on("end", () => answer(stream));
  });
  await using client = openClient(`${server.url}/behind/`, { headers: () => ({ traceparent: "00-1-2-01" }) });
  expect(client.target).toBe(`${server.url}/behind`);
  await expect(
    withDeadline({ timeoutMs: 500, clock: new FakeClock() }, (deadline) =>
      client.call(getFlagState, { flagId: "b/2" }, deadline),
    ),
  ).rejects.toMatchObject({ code: "answer" });
  expect(seen[0]).toMatchObject({
    ":method": "POST",
    ":path": "/behind/pbflags.v1.FlagEvaluatorService/GetFlagState",
    ":authority": server.url.slice("grpc://".length),
    "content-type": "application/grpc+proto",
    te: "trailers",
    "grpc-timeout": "500m",
    traceparent: "00-1-2-01",
  });
  expect(seen[0]).not.toHaveProperty("grpc-accept-encoding");
  const body = Buffer.concat(bodies);
  expect([body[0], body.readUInt32BE(1)]).toEqual([0, body.length - 5]);
  expect(fromBinary(GetFlagStateRequestSchema, body.subarray(5)).flagId).toBe("b/2");
});

test("understands a server that is not ours", async () => {
  const grpc = new GrpcServer();
  const bytes = (message: Buffer) => message;
  const method = (name: string) => ({
    path: `/pbflags.v1.FlagEvaluatorService/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: bytes,
    requestDeserialize: bytes,
    responseSerialize: bytes,
    responseDeserialize: bytes,
  });
  grpc.addService(
    { getKilledFlags: method("GetKilledFlags"), getFlagState: method("GetFlagState") },
    {
      getKilledFlags: (_: unknown, callback: (error: null, message: Buffer) => void) =>
        callback(null, Buffer.from(MESSAGE)),
      getFlagState: (_: unknown, callback: (error: object) => void) =>
        callback({ code: grpcStatus.NOT_FOUND, details: "gibt es nicht: 100 % Ä" }),
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    grpc.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  {
    await using client = openClient(`grpc://127.0.0.1:${port}`, {}, { compression: "gzip" });
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
    await expect(
      withDeadline({ timeoutMs: 500, clock: new FakeClock() }, (deadline) =>
        client.call(getFlagState, { flagId: "b/2" }, deadline),
      ),
    ).rejects.toMatchObject({
      name: "UpstreamError",
      code: "not_found",
      answered: true,
      message: `grpc://127.0.0.1:${port} answered not_found: gibt es nicht: 100 % Ä`,
    });
    const { health } = FlagEvaluatorService.method;
    await expect(
      withDeadline({ timeoutMs: 500, clock: new FakeClock() }, (deadline) =>
        client.call(health, {}, deadline),
      ),
    ).rejects.toMatchObject({ code: "unimplemented", answered: true });
  }
  grpc.forceShutdown();
});

test("makes many calls on one connection, also more than the server takes at a time", async () => {
  await using server = await serve((stream) => answer(stream), { settings: { maxConcurrentStreams: 7 } });
  await using client = openClient(server.url);
  const answers = await Promise.all(Array.from({ length: 300 }, () => ask(client)));
  expect(answers.every(({ flagIds }) => flagIds[0] === "a/1")).toBe(true);
  expect(server.sessions).toHaveLength(1);
});

test.each<[string, (stream: ServerHttp2Stream) => void, object]>([
  [
    "an error of the service",
    (stream) => answer(stream, { trailers: { "grpc-status": "5", "grpc-message": "no such flag" } }),
    {
      code: "not_found",
      answered: true,
      message: expect.stringMatching(/answered not_found: no such flag$/),
    },
  ],
  [
    "an error and nothing else",
    (stream) => stream.respond({ ...GRPC, "grpc-status": "14", "grpc-message": "bad%" }, { endStream: true }),
    { code: "unavailable", answered: true, message: expect.stringMatching(/answered unavailable: bad%$/) },
  ],
  [
    "a status nobody knows",
    (stream) => answer(stream, { trailers: { "grpc-status": "99" } }),
    { code: "unknown", answered: true },
  ],
  [
    "a wrong token's status",
    (stream) => stream.respond({ ...GRPC, "grpc-status": "16" }, { endStream: true }),
    { code: "unauthenticated", answered: true },
  ],
  [
    "503 of a proxy on the way",
    (stream) => plain(stream, 503, "text/html"),
    { code: "unavailable", message: expect.stringContaining("HTTP status 503 with content type text/html") },
  ],
  ["401 without gRPC", (stream) => plain(stream, 401, "text/plain"), { code: "unauthenticated" }],
  ["404 of another server", (stream) => plain(stream, 404, "application/json"), { code: "unimplemented" }],
  ["a status that says nothing", (stream) => plain(stream, 302, "text/html"), { code: "unknown" }],
  ["a web page", (stream) => plain(stream, 200, "text/html"), { code: "answer" }],
  [
    "a web page that claims a grpc-status",
    (stream) => stream.respond({ ":status": 200, "grpc-status": "0" }, { endStream: true }),
    { code: "answer" },
  ],
  [
    "gRPC for browsers",
    (stream) => answer(stream, { headers: { "content-type": "application/grpc-web+proto" } }),
    { code: "answer" },
  ],
  [
    "no status",
    (stream) => answer(stream, { trailers: {} }),
    { code: "answer", message: expect.stringContaining("got no grpc-status") },
  ],
  [
    "status 0 and no message",
    (stream) => answer(stream, { frames: [] }),
    { code: "answer", message: expect.stringContaining("must be one message of gRPC, got no message") },
  ],
  [
    "two messages",
    (stream) => answer(stream, { frames: [frame(MESSAGE), frame(MESSAGE)] }),
    { code: "answer", message: expect.stringContaining("got more than that") },
  ],
  [
    "half a message and status 0",
    (stream) => answer(stream, { frames: [frame(MESSAGE).subarray(0, 7)] }),
    { code: "answer", message: expect.stringContaining("got half a message") },
  ],
  [
    "a message with unknown flags",
    (stream) => answer(stream, { frames: [frame(MESSAGE, 4)] }),
    { code: "answer", message: expect.stringContaining("flags 4") },
  ],
  [
    "a compressed message though none was wanted",
    (stream) =>
      answer(stream, { headers: { "grpc-encoding": "gzip" }, frames: [frame(gzipSync(MESSAGE), 1)] }),
    { code: "answer", message: expect.stringContaining("must be not encoded, got gzip") },
  ],
  [
    "a compressed message that does not say how",
    (stream) => answer(stream, { frames: [frame(gzipSync(MESSAGE), 1)] }),
    { code: "answer" },
  ],
  ["garbage", (stream) => answer(stream, { frames: [frame(Buffer.from([0x0a, 0xff]))] }), { code: "answer" }],
  [
    "more than a sensible answer",
    (stream) => answer(stream, { frames: [Buffer.alloc(9 * 1024 * 1024)] }),
    { code: "answer", message: expect.stringContaining("at most 8388608 bytes") },
  ],
  [
    "a reset",
    (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
    { code: "connection", message: expect.stringContaining("it broke the call off (INTERNAL_ERROR)") },
  ],
  ["a demand for calm", (stream) => stream.close(11), { code: "resource_exhausted" }],
  [
    "half an answer",
    (stream) => {
      stream.respond(GRPC);
      stream.write(frame(MESSAGE).subarray(0, 7), () => stream.session?.destroy());
    },
    { code: "connection" },
  ],
  [
    "half an answer and a reset",
    (stream) => {
      stream.respond(GRPC);
      stream.write(frame(MESSAGE).subarray(0, 7), () => stream.destroy(new Error("gone")));
    },
    { code: "connection" },
  ],
])("an upstream that answers %s is an error that says so", async (_, handler, expected) => {
  await using server = await serve(handler);
  await using client = openClient(server.url);
  await expect(ask(client)).rejects.toMatchObject({ name: "UpstreamError", answered: false, ...expected });
});

test("takes an answer with a status though the server did not wait for the whole request", async () => {
  await using server = await serve((stream) => {
    stream.pause();
    answer(stream, { trailers: { "grpc-status": "8" } });
  });
  await using client = openClient(server.url);
  const flagIds = "x".repeat(200_000);
  await expect(
    withDeadline({ timeoutMs: 500, clock: new FakeClock() }, (deadline) =>
      client.call(getFlagState, { flagId: flagIds }, deadline),
    ),
  ).rejects.toMatchObject({ code: "resource_exhausted", answered: true });
});

test("offers gzip where it is wanted, and reads answers that are compressed and such that are not", async () => {
  const offers: unknown[] = [];
  const gzip = { "grpc-encoding": "gzip" };
  const answers = [
    { headers: gzip, frames: [frame(gzipSync(MESSAGE), 1)] },
    { headers: gzip, frames: [frame(MESSAGE)] },
    {},
  ];
  await using server = await serve((stream, headers) => {
    offers.push(headers["grpc-accept-encoding"]);
    answer(stream, answers.shift());
  });
  await using client = openClient(server.url, {}, { compression: "gzip" });
  for (let i = 0; i < 3; i++) expect((await ask(client)).flagIds).toEqual(["a/1"]);
  expect(offers).toEqual(["gzip", "gzip", "gzip"]);
});

test.each([
  ["inflates to more than is sensible", gzipSync(Buffer.alloc(64 * 1024 * 1024)), "at most 8388608 bytes"],
  ["is not gzip", Buffer.from("no"), "must be gzip, got other bytes"],
])("refuses a compressed answer that %s", async (_, bytes, message) => {
  await using server = await serve((stream) =>
    answer(stream, { headers: { "grpc-encoding": "gzip" }, frames: [frame(bytes, 1)] }),
  );
  await using client = openClient(server.url, {}, { compression: "gzip" });
  await expect(ask(client)).rejects.toMatchObject({
    code: "answer",
    message: expect.stringContaining(message),
  });
});

test("asks once more where the server refused to look at a call, and no oftener", async () => {
  let calls = 0;
  let refusals = 1;
  await using server = await serve((stream) => {
    calls += 1;
    if (calls > refusals) answer(stream);
    else stream.close(constants.NGHTTP2_REFUSED_STREAM);
  });
  await using client = openClient(server.url);
  expect((await ask(client)).flagIds).toEqual(["a/1"]);
  expect(calls).toBe(2);

  refusals = 1_000;
  await expect(ask(client)).rejects.toMatchObject({ code: "unavailable", answered: false });
  expect(calls).toBe(4);
});

test.each<[string, number, (stream: ServerHttp2Stream) => void, object]>([
  ["shuts down", constants.NGHTTP2_NO_ERROR, (stream) => answer(stream), { flagIds: ["a/1"] }],
  [
    "has had enough",
    constants.NGHTTP2_ENHANCE_YOUR_CALM,
    () => {},
    { code: "connection", message: expect.stringContaining("it ended the connection (ENHANCE_YOUR_CALM)") },
  ],
])(
  "a server that %s has its unread calls repeated on a new connection",
  async (_, code, finish, expected) => {
    const held: ServerHttp2Stream[] = [];
    await using server = await serve((stream) => {
      if (server.sessions.length > 1) answer(stream);
      else held.push(stream);
    });
    await using client = openClient(server.url);
    const first = ask(client).catch((error: unknown) => error);
    const second = ask(client);
    await eventually(() => held.length === 2);

    const [read] = held as [ServerHttp2Stream];
    server.sessions[0]?.goaway(code, read.id);
    expect((await second).flagIds).toEqual(["a/1"]);
    expect(server.sessions).toHaveLength(2);
    finish(read);
    expect(await first).toMatchObject(expected);
  },
);

test.each<[string, (session: ServerHttp2Session) => void]>([
  ["says goodbye", (session) => session.goaway()],
  ["says goodbye with an error", (session) => session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM)],
  ["closes it", (session) => session.close()],
  ["drops it", (session) => session.destroy()],
])("a server that %s while the connection is idle costs nothing but a new one", async (_, end) => {
  await using server = await serve((stream) => answer(stream));
  await using proxy = await openTcpProxy(server.port);
  await using client = openClient(`grpc://127.0.0.1:${proxy.port}`);
  for (let i = 1; i <= 3; i++) {
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
    expect(server.sessions).toHaveLength(i);
    end(server.sessions[i - 1] as ServerHttp2Session);
    await eventually(() => proxy.connectionCount === 0);
  }
});

test("a connection that breaks as it is used again after a while is replaced, and the call repeated", async () => {
  const clock = new FakeClock();
  let calls = 0;
  await using server = await serve((stream) => {
    calls += 1;
    if (calls === 2) server.breakConnections();
    else answer(stream);
  });
  await using client = openClient(server.url, { clock });
  await ask(client);
  await clock.advance(1_000);
  expect((await ask(client)).flagIds).toEqual(["a/1"]);
  expect([calls, server.sessions.length]).toEqual([3, 2]);
});

test("a connection that was broken before a call was written is replaced, and the call repeated", async () => {
  await using server = await serve((stream) => answer(stream));
  await using client = openClient(server.url);
  for (let i = 1; i <= 5; i++) {
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
    expect(server.sessions).toHaveLength(i);
    // From a timer, what sockets have heard is read before anything is written.
    await new Promise<void>((resolve) => setTimeout(resolve));
    server.breakConnections();
  }
});

test("a connection that breaks on its first call is an error", async () => {
  let calls = 0;
  await using server = await serve(() => {
    calls += 1;
    server.breakConnections();
  });
  await using client = openClient(server.url);
  await expect(ask(client)).rejects.toMatchObject({ code: "connection" });
  expect(calls).toBe(1);
});

test("a server that was restarted is reached again", async () => {
  const first = await serve((stream) => answer(stream));
  await using client = openClient(first.url);
  await ask(client);
  await first[Symbol.asyncDispose]();
  await expect(ask(client)).rejects.toMatchObject({ code: "connection", cause: { code: "ECONNREFUSED" } });
  await using _ = await serve(
    (stream) => answer(stream),
    {},
    Number(new URL(first.url.replace("grpc", "http")).port),
  );
  expect((await ask(client)).flagIds).toEqual(["a/1"]);
});

test("a connection on which nothing is heard any more takes no new calls, and goes with its last one", async () => {
  const clock = new FakeClock();
  await using server = await serve((stream) => answer(stream));
  await using proxy = await openTcpProxy(server.port);
  await using client = openClient(`grpc://127.0.0.1:${proxy.port}`, { clock });
  await ask(client, { clock });
  await settle();
  proxy.drop();

  const first = ask(client, { clock }).catch((error: unknown) => error);
  const longer = ask(client, { clock, timeoutMs: 1_000 }).catch((error: unknown) => error);
  await clock.advance(500);
  expect(await first).toEqual(new DeadlineError("no answer within 500 ms"));
  expect(proxy.connectionCount).toBe(1);

  const third = ask(client, { clock }).catch((error: unknown) => error);
  await eventually(() => proxy.connectionCount === 2);
  await clock.advance(499);
  await settle();
  expect(proxy.connectionCount).toBe(2);
  await clock.advance(1);
  expect(await longer).toBeInstanceOf(DeadlineError);
  expect(await third).toBeInstanceOf(DeadlineError);
  await eventually(() => proxy.connectionCount === 0);

  proxy.restore();
  expect((await ask(client, { clock })).flagIds).toEqual(["a/1"]);
});

test("a connection on which other calls are answered is kept when one takes too long", async () => {
  const clock = new FakeClock();
  const arrived = deferred();
  let calls = 0;
  await using server = await serve((stream) => {
    calls += 1;
    if (calls === 1) arrived.resolve();
    else answer(stream);
  });
  await using client = openClient(server.url, { clock });
  const slow = ask(client, { clock }).catch((error: unknown) => error);
  await arrived.promise;
  await ask(client, { clock });
  await clock.advance(500);
  expect(await slow).toBeInstanceOf(DeadlineError);
  await ask(client, { clock });
  expect(server.sessions).toHaveLength(1);
});

test("a call that is no longer wanted is taken back, and tells nothing of the connection", async () => {
  const arrived = deferred();
  const streams: ServerHttp2Stream[] = [];
  await using server = await serve((stream) => {
    streams.push(stream);
    if (streams.length !== 2) answer(stream);
    else arrived.resolve();
  });
  await using client = openClient(server.url);
  await ask(client);
  await settle();
  const caller = new AbortController();
  const asking = client.call(getKilledFlags, {}, { at: 500, signal: caller.signal });
  await arrived.promise;
  caller.abort(new Error("never mind"));
  await expect(asking).rejects.toThrow("never mind");
  await eventually(() => streams[1]?.rstCode === constants.NGHTTP2_CANCEL);
  await ask(client);
  expect(server.sessions).toHaveLength(1);
});

test("what is over before it begins sends nothing", async () => {
  await using server = await serve((stream) => answer(stream));
  await using client = openClient(server.url);
  const signal = AbortSignal.abort(new DeadlineError("too late"));
  await expect(client.call(getKilledFlags, {}, { at: 0, signal })).rejects.toThrow("too late");
  expect(server.sessions).toHaveLength(0);
});

test("a connection that has been idle for long is closed, and one with a call on it is not", async () => {
  const clock = new FakeClock();
  const held: ServerHttp2Stream[] = [];
  await using server = await serve((stream) => {
    if (held.length > 0) answer(stream);
    else held.push(stream);
  });
  await using client = openClient(server.url, { clock }, { idleTimeoutMs: 1_000, keepAliveMs: 0 });
  const slow = ask(client, { clock, timeoutMs: 60_000 });
  await eventually(() => held.length === 1);
  await clock.advance(5_000);
  answer(held[0] as ServerHttp2Stream);
  await slow;
  const [session] = server.sessions;
  await clock.advance(999);
  await settle();
  expect(session?.destroyed).toBe(false);
  await ask(client, { clock });
  await clock.advance(999);
  await settle();
  expect(session?.destroyed).toBe(false);
  await clock.advance(1);
  await eventually(() => session?.destroyed === true);
  await ask(client, { clock });
  expect(server.sessions).toHaveLength(2);
});

test("pings a silent server only while it owes an answer, and no oftener than allowed", async () => {
  const clock = new FakeClock();
  let pings = 0;
  const held: ServerHttp2Stream[] = [];
  await using server = await serve((stream) => {
    held.push(stream);
    if (held.length === 1) answer(stream);
  });
  await using client = openClient(server.url, { clock }, { keepAliveMs: 1_000, idleTimeoutMs: 0 });
  await ask(client, { clock });
  server.sessions[0]?.on("ping", () => {
    pings += 1;
  });
  await clock.advance(10_000);
  const slow = ask(client, { clock, timeoutMs: 60_000 });
  await eventually(() => held.length === 2);
  // The first of these may still see what came with the call.
  await clock.advance(1_000);
  await clock.advance(1_000);
  await eventually(() => pings > 0);
  for (let i = 0; i < 10; i++) {
    await clock.advance(400);
    await settle();
  }
  expect(pings).toBeGreaterThan(1);
  expect(pings).toBeLessThanOrEqual(6);
  answer(held[1] as ServerHttp2Stream);
  await slow;
});

test("a server that answers no ping is tried on a new connection, and then given up", async () => {
  const clock = new FakeClock();
  const held: ServerHttp2Stream[] = [];
  await using server = await serve((stream) => {
    held.push(stream);
    if (held.length === 1) answer(stream);
  });
  await using proxy = await openTcpProxy(server.port);
  await using client = openClient(
    `grpc://127.0.0.1:${proxy.port}`,
    { clock },
    { keepAliveMs: 1_000, idleTimeoutMs: 0, connectTimeoutMs: 60_000 },
  );
  await ask(client, { clock });
  const slow = ask(client, { clock, timeoutMs: 60_000 }).catch((error: unknown) => error);
  await eventually(() => held.length === 2);
  proxy.drop();
  // In the first of these it was still heard.
  for (let i = 0; i < 3; i++) await clock.advance(1_000);
  for (let i = 0; i < 2; i++) await clock.advance(1_000);
  expect(await slow).toMatchObject({
    code: "connection",
    message: expect.stringContaining("it did not answer a ping within 1000 ms"),
  });
  await eventually(() => proxy.connectionCount === 0);
});

test("what does not speak HTTP/2 is an error that says so", async () => {
  const http = createHttpServer((_, response) => response.end());
  const tcp = createTcpServer((socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n"));
  for (const server of [http, tcp]) {
    await using client = openClient(`grpc://127.0.0.1:${await listen(server)}`);
    await expect(ask(client)).rejects.toMatchObject({
      code: "connection",
      message: expect.stringContaining("it does not speak HTTP/2"),
    });
    server.close();
  }
});

test("speaks to a Unix socket", async () => {
  const folder = mkdtempSync(join(tmpdir(), "pbflagd-grpc-"));
  const path = join(folder, "socket");
  const server = createServer()
    .on("stream", (stream) => answer(stream))
    .listen(path);
  await once(server, "listening");
  {
    await using client = openClient(`grpc+unix://${path}`);
    expect(client.target).toBe(`grpc+unix://${path}`);
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
  }
  server.close();
  await once(server, "close");
  rmSync(folder, { recursive: true });
});

test("is closed with all it has, and tells calls under way why", async () => {
  const clock = new FakeClock();
  const handles = handleCount();
  await using server = await serve((stream) => {
    held.push(stream);
    if (held.length === 1) answer(stream);
  });
  const held: ServerHttp2Stream[] = [];
  const client = openClient(server.url, { clock });
  await ask(client, { clock });
  const asking = ask(client, { clock }).catch((error: unknown) => error);
  await eventually(() => held.length === 2);

  await client[Symbol.asyncDispose]();
  const closed = { code: "connection", message: expect.stringContaining("closed for good") };
  expect(await asking).toMatchObject(closed);
  await expect(ask(client, { clock })).rejects.toMatchObject(closed);
  expect(clock.sleeperCount).toBe(0);
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await eventually(() => handleCount() <= handles);
});

interface Ask {
  readonly clock?: FakeClock;
  readonly timeoutMs?: number;
}

function ask(client: Transport, { clock = new FakeClock(), timeoutMs = 500 }: Ask = {}) {
  return withDeadline({ timeoutMs, clock }, (deadline) => client.call(getKilledFlags, {}, deadline));
}

function openClient(
  url: string,
  options: Partial<TransportOptions> = {},
  connection: Partial<ConnectionSettings> = {},
): Transport {
  const settings = upstreamSettings({ name: "a", url });
  return openTransport({
    settings: { ...settings, connection: { ...settings.connection, ...connection } },
    clock: new FakeClock(),
    ...options,
  });
}

interface Answer {
  readonly headers?: OutgoingHttpHeaders;
  readonly frames?: readonly Uint8Array[];
  readonly trailers?: OutgoingHttpHeaders;
}

function answer(
  stream: ServerHttp2Stream,
  { headers = {}, frames = [frame(MESSAGE)], trailers = { "grpc-status": "0" } }: Answer = {},
): void {
  stream.on("error", () => {});
  stream.respond({ ...GRPC, ...headers }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  for (const bytes of frames) stream.write(bytes);
  stream.end();
}

function plain(stream: ServerHttp2Stream, status: number, type: string): void {
  stream.respond({ ":status": status, "content-type": type });
  stream.end("?");
}

function frame(message: Uint8Array, flags = 0): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = flags;
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

async function serve(
  handler: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void,
  options: Parameters<typeof createServer>[0] = {},
  port = 0,
) {
  const server: Http2Server = createServer(options);
  const sessions: ServerHttp2Session[] = [];
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("session", (session) => {
    sessions.push(session);
    session.on("error", () => {});
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    handler(stream, headers);
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const bound = typeof address === "object" && address !== null ? address.port : 0;
  const breakConnections = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    url: `grpc://127.0.0.1:${bound}`,
    port: bound,
    /** All there ever were. */
    sessions,
    get connectionCount() {
      return sockets.size;
    },
    breakConnections,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      server.close();
      for (const session of sessions) session.destroy();
      await once(server, "close");
    },
  };
}

/** Sockets and servers that are open in this process. */
function handleCount(): number {
  return process.getActiveResourcesInfo().filter((name) => /^(TCP|Pipe|TLS)/.test(name)).length;
}

function deferred() {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
