import { once } from "node:events";
import { Agent, request as httpRequest } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2, type Settings } from "node:http2";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { END_HEADERS, END_STREAM, frame, PREFACE, SETTINGS } from "../../test/support/http2-frames.ts";
import { openHttp2, openRaw, sendHttp1, sendHttp2 } from "../../test/support/wire-clients.ts";
import { DEFAULT_LIMITS, evaluatorPath, serveMemory } from "../../test/wire/serve-memory.ts";
import { systemClock } from "../system/clock.ts";
import { type DropReason, type HttpServer, type HttpServerOptions, openHttpServer } from "./http-server.ts";
import type { HttpRequest, HttpResponse } from "./listener/exchange.ts";
import type { ConnectionLimits } from "./listener/node-servers.ts";

interface Opened {
  readonly server: HttpServer;
  readonly port: number;
  readonly drops: readonly DropReason[];
  /** Requests whose path is /wait are answered when the test says so. */
  readonly waiting: HttpResponse[];
}

/** Of a process that may be held up: then everything that waits is late. */
class PausingClock extends FakeClock {
  pausedMs = 0;

  override now(): number {
    return super.now() + this.pausedMs;
  }
}

const opened: HttpServer[] = [];

afterEach(async () => {
  for (const server of opened.splice(0)) await server[Symbol.asyncDispose]();
});

async function open(
  limits: Partial<ConnectionLimits> = {},
  options: Partial<HttpServerOptions> = {},
): Promise<Opened> {
  const drops: DropReason[] = [];
  const waiting: HttpResponse[] = [];
  const server = await openHttpServer({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits: { ...DEFAULT_LIMITS, ...limits },
    drainTimeoutMs: 5_000,
    clock: systemClock,
    handle: (request, response) => handle(request, response, waiting),
    onDrop: (reason) => drops.push(reason),
    onInternalError: (error) => {
      throw error;
    },
    ...options,
  });
  opened.push(server);
  return { server, port: server.address.kind === "tcp" ? server.address.port : 0, drops, waiting };
}

function handle(request: HttpRequest, response: HttpResponse, waiting: HttpResponse[]): void {
  if (request.url === "/wait") {
    waiting.push(response);
  } else if (request.url === "/echo") {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.once("end", () => answer(response, Buffer.concat(chunks)));
  } else {
    answer(response, Buffer.from(`${request.httpVersion} ${request.url}`));
  }
}

function answer(response: HttpResponse, body: Buffer): void {
  response.writeHead(200, { "content-length": body.length });
  response.end(body);
}

