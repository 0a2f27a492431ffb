import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { block } from "../../../test/support/hpack-writer.ts";
import {
  END_HEADERS,
  END_STREAM,
  frame,
  PADDED,
  rstStream,
  settings,
  windowUpdate,
} from "../../../test/support/http2-frames.ts";
import {
  BODY_BYTES_MAX,
  bytesOf,
  data,
  type FrameClient,
  type Http2Scene,
  http2Scenes,
  replyTo,
  request,
} from "../../../test/support/http2-scene.ts";

const open = http2Scenes();

/** How much was given to the client's windows, of a stream or of the connection. */
function refundOf(client: FrameClient, stream: number): number {
  return client
    .frames()
    .filter((each) => each.type === "WINDOW_UPDATE" && each.stream === stream)
    .reduce((sum, { payload }) => sum + Buffer.from(payload, "latin1").readUInt32BE(0), 0);
}

const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString("latin1");

describe("a plain request", () => {
  test("is answered at once, with the date", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { body: ALL_BYTES }));
    expect(await client.wholeAnswerOn(1)).toEqual({
      statuses: ["200"],
      headers: {
        "content-length": "262",
        date: expect.stringMatching(/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/),
      },
      body: `plain ${ALL_BYTES}`,
      trailers: undefined,
      isWhole: true,
      reset: undefined,
    });
  });

  test("may be answered with trailers", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/trailers", body: "1" }));
    expect(await client.wholeAnswerOn(1)).toMatchObject({ body: "plain 1", trailers: { "x-trailer": "1" } });
  });

  test("may have no body, or its end in a frame of its own", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(
      request(1),
      request(3, { body: "2", ends: false }) + data(3, "", { ends: true }),
      request(5, { headers: { "content-length": "1" }, body: "3" }),
    );
    await client.wholeAnswerOn(5);
    expect(scene.answered).toEqual(["plain ", "plain 2", "plain 3"]);
  });

  test("is none with trailers, or with what is not theirs to say", async () => {
    const scene = await open();
    const client = await scene.connect();
    const trailers = (stream: number, ...fields: [string, string][]) =>
      frame("HEADERS", { stream, flags: END_HEADERS | END_STREAM, payload: block(...fields) });
    client.say(
      request(1, { body: "1", ends: false }) + trailers(1, ["a", "1"]),
      request(3, { body: "2", ends: false }) + trailers(3, [":path", "/echo"]),
    );
    expect((await client.wholeAnswerOn(1)).body).toBe("node POST 1");
    expect(client.answerOn(3)).toMatchObject({ statuses: [], reset: "PROTOCOL_ERROR" });
  });

  test("may come in a few pieces, padded or not, with others in between", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { ends: false }), request(3, { ends: false }));
    for (let i = 0; i < 30; i++) {
      client.say(data(1, "a"), frame("DATA", { stream: 3, flags: PADDED, payload: "\x02b\0\0" }));
      await client.isHeard();
    }
    client.say(data(3, "", { ends: true }), data(1, "", { ends: true }));
    await client.wholeAnswerOn(1);
    expect(scene.answered).toEqual([`plain ${"b".repeat(30)}`, `plain ${"a".repeat(30)}`]);
  });

  test("that is as large as may be is answered, with the window refunded meanwhile", async () => {
    const scene = await open();
    const client = await scene.connect();
    const body = bytesOf(BODY_BYTES_MAX);
    client.say(request(1, { body: body.slice(0, 50_000), ends: false }));
    await eventually(() => refundOf(client, 1) >= BODY_BYTES_MAX - 65_535);
    client.say(data(1, body.slice(50_000), { ends: true }));
    await eventually(() => scene.answered.length === 1);
    expect(scene.answered).toEqual([`plain ${body}`]);
  });
});