describe("one port for both versions", () => {
  test("speaks HTTP/1.1 and HTTP/2, with bodies of a megabyte", async () => {
    const { port } = await open();
    expect((await sendHttp1(port, { path: "/a" })).body.toString()).toBe("1.1 /a");
    const session = await openHttp2(port);
    expect((await sendHttp2(session, { path: "/b" })).body.toString()).toBe("2.0 /b");
    const body = Buffer.alloc(1_000_000, "0123456789abcdef");
    const echo = { method: "POST", path: "/echo", body };
    expect((await sendHttp1(port, echo)).body.equals(body)).toBe(true);
    expect((await sendHttp2(session, echo)).body.equals(body)).toBe(true);
    session.close();
  });

  test("does not care in how many pieces a connection begins", async () => {
    const { port } = await open();
    const http1 = await openRaw(port);
    for (const byte of "PUT /p HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") {
      await new Promise((resolve) => http1.socket.write(byte, resolve));
    }
    await http1.closed;
    expect(http1.received()).toContain("1.1 /p");

    const http2 = await openRaw(port);
    for (const byte of PREFACE + SETTINGS)
      await new Promise((resolve) => http2.socket.write(byte, "latin1", resolve));
    // The server's own SETTINGS, and the acknowledgement of ours.
    await eventually(() => http2.received().includes("\0\0\0\x04\x01\0\0\0\0"));
    http2.socket.destroy();
  });

  test("answers requests that are sent one after the other without waiting", async () => {
    const { port } = await open();
    const { socket, received, closed } = await openRaw(port);
    socket.write("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    await closed;
    expect(received()).toMatch(/1\.1 \/1[\s\S]*1\.1 \/2/);
  });

  test("refuses what is neither", async () => {
    const { port } = await open();
    for (const nonsense of [
      "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
      "SSH-2.0-x\r\n\r\n",
      "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ]) {
      const { socket, received, closed } = await openRaw(port);
      socket.write(nonsense, "latin1");
      await closed;
      expect(received()).toMatch(/^HTTP\/1\.1 400 /);
    }
  });

  test("survives clients that leave at any moment", async () => {
    const { port, server, drops } = await open();
    for (const said of ["", "P", PREFACE, PREFACE + SETTINGS, "GET /wait HTTP/1.1\r\nhost: a\r\n\r\n"]) {
      for (const leave of ["end", "destroy", "resetAndDestroy"] as const) {
        const { socket, closed } = await openRaw(port);
        if (said !== "") await new Promise((resolve) => socket.write(said, "latin1", resolve));
        socket[leave]();
        if (leave === "end") socket.destroySoon();
        await closed;
      }
    }
    await eventually(() => server.connectionCount === 0);
    // Noticed at once, not by a limit.
    expect(drops).toEqual([]);
    expect((await sendHttp1(port, { path: "/a" })).status).toBe(200);
  });

  test("survives nonsense of any kind", async () => {
    // Node keeps some sessions that broke the protocol open, even after the client has left.
    const { port, server } = await open({ headerTimeoutMs: 300 });
    const frame = fc
      .tuple(fc.nat(12), fc.nat(255), fc.nat(3), fc.uint8Array({ maxLength: 40 }))
      .map(([type, flags, stream, payload]) =>
        Buffer.concat([Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, stream]), payload]).toString(
          "latin1",
        ),
      );
    const bytes = fc.uint8Array({ maxLength: 100 }).map((data) => Buffer.from(data).toString("latin1"));
    const nonsense = [
      ...fc
        .sample(fc.array(frame, { maxLength: 5 }), { numRuns: 200, seed: 1 })
        .map((all) => PREFACE + all.join("")),
      ...fc.sample(bytes, { numRuns: 100, seed: 2 }),
      ...fc.sample(bytes, { numRuns: 100, seed: 3 }).map((some) => `POST /echo HTTP/1.1\r\n${some}\r\n\r\n`),
    ];
    for (const said of nonsense) {
      const { socket, closed } = await openRaw(port);
      socket.end(said, "latin1");
      await closed;
    }
    expect(await sendHttp1(port, { path: "/a" })).toMatchObject({ status: 200 });
    await eventually(() => server.connectionCount === 0);
  });

  test("serves a Unix socket", async () => {
    const path = join(tmpdir(), `pbflagd-http-${process.pid}.sock`);
    const { server } = await open({}, { address: { kind: "unix", path } });
    expect(server.address).toEqual({ kind: "unix", path });
    const session = connectHttp2("http://localhost", { createConnection: () => socketTo(path) });
    expect((await sendHttp2(session, { path: "/b" })).body.toString()).toBe("2.0 /b");
    session.close();
  });
});