describe("what is not plain is a request and a response:", () => {
  test.each([
    ["another path", request(1, { path: "/other", body: "1" }), "node POST 1"],
    ["another method", request(1, { method: "PUT", body: "1" }), "node PUT 1"],
    ["no body", request(1, { method: "GET" }), "node GET "],
    ["what falls through", request(1, { path: "/fall", body: ALL_BYTES }), `node POST ${ALL_BYTES}`],
    ["what falls through without a body", request(1, { path: "/fall" }), "node POST "],
    [
      "a body in many pieces",
      request(1, { ends: false }) + data(1, "x").repeat(32) + data(1, "y", { ends: true }),
      `node POST ${"x".repeat(32)}y`,
    ],
  ])("%s", async (_, frames, answer) => {
    const scene = await open();
    const client = await scene.connect();
    client.say(frames);
    expect((await client.wholeAnswerOn(1)).body).toBe(answer);
    expect(scene.answered).toEqual([answer]);
    expect(scene.cutOff).toEqual([]);
  });

  test("a body that is too large", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 100_000 }));
    client.say(windowUpdate(0, 100_000));
    const body = bytesOf(BODY_BYTES_MAX + 1);
    client.say(request(1, { body: body.slice(0, 60_000), ends: false }));
    await eventually(() => refundOf(client, 1) > 10_000);
    client.say(data(1, body.slice(60_000), { ends: true }));
    expect((await client.wholeAnswerOn(1)).body === `node POST ${body}`).toBe(true);
    expect(scene.answered).toHaveLength(1);
    expect(scene.cutOff).toEqual([]);
  });

  test("with all that its head says", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { method: "GET", path: "/hold", headers: { "x-a": "1", cookie: "a=1" } }));
    await client.isHeard();
    expect(scene.held[0]?.request).toMatchObject({
      ...{ httpVersion: "2.0", method: "GET", url: "/hold", headers: { "x-a": "1", cookie: "a=1" } },
    });
  });

  test("HEAD, without a body", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { method: "HEAD", path: "/other" }));
    expect(await client.wholeAnswerOn(1)).toMatchObject({
      ...{ statuses: ["200"], headers: { "content-length": "10" }, body: "", reset: undefined },
    });
  });

  test("what expects a word gets it, and is answered", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { headers: { expect: "100-continue" }, ends: false }));
    await eventually(() => client.answerOn(1).statuses.length === 1);
    expect(client.answerOn(1)).toMatchObject({ statuses: ["100"], headers: {} });
    client.say(data(1, "1", { ends: true }));
    expect(await client.wholeAnswerOn(1)).toMatchObject({ statuses: ["100", "200"], body: "node POST 1" });
    // Who has sent it all needs no word.
    client.say(request(3, { headers: { expect: "100-continue" } }));
    expect(await client.wholeAnswerOn(3)).toMatchObject({ statuses: ["200"], body: "node POST " });
  });

  test("what is answered before it is at its end is told to stop", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold", ends: false }));
    await client.isHeard();
    const [held] = scene.held;
    const closed = Promise.all([once(held?.request ?? process, "close"), hasClosed(held?.response)]);
    held?.response.writeHead(413, {});
    held?.response.end(Buffer.from("too large"));
    expect(await client.wholeAnswerOn(1)).toMatchObject({ body: "too large", isWhole: true });
    await client.isHeard();
    expect(client.answerOn(1).reset).toBe("NO_ERROR");
    await closed;
    // What was on its way.
    client.say(data(1, "more", { ends: true }), request(3, { body: "2" }));
    expect((await client.wholeAnswerOn(3)).body).toBe("plain 2");
  });

  test("is answered in pieces, each of which is told when it has left, and with trailers", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold" }));
    await client.isHeard();
    const response = scene.held[0]?.response;
    response?.writeHead(200, { "X-A": ["1", "2"], "x-b": undefined });
    const closed = hasClosed(response);
    for (const piece of ["1", "2", "3"])
      await new Promise((resolve) => response?.write(Buffer.from(piece), resolve));
    response?.addTrailers({ "x-one": "1" });
    response?.addTrailers({ "x-two": 2 });
    response?.end(Buffer.from("4"));
    await closed;
    expect(await client.wholeAnswerOn(1)).toMatchObject({
      ...{ headers: { "x-a": "2" }, body: "1234", trailers: { "x-one": "1", "x-two": "2" } },
    });
  });

  test("may be answered with a head of any size", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold" }));
    await client.isHeard();
    const large = "x".repeat(40_000);
    scene.held[0]?.response.writeHead(200, { "x-large": large });
    scene.held[0]?.response.end();
    expect(await client.wholeAnswerOn(1)).toMatchObject({ statuses: ["200"], headers: { "x-large": large } });
    expect(
      client
        .frames()
        .filter(({ stream }) => stream === 1)
        .map(({ type }) => type),
    ).toEqual(["HEADERS", "CONTINUATION", "CONTINUATION", "DATA"]);
  });

  test("may be thrown away unread, and answered", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold", body: "1", ends: false }));
    await client.isHeard();
    scene.held[0]?.request.destroy();
    client.say(data(1, "2"), data(1, "3", { ends: true }));
    await client.isHeard();
    scene.held[0]?.response.writeHead(400, {});
    scene.held[0]?.response.end(Buffer.from("unread"));
    expect(await client.wholeAnswerOn(1)).toMatchObject({ body: "unread", isWhole: true, reset: undefined });
  });

  test("is given up with the stream, and no more than that", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold" }), request(3, { path: "/later" }));
    await client.isHeard();
    scene.held[0]?.response.writeHead(200, {});
    scene.held[0]?.response.destroy();
    scene.later[0]?.exchange.destroy();
    expect(await client.wholeAnswerOn(1)).toMatchObject({ statuses: ["200"], reset: "INTERNAL_ERROR" });
    expect(await client.wholeAnswerOn(3)).toMatchObject({ statuses: [], reset: "INTERNAL_ERROR" });
    client.say(request(5));
    await client.wholeAnswerOn(5);
  });
});