describe("limits", () => {
  test("on headers hold for both versions", async () => {
    const { port } = await open({ headerBytesMax: 4_096 });
    const headers = { "x-large": "x".repeat(5_000) };
    expect((await sendHttp1(port, { path: "/a", headers })).status).toBe(431);
    expect((await sendHttp1(port, { path: `/${"a".repeat(5_000)}` })).status).toBe(431);
    const session = await openHttp2(port);
    expect((await sendHttp2(session, { path: "/a", headers })).status).toBe(431);
    expect((await sendHttp2(session, { path: "/b" })).status).toBe(200);
    session.destroy();
    expect((await sendHttp1(port, { path: "/a" })).status).toBe(200);
  });

  test("on connections: one more is turned away", async () => {
    const { port, drops } = await open({ connectionsMax: 2 });
    const first = await openRaw(port);
    const second = await openRaw(port);
    const third = await openRaw(port);
    await third.closed;
    expect(drops).toEqual(["too_many_connections"]);
    first.socket.destroy();
    second.socket.destroy();
  });

  test("on streams: one more is refused, the others are answered", async () => {
    const { port, waiting } = await open({ streamsMax: 3 });
    // What a client that ignores the server's settings does: all at once, before it knows them.
    const session = connectHttp2(`http://127.0.0.1:${port}`, { peerMaxConcurrentStreams: 100 });
    const calls = Array.from({ length: 5 }, () =>
      sendHttp2(session, { path: "/wait" }).then(
        () => "answered",
        () => "refused",
      ),
    );
    await eventually(() => waiting.length === 3);
    for (const response of waiting) answer(response, Buffer.from("done"));
    const outcomes = await Promise.all(calls);
    expect(outcomes.filter((outcome) => outcome === "answered")).toHaveLength(3);
    session.destroy();
  });

  test("on silence before the first request, whatever was begun", async () => {
    const { port, drops, server } = await open({ headerTimeoutMs: 400 });
    const begun = [
      "",
      "P",
      "PRI * HTTP/2.0\r\n",
      "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ",
      PREFACE,
      PREFACE + SETTINGS,
      `${PREFACE}${SETTINGS}\0\0\x20\x01\x04\0\0\0\x01half`,
      // A whole HEADERS frame without END_HEADERS: its CONTINUATION never comes.
      `${PREFACE}${SETTINGS}\0\0\x01\x01\0\0\0\0\x01\x82`,
    ];
    const connections = await Promise.all(begun.map(() => openRaw(port)));
    for (const [i, { socket }] of connections.entries()) socket.write(begun[i] ?? "", "latin1");
    await Promise.all(connections.map(({ closed }) => closed));
    expect(drops.toSorted()).toEqual([
      "half_open",
      "half_open",
      "half_open",
      "half_open",
      "no_request",
      "no_request",
      "no_request",
    ]);
    expect(connections[3]?.received()).toMatch(/^HTTP\/1\.1 408 /);
    await eventually(() => server.connectionCount === 0);
  });

  test("on silence are not outwitted by a late first byte, or by dripping", async () => {
    const { port, drops } = await open({ headerTimeoutMs: 500 });
    const { socket, closed } = await openRaw(port);
    await setTimeout(400);
    const bytes = "GET / HTTP/1.1\r\nx-slow: ".split("");
    // It would go on for longer than a test may take.
    const drip = setInterval(() => socket.write(bytes.shift() ?? "a"), 10);
    await closed;
    clearInterval(drip);
    expect(drops).toEqual(["no_request"]);
  });

  test("on silence look again after a pause of our own, in which nobody was heard", async () => {
    const clock = new PausingClock();
    const { port, drops, server } = await open({}, { clock });
    const [heard, silent] = [await openRaw(port), await openRaw(port)];
    await eventually(() => server.connectionCount === 2);
    clock.pausedMs = 60_000;
    await clock.advance(250);
    expect(drops).toEqual([]);
    heard.socket.write("GET /a HTTP/1.1\r\nhost: a\r\n\r\n");
    await eventually(() => heard.received().includes("1.1 /a"));
    await clock.advance(250);
    await silent.closed;
    expect(drops).toEqual(["no_request"]);
    heard.socket.destroy();
    await eventually(() => server.connectionCount === 0);
  });

  test("leave a client alone that is connected, answers pings, and asks for nothing yet", async () => {
    const { port, drops } = await open({ headerTimeoutMs: 200 });
    /** As long as it takes to cut a connection that says nothing. */
    const aWhile = async () => (await openRaw(port)).closed;
    const session = await openHttp2(port);
    await once(session, "ping");
    await aWhile();
    await aWhile();
    expect((await sendHttp2(session, { path: "/late" })).body.toString()).toBe("2.0 /late");
    expect(drops.filter((reason) => reason === "half_open")).toEqual([]);
    session.close();
  });

  test("on requests that are taken back at once", async () => {
    const { port, drops, server } = await open();
    const { socket, closed } = await openRaw(port);
    socket.write(PREFACE + SETTINGS, "latin1");
    for (let stream = 1; stream < 4_000; stream += 2) {
      const reset = frame("RST_STREAM", { stream, payload: "\0\0\0\x08" });
      socket.write(getFrame(stream, "/wait") + reset, "latin1");
    }
    await closed;
    expect(drops).toEqual(["flood"]);
    await eventually(() => server.connectionCount === 0);
  });

  test("find half a frame also after requests were answered", async () => {
    const { port, drops } = await open({ headerTimeoutMs: 300 });
    const { socket, received, closed } = await openRaw(port);
    socket.write(`${PREFACE}${SETTINGS}${getFrame(1, "/")}`, "latin1");
    await eventually(() => received().includes("2.0 /"));
    socket.write("\0\0\x20\x01\x04\0\0\0\x03half", "latin1");
    await closed;
    expect(drops).toEqual(["half_open"]);
  });

  test("on idle connections", async () => {
    const { port, server, drops } = await open({ idleTimeoutMs: 200 });
    const agent = new Agent({ keepAlive: true });
    const response = await new Promise<NodeJS.ReadableStream>((resolve) => {
      httpRequest({ port, host: "127.0.0.1", agent }, resolve).end();
    });
    response.resume();
    const session = await openHttp2(port);
    const goaway: unknown[] = [];
    session.on("goaway", () => goaway.push("goaway"));
    await sendHttp2(session, { path: "/a" });
    await once(session, "close");
    // Some clients do not survive a GOAWAY on an idle connection.
    expect(goaway).toEqual([]);
    await eventually(() => server.connectionCount === 0);
    expect(drops).toEqual([]);
    agent.destroy();
  });

  test("let an answer wait longer than an idle connection may", async () => {
    const { port, waiting } = await open({ idleTimeoutMs: 100 });
    const session = await openHttp2(port);
    const calls = [sendHttp1(port, { path: "/wait" }), sendHttp2(session, { path: "/wait" })];
    await eventually(() => waiting.length === 2);
    for (let i = 0; i < 3; i++) {
      const idle = await openHttp2(port);
      await once(idle, "close");
    }
    for (const response of waiting) answer(response, Buffer.from("at last"));
    for (const { body } of await Promise.all(calls)) expect(body.toString()).toBe("at last");
    session.close();
  });

  test("cut a client that asks and does not take the answer", async () => {
    const { port, waiting, drops } = await open({ idleTimeoutMs: 300 });
    const { socket, closed } = await openRaw(port);
    socket.pause();
    socket.write("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n");
    await eventually(() => waiting.length === 1);
    for (const response of waiting) answer(response, Buffer.alloc(50_000_000));
    // Node notices the end of a paused socket only when it reads on.
    await eventually(() => drops.length === 1);
    expect(drops).toEqual(["stalled"]);
    socket.resume();
    await closed;
  });
});

describe("clients of HTTP/2 that ask and do not take the answers", () => {
  test.for([
    { way: "the fast way", isFast: true },
    { way: "Connect's implementation", isFast: false },
  ])("are cut, whoever answers: $way", async ({ isFast }) => {
    await using served = await serveMemory({ isFast, limits: { idleTimeoutMs: 500 } });
    const session = await openHttp2(served.port, { initialWindowSize: 0 });
    const closed = once(session, "close");
    const json = Buffer.from('{"flagId":"notifications/1"}');
    const framed = Buffer.from("\0\0\0\0\x11\x0a\x0fnotifications/1");
    for (const [type, message] of [
      ["application/json", json],
      ["application/grpc", framed],
    ] as const) {
      const headers = { "content-type": type, te: "trailers" };
      const stream = session.request({ ":method": "POST", ":path": evaluatorPath("evaluate"), ...headers });
      stream.on("error", () => {});
      stream.end(message);
    }
    await closed;
    expect(served.drops).toEqual(["stalled"]);
    expect(served.rpcs.map(({ code, isFast: wasFast = false }) => [code, wasFast])).toEqual([
      ["ok", isFast],
      ["ok", isFast],
    ]);
  });

  /** In a second of the clock, what is stalled is looked for. */
  const LIMITS = { idleTimeoutMs: 10_000, headerTimeoutMs: 3_600_000 };

  /** The server, and a session over which a body of 200 kB is waited for of which nobody reads. */
  async function openStalled(settings: { initialWindowSize?: number } = {}) {
    const clock = new FakeClock();
    const scene = await open(LIMITS, { clock });
    const session = await openHttp2(scene.port, settings);
    // Of the whole session: one stream does not hold up the others.
    session.setLocalWindowSize(1_000_000);
    const stream = session.request({ ":path": "/wait" });
    stream.on("error", () => {});
    await eventually(() => scene.waiting.length === 1);
    const answerIt = () => {
      for (const response of scene.waiting.splice(0)) answer(response, Buffer.alloc(200_000));
      return once(stream, "response");
    };
    return { ...scene, clock, session, answerIt };
  }

  async function expectCut({ session, clock, drops, server }: Awaited<ReturnType<typeof openStalled>>) {
    const closed = once(session, "close");
    await clock.advance(LIMITS.idleTimeoutMs + 2_000);
    await closed;
    expect(drops).toEqual(["stalled"]);
    await eventually(() => server.connectionCount === 0);
  }

  test("are not cut while the answer is not complete, and have all their time from then", async () => {
    const scene = await openStalled();
    await scene.clock.advance(5 * LIMITS.idleTimeoutMs);
    await scene.answerIt();
    await scene.clock.advance(LIMITS.idleTimeoutMs - 2_000);
    expect(scene.drops).toEqual([]);
    await expectCut(scene);
  });

  test("are not cut while they take some of it, however little", async () => {
    const scene = await openStalled({ initialWindowSize: 0 });
    const { session, clock } = scene;
    await scene.answerIt();
    for (let taken = 50; taken <= 300; taken += 50) {
      // What that allows to be sent comes right behind the acknowledgement.
      await tell(session, { initialWindowSize: taken });
      await clock.advance(LIMITS.idleTimeoutMs - 2_000);
    }
    expect(scene.drops).toEqual([]);
    await expectCut(scene);
  });

  test("are not cut while other streams of the same session move", async () => {
    const scene = await openStalled();
    await scene.answerIt();
    for (let i = 0; i < 5; i++) {
      // Longer than its answer.
      const headers = { "x-long": "x".repeat(500 + i) };
      expect((await sendHttp2(scene.session, { path: "/a", headers })).body.toString()).toBe("2.0 /a");
      await scene.clock.advance(LIMITS.idleTimeoutMs - 2_000);
    }
    expect(scene.drops).toEqual([]);
    await expectCut(scene);
  });

  test("are cut though they ping and send settings all the time", async () => {
    const scene = await openStalled({ initialWindowSize: 0 });
    const { session, clock, drops } = scene;
    const closed = once(session, "close");
    await scene.answerIt();
    for (let i = 0; i < LIMITS.idleTimeoutMs / 1_000; i++) {
      await ping(session);
      await tell(session, { enablePush: false });
      await clock.advance(1_000);
    }
    await clock.advance(1_000);
    await closed;
    expect(drops).toEqual(["stalled"]);
    await eventually(() => scene.server.connectionCount === 0);
  });
});