function hasClosed(response: Http2Scene["held"][number]["response"] | undefined): Promise<void> {
  return new Promise((resolve) => response?.once("close", resolve));
}

describe("the rest of a plain request that does not come", () => {
  test("is waited for in the longer way, soon", async () => {
    const clock = new FakeClock();
    const scene = await open({ clock });
    const client = await scene.connect();
    client.say(request(1, { path: "/later", body: "1", ends: false }));
    await client.isHeard();
    await clock.advance(100);
    client.say(request(3, { path: "/later", body: "2", ends: false }));
    await client.isHeard();
    // The first has waited long enough, the second has not.
    await clock.advance(100);
    client.say(data(1, "-", { ends: true }), data(3, "-", { ends: true }));
    expect((await client.wholeAnswerOn(1)).body).toBe("node POST 1-");
    expect(scene.later.map(({ body }) => body)).toEqual(["2-"]);
    // Nothing else needs to come for that.
    client.say(request(5, { path: "/later", ends: false }));
    await client.isHeard();
    await clock.advance(100);
    client.say(request(7, { path: "/later", ends: false }));
    await client.isHeard();
    await clock.advance(250);
    client.say(data(5, "3", { ends: true }), data(7, "4", { ends: true }));
    expect((await client.wholeAnswerOn(5)).body).toBe("node POST 3");
    expect((await client.wholeAnswerOn(7)).body).toBe("node POST 4");
    expect(scene.cutOff).toEqual([]);
  });

  test.each<[string, (client: FrameClient) => void]>([
    ["since it is taken back", (client) => client.say(rstStream(1, "CANCEL"), rstStream(1, "CANCEL"))],
    ["since the client leaves", (client) => client.raw.socket.destroy()],
    ["since the client breaks off", (client) => client.raw.socket.resetAndDestroy()],
    ["since the client ends the connection", (client) => client.raw.socket.end()],
    ["since the connection has an error", (client) => client.say(data(0, ""))],
    ["since the body is not as long as was said", (client) => client.say(data(1, "12", { ends: true }))],
  ])("is cut off once: %s", async (_, leave) => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { headers: { "content-length": "4" }, body: "1", ends: false }));
    await client.isHeard();
    leave(client);
    await eventually(() => scene.cutOff.length > 0);
    client.raw.socket.destroy();
    await eventually(() => scene.server.connectionCount === 0);
    expect(scene.cutOff).toEqual(["/echo"]);
    expect(scene.answered).toEqual([]);
  });

  test("is no longer for the plain way, and is not cut off there, once it is waited for in the longer one", async () => {
    const clock = new FakeClock();
    const scene = await open({ clock });
    const client = await scene.connect();
    client.say(request(1, { body: "1", ends: false }));
    await client.isHeard();
    await clock.advance(200);
    client.say(rstStream(1, "CANCEL"));
    await client.isHeard();
    expect([scene.cutOff, scene.answered]).toEqual([[], []]);
  });
});

describe("an answer that comes later than the client's", () => {
  const ways: readonly (readonly [string, (client: FrameClient) => void, isGone: boolean])[] = [
    ["reset", (client) => client.say(rstStream(1, "CANCEL"), rstStream(3, "CANCEL")), false],
    ["departure", (client) => client.raw.socket.destroy(), true],
    ["rough departure", (client) => client.raw.socket.resetAndDestroy(), true],
    ["error", (client) => client.say(data(0, "")), true],
  ];

  async function openLeft(leave: (client: FrameClient) => void, isGone: boolean) {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/later", body: "1" }), request(3, { path: "/hold" }));
    await client.isHeard();
    const [later] = scene.later;
    const [held] = scene.held;
    if (later === undefined || held === undefined) throw new Error("nothing waits");
    const closed = hasClosed(held.response);
    leave(client);
    await closed;
    if (isGone) await eventually(() => scene.server.connectionCount === 0);
    return { scene, client, exchange: later.exchange, response: held.response };
  }

  describe.each(ways)("%s", (_, leave, isGone) => {
    test("is for nobody", async () => {
      const { scene, client, exchange, response } = await openLeft(leave, isGone);
      replyTo(exchange, { body: "late" });
      response.writeHead(200, {});
      const written = await new Promise((resolve) => response.write(Buffer.from("late"), resolve));
      expect(written).toBeInstanceOf(Error);
      response.end(Buffer.from("late"));
      response.destroy();
      if (!isGone) await client.isHeard();
      expect(client.frames().filter(({ stream }) => stream > 0)).toEqual([]);
      // Whoever counts calls has counted one that is answered.
      expect(scene.cutOff).toEqual([]);
    });

    test("is cut off if it would have gone another way", async () => {
      const { scene, exchange } = await openLeft(leave, isGone);
      exchange.fallThrough();
      expect(scene.cutOff).toEqual(["/later"]);
      expect(scene.answered).toEqual([]);
    });
  });

  test("reset fails what waits to be written", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 7 }));
    client.say(request(1, { path: "/hold" }));
    await client.isHeard();
    const response = scene.held[0]?.response;
    response?.writeHead(200, {});
    const outcomes = ["12345", "678", "9"].map(
      (piece) => new Promise((resolve) => response?.write(Buffer.from(piece), resolve)),
    );
    await outcomes[0];
    client.say(rstStream(1, "CANCEL"));
    expect(await Promise.all(outcomes)).toEqual([null, expect.any(Error), expect.any(Error)]);
    expect(client.answerOn(1).body).toBe("1234567");
  });
});