describe("clients of HTTP/2 that ping", () => {
  test("every 30 s for an hour are never sent away", async () => {
    const clock = new FakeClock();
    const { port, server, drops } = await open({}, { clock });
    const session = await openHttp2(port);
    const ends: string[] = [];
    for (const end of ["goaway", "close"]) session.on(end, () => ends.push(end));
    // It is asked once whether it is there.
    const asked = once(session, "ping");
    await clock.advance(DEFAULT_LIMITS.headerTimeoutMs * 0.6);
    await asked;
    for (let i = 0; i < 120; i++) {
      // By then our own answer has arrived too.
      await ping(session);
      await clock.advance(30_000);
    }
    expect({ ends, drops, answer: (await sendHttp2(session, { path: "/b" })).body.toString() }).toEqual({
      ends: [],
      drops: [],
      answer: "2.0 /b",
    });
    session.destroy();
    await eventually(() => server.connectionCount === 0);
  });
});

describe("draining", () => {
  test("finishes what runs, closes what is idle, takes nothing new", async () => {
    const { server, port, waiting } = await open();
    const agent = new Agent({ keepAlive: true });
    const idleSession = await openHttp2(port);
    const busySession = await openHttp2(port);
    const running1 = sendHttp1(port, { path: "/wait" });
    const running2 = sendHttp2(busySession, { path: "/wait" });
    const idle1 = httpRequest({ port, host: "127.0.0.1", agent }).end();
    const [idleResponse] = await once(idle1, "response");
    idleResponse.resume();
    await eventually(() => waiting.length === 2);
    const goaway = once(busySession, "goaway");
    const idleGone = once(idleSession, "close");

    const drained = server[Symbol.asyncDispose]();
    await goaway;
    await idleGone;
    await eventually(() => server.connectionCount === 2);
    await expect(sendHttp1(port, { path: "/new" })).rejects.toThrow("ECONNREFUSED");
    for (const response of waiting) answer(response, Buffer.from("finished"));
    const response1 = await running1;
    expect([response1.body.toString(), response1.headers.connection]).toEqual(["finished", "close"]);
    expect((await running2).body.toString()).toBe("finished");
    await drained;
    expect(server.connectionCount).toBe(0);
    agent.destroy();
  });

  test("answers requests that were under way when it began", async () => {
    const { server, port } = await open();
    const http1 = await openRaw(port);
    http1.socket.write("GET /1 HTTP/1.1\r\nhost: a\r\n\r\n");
    await eventually(() => http1.received().includes("1.1 /1"));
    const http2 = await openRaw(port);
    http2.socket.write(`${PREFACE}${SETTINGS}${getFrame(1, "/3")}`, "latin1");
    await eventually(() => http2.received().includes("2.0 /3"));

    const drained = server[Symbol.asyncDispose]();
    // Sent in the same moment: the client cannot have heard of the drain.
    http1.socket.write("GET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
    http2.socket.write(getFrame(3, "/4"), "latin1");
    await http1.closed;
    expect(http1.received()).toMatch(/connection: close\r\n[\s\S]*1\.1 \/2$/i);
    await http2.closed;
    expect(http2.received()).toContain("2.0 /4");
    await drained;
  });

  test("does not garble what is being sent", async () => {
    const { server, port } = await open();
    const session = await openHttp2(port);
    const body = Buffer.alloc(100_000, "0123456789abcdef");
    const calls = Array.from({ length: 40 }, () =>
      sendHttp2(session, { method: "POST", path: "/echo", body }),
    );
    await Promise.race(calls);
    await server[Symbol.asyncDispose]();
    for (const response of await Promise.all(calls)) expect(response.body.equals(body)).toBe(true);
  });

  test("cuts what does not finish in time", async () => {
    const { server, port, waiting } = await open({}, { drainTimeoutMs: 500 });
    const session = await openHttp2(port);
    const calls = [sendHttp1(port, { path: "/wait" }), sendHttp2(session, { path: "/wait" })];
    const outcomes = Promise.allSettled(calls);
    await eventually(() => waiting.length === 2);
    await server[Symbol.asyncDispose]();
    expect((await outcomes).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  });

  test("lets a client of HTTP/2 take its time over an answer that is sent", async () => {
    const clock = new FakeClock();
    const { server, port, waiting } = await open({}, { clock });
    const BYTES = 32 * 1_024 * 1_024;
    const { socket, received, closed } = await openRaw(port);
    // As much on the stream, and on the connection, as there can be.
    const windows = "\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0";
    socket.write(PREFACE + frame("SETTINGS", { payload: "\0\x04\x7f\xff\xff\xff" }) + windows, "latin1");
    socket.write(getFrame(1, "/wait"), "latin1");
    await eventually(() => waiting.length === 1);
    socket.pause();
    for (const response of waiting) answer(response, Buffer.alloc(BYTES));
    const closing = server[Symbol.asyncDispose]();
    // Short of what ends every drain.
    for (let i = 0; i < 40; i++) await clock.advance(100);
    socket.resume();
    await eventually(() => received().length > BYTES);
    await clock.advance(1_000);
    await Promise.all([closed, closing]);
    expect(server.connectionCount).toBe(0);
  });

  test("twice is once", async () => {
    const { server } = await open();
    await Promise.all([server[Symbol.asyncDispose](), server[Symbol.asyncDispose]()]);
    await server[Symbol.asyncDispose]();
    expect(server.connectionCount).toBe(0);
  });
});

/** A HEADERS frame that asks host `a` for a path. */
function getFrame(streamId: number, path: string): string {
  // In HPACK: GET and http by their indexes, path and authority as literals.
  const block = `\x82\x86\x04${String.fromCharCode(path.length)}${path}\x01\x01a`;
  return frame("HEADERS", { flags: END_HEADERS | END_STREAM, stream: streamId, payload: block });
}

function ping(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    session.ping((error) => (error === null ? resolve() : reject(error)));
  });
}

function tell(session: ClientHttp2Session, settings: Settings): Promise<void> {
  return new Promise((resolve) => session.settings(settings, () => resolve()));
}

function socketTo(path: string) {
  const socket = new Socket();
  return socket.connect(path);
}