describe("windows", () => {
  /** Lengths of what has come in DATA. */
  const sizesOn = (client: FrameClient, ...streams: readonly number[]) =>
    client
      .frames()
      .filter(({ type, stream }) => type === "DATA" && streams.includes(stream))
      .map(({ payload }) => payload.length);

  test.each(["/bytes/100", "/hold"])("let as much of an answer go as they allow: %s", async (path) => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 10 }));
    client.say(request(1, { path }));
    await client.isHeard();
    for (const { response } of scene.held) {
      response.writeHead(200, {});
      response.end(Buffer.from(bytesOf(100)));
    }
    await client.isHeard();
    expect(sizesOn(client, 1)).toEqual([10]);
    client.say(windowUpdate(1, 20), windowUpdate(0, 1));
    await client.isHeard();
    expect(sizesOn(client, 1)).toEqual([10, 20]);
    // Streams that are there get as much more as those to come.
    client.say(settings({ INITIAL_WINDOW_SIZE: 15 }));
    await client.isHeard();
    expect(sizesOn(client, 1)).toEqual([10, 20, 5]);
    // 35 are sent, which is 35 more than that.
    client.say(settings({ INITIAL_WINDOW_SIZE: 0 }), windowUpdate(1, 10));
    await client.isHeard();
    client.say(windowUpdate(1, 5));
    await client.isHeard();
    expect(sizesOn(client, 1)).toEqual([10, 20, 5]);
    client.say(windowUpdate(1, 1));
    await client.isHeard();
    expect(sizesOn(client, 1)).toEqual([10, 20, 5, 1]);
    client.say(settings({ INITIAL_WINDOW_SIZE: 64 }));
    expect((await client.wholeAnswerOn(1)).body).toBe(bytesOf(100));
    expect(sizesOn(client, 1)).toEqual([10, 20, 5, 1, 64]);
  });

  test("that are closed hold up neither heads nor answers without a body", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 0 }));
    client.say(request(1, { path: "/bytes/0" }), request(3, { path: "/bytes/1" }));
    await client.wholeAnswerOn(1);
    await client.isHeard();
    expect(client.answerOn(3)).toMatchObject({ statuses: ["200"], body: "", isWhole: false });
    // Below zero too.
    client.say(windowUpdate(3, 1), settings({ INITIAL_WINDOW_SIZE: 10 }), request(5, { path: "/hold" }));
    await client.wholeAnswerOn(3);
    const response = scene.held[0]?.response;
    response?.writeHead(200, {});
    await new Promise((resolve) => response?.write(Buffer.from(bytesOf(10)), resolve));
    client.say(settings({ INITIAL_WINDOW_SIZE: 0 }));
    await client.isHeard();
    response?.end();
    expect((await client.wholeAnswerOn(5)).body).toBe(bytesOf(10));
  });

  test("of the connection hold up all streams together, which then take turns", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 1_000_000 }));
    client.say(...[1, 3, 5].map((stream) => request(stream, { path: "/bytes/100000" })));
    await client.isHeard();
    expect(sizesOn(client, 1, 3, 5)).toEqual([16_384, 16_384, 16_384, 16_383]);
    expect(sizesOn(client, 1)).toHaveLength(4);
    client.say(windowUpdate(0, 6 * 16_384));
    await client.isHeard();
    const turns = client
      .frames()
      .filter(({ type }) => type === "DATA")
      .map(({ stream }) => stream);
    expect(turns).toEqual([1, 1, 1, 1, 1, 3, 5, 1, 3, 5]);
    client.say(windowUpdate(0, 1_000_000));
    for (const stream of [1, 3, 5]) expect((await client.wholeAnswerOn(stream)).body).toBe(bytesOf(100_000));
  });

  test("of the connection count what goes at once as well", async () => {
    const scene = await open();
    const client = await scene.connect();
    const streams = [1, 3, 5, 7, 9, 11, 13];
    client.say(...streams.map((stream) => request(stream, { path: "/bytes/10000" })));
    await client.isHeard();
    expect(sizesOn(client, ...streams)).toEqual([...Array(6).fill(10_000), 5_535]);
    client.say(windowUpdate(0, 10_000));
    expect((await client.wholeAnswerOn(13)).body).toBe(bytesOf(10_000));
  });

  test("however large, do not make frames larger than everybody takes", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/bytes/16384" }), request(3, { path: "/bytes/16385" }));
    await client.wholeAnswerOn(3);
    expect([sizesOn(client, 1), sizesOn(client, 3)]).toEqual([[16_384], [16_384, 1]]);
  });

  test("let all go at last that has waited for them, piece after piece", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 0 }));
    client.say(request(1, { path: "/hold" }), request(3, { path: "/hold" }));
    await client.isHeard();
    for (const { response } of scene.held) {
      response.writeHead(200, {});
      for (const piece of ["1", "2", "3"]) response.write(Buffer.from(piece), () => {});
    }
    scene.held[0]?.response.end(Buffer.from("4"));
    scene.held[0]?.response.end(Buffer.from("not twice"));
    scene.held[1]?.response.end();
    client.say(settings({ INITIAL_WINDOW_SIZE: 100 }));
    expect((await client.wholeAnswerOn(1)).body).toBe("1234");
    expect((await client.wholeAnswerOn(3)).body).toBe("123");
  });

  test("of a stream that is reset are given to the others", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 1_000_000 }));
    client.say(request(1, { path: "/bytes/65536" }), request(3, { path: "/bytes/3" }));
    await client.isHeard();
    client.say(rstStream(1, "CANCEL"), windowUpdate(0, 3));
    expect((await client.wholeAnswerOn(3)).body).toBe("012");
  });

  test("for what comes are refunded as it is read: megabytes go through", async () => {
    const scene = await open();
    const session = await scene.openSession();
    const body = Buffer.from(bytesOf(5_000_000));
    const stream = session.request({ ":method": "POST", ":path": "/other" });
    stream.resume();
    stream.end(body);
    await once(stream, "close");
    expect(scene.answered[0] === `node POST ${body.toString("latin1")}`).toBe(true);
  });

  test("for padding that comes alone are refunded too", async () => {
    const scene = await open();
    const client = await scene.connect();
    const padding = frame("DATA", { stream: 1, flags: PADDED, payload: `\xff${"\0".repeat(255)}` });
    client.say(request(1, { path: "/other", ends: false }), padding.repeat(200));
    await eventually(() => refundOf(client, 1) > 16_000);
    client.say(padding.repeat(200), data(1, "end", { ends: true }));
    await client.wholeAnswerOn(1);
    expect(scene.answered).toEqual(["node POST end"]);
  });

  test("for what comes and is not read stay closed, and others stay open", async () => {
    const scene = await open();
    const client = await scene.connect();
    const body = bytesOf(65_535);
    client.say(request(1, { path: "/hold", ends: false }) + data(1, body));
    await eventually(() => refundOf(client, 0) > 0);
    client.say(request(3, { path: "/other", ends: false }) + data(3, body));
    await eventually(() => refundOf(client, 3) > 0);
    expect(refundOf(client, 1)).toBe(0);
    const held = scene.held[0]?.request;
    let text = "";
    held?.on("data", (piece: Buffer) => {
      text += piece.toString("latin1");
    });
    await eventually(() => refundOf(client, 1) > 16_000);
    client.say(data(1, "end", { ends: true }));
    await once(held ?? process, "end");
    expect(text === `${body}end`).toBe(true);
  });
});

describe("a client that asks and does not read", () => {
  async function openDeaf(pieces: readonly string[]) {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 2 ** 31 - 1 }));
    client.say(windowUpdate(0, 2 ** 31 - 65_536));
    await client.isHeard();
    const { socket } = client.raw;
    socket.pause();
    for (const piece of pieces) client.say(piece);
    let seen: readonly number[] = [];
    await eventually(
      () => {
        const now = [scene.answered.length, socket.writableLength];
        seen = now.every((each, i) => each === seen[i]) ? [...seen, 0] : now;
        return now[0] !== 0 && seen.length > 10;
      },
      { what: "nothing moves any more" },
    );
    return { scene, client };
  }

  test("is not read from either, and gets everything once it reads", async () => {
    const streams = Array.from({ length: 2_000 }, (_, i) => 2 * i + 1);
    const bodies = streams.map((stream) => `${stream} ${bytesOf(10_000)}`);
    const { scene, client } = await openDeaf(
      streams.map((stream, i) => request(stream, { path: "/bytes/16384", body: bodies[i] ?? "" })),
    );
    expect(scene.answered.length).toBeLessThan(streams.length);
    expect(client.raw.socket.writableLength).toBeGreaterThan(0);
    client.raw.socket.resume();
    await eventually(() => scene.answered.length === streams.length);
    expect(scene.answered.every((text, i) => text === `plain ${bodies[i]}`)).toBe(true);
    await client.isHeard();
    const frames = client.frames();
    const sizes = frames.filter(({ type }) => type === "DATA").map(({ payload }) => payload.length);
    expect(sizes).toEqual(Array(streams.length).fill(16_384));
    expect(scene.drops).toEqual([]);
  });

  test("is not answered beyond what the system holds for it, though all it asked came at once", async () => {
    // Less than a read takes, for answers of 100 MB.
    const requests = Array.from({ length: 1_000 }, (_, i) => request(2 * i + 1, { path: "/bytes/100000" }));
    const { scene } = await openDeaf([requests.join("")]);
    expect(scene.answered.length).toBeLessThan(300);
  });
});
