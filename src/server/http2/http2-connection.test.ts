import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { block, indexed, literal } from "../../../test/support/hpack-writer.ts";
import {
  ACK,
  END_HEADERS,
  END_STREAM,
  type ErrorName,
  frame,
  PADDED,
  PRIORITY,
  type ReadFrame,
  readFrames,
  rstStream,
  settings,
  uint32,
  windowUpdate,
} from "../../../test/support/http2-frames.ts";
import {
  data,
  http2Scenes,
  type RequestParts,
  request,
  requestBlock,
} from "../../../test/support/http2-scene.ts";

const open = http2Scenes();

/** A header block in one frame. */
function headers(stream: number, payload: string, flags = END_HEADERS | END_STREAM): string {
  return frame("HEADERS", { stream, flags, payload });
}

const PLAIN_ECHO = requestBlock({ path: "/echo" });
const MAX = 2 ** 31 - 1;

describe("a connection", () => {
  test("begins with the server's settings, and the client's are acknowledged", async () => {
    const scene = await open();
    const client = await scene.connect();
    await client.isHeard();
    const [first, second] = client.frames();
    expect([first?.type, first?.flags, first?.stream]).toEqual(["SETTINGS", 0, 0]);
    expect([second?.type, second?.flags, second?.payload]).toEqual(["SETTINGS", ACK, ""]);
  });

  test.each([
    ["a request", request(1)],
    ["a PING", frame("PING", { payload: "12345678" })],
    ["an acknowledgement", frame("SETTINGS", { flags: ACK }) + request(1)],
  ])("ends if the client's first frame is not SETTINGS but %s", async (_, first) => {
    const scene = await open();
    const client = await scene.connect(first);
    await client.closed;
    expect(client.goAways()).toEqual([{ lastStream: 0, error: "PROTOCOL_ERROR" }]);
    expect(scene.answered).toEqual([]);
  });

  test("answers requests in whatever pieces they come", async () => {
    const scene = await open();
    const client = await scene.connect();
    for (const byte of request(1, { body: "1" }) + request(3, { path: "/other", body: "2" }))
      await new Promise((resolve) => client.raw.socket.write(byte, "latin1", resolve));
    expect((await client.wholeAnswerOn(1)).body).toBe("plain 1");
    expect((await client.wholeAnswerOn(3)).body).toBe("node POST 2");
  });

  test("answers a thousand requests that come at once", async () => {
    const scene = await open();
    const client = await scene.connect();
    const streams = Array.from({ length: 1_000 }, (_, i) => 2 * i + 1);
    client.say(...streams.map((stream) => request(stream, { body: String(stream) })));
    await client.wholeAnswerOn(1_999);
    expect(scene.answered).toEqual(streams.map((stream) => `plain ${stream}`));
  });
});

describe("a header block", () => {
  test("may have padding, a priority, and both", async () => {
    const scene = await open();
    const client = await scene.connect();
    const end = END_HEADERS | END_STREAM;
    const priority = `${uint32(0)}\x10`;
    client.say(
      headers(1, `\x03${PLAIN_ECHO}\0\0\0`, end | PADDED),
      headers(3, priority + PLAIN_ECHO, end | PRIORITY),
      headers(5, `\x02${priority}${PLAIN_ECHO}\0\0`, end | PADDED | PRIORITY),
      headers(7, `\0${PLAIN_ECHO}`, end | PADDED),
    );
    for (const stream of [1, 3, 5, 7]) expect((await client.wholeAnswerOn(stream)).body).toBe("plain ");
  });

  test("may come in pieces, wherever it is cut", async () => {
    const scene = await open();
    const client = await scene.connect();
    const cuts = Array.from({ length: PLAIN_ECHO.length + 1 }, (_, i) => i);
    for (const cut of cuts) {
      const stream = 2 * cut + 1;
      client.say(
        headers(stream, PLAIN_ECHO.slice(0, cut), END_STREAM),
        frame("CONTINUATION", { stream }),
        frame("CONTINUATION", { stream, flags: END_HEADERS, payload: PLAIN_ECHO.slice(cut) }),
      );
    }
    await client.wholeAnswerOn(2 * PLAIN_ECHO.length + 1);
    expect(scene.answered).toHaveLength(cuts.length);
  });

  test("in pieces may be followed by a body", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(headers(1, PLAIN_ECHO.slice(0, 9), 0));
    client.say(frame("CONTINUATION", { stream: 1, flags: END_HEADERS, payload: PLAIN_ECHO.slice(9) }));
    client.say(data(1, "body", { ends: true }));
    expect((await client.wholeAnswerOn(1)).body).toBe("plain body");
  });

  test("is answered with 431 if it is too large, and the table follows all the same", async () => {
    const scene = await open({ limits: { headerBytesMax: 1_000 } });
    const client = await scene.connect();
    const large = PLAIN_ECHO + literal("x-large", "x".repeat(1_000));
    client.say(
      headers(1, large + literal(":path", "/echo", { kind: "added" })),
      // Of one that goes on sending, no more is taken.
      headers(3, large, END_HEADERS) + data(3, "more", { ends: true }),
      headers(5, block([":method", "POST"], [":scheme", "http"]) + indexed(62)),
    );
    expect(await client.wholeAnswerOn(5)).toMatchObject({ statuses: ["200"] });
    expect(client.answerOn(1)).toMatchObject({ statuses: ["431"], isWhole: true, reset: undefined });
    expect(client.answerOn(3)).toMatchObject({ statuses: ["431"], isWhole: true, reset: "NO_ERROR" });
    expect(scene.answered).toEqual(["plain "]);
  });

  test("of too many fields is too large as well", async () => {
    const scene = await open({ limits: { headerBytesMax: 1_000_000 } });
    const client = await scene.connect();
    client.say(
      headers(1, PLAIN_ECHO + literal("a", "").repeat(196)),
      headers(3, PLAIN_ECHO + literal("a", "").repeat(197)),
    );
    expect(await client.wholeAnswerOn(1)).toMatchObject({ statuses: ["200"] });
    expect(await client.wholeAnswerOn(3)).toMatchObject({ statuses: ["431"] });
  });

  test("that came before means something else once the table has changed", async () => {
    const scene = await open();
    const client = await scene.connect();
    // POST, http, and the newest entry.
    const asked = indexed(3) + indexed(6) + indexed(62);
    const adds = (path: string) => literal(":path", path, { kind: "added" });
    const says = (stream: number, payload: string) => headers(stream, payload, END_HEADERS);
    client.say(
      says(1, indexed(3) + indexed(6) + adds("/echo")) + data(1, "1", { ends: true }),
      says(3, asked) + data(3, "2", { ends: true }),
      says(5, asked) + data(5, "3", { ends: true }),
      says(7, indexed(3) + indexed(6) + adds("/other")) + data(7, "4", { ends: true }),
      says(9, asked) + data(9, "5", { ends: true }),
      // Trailers change it too.
      says(11, asked) + headers(11, literal("x-trailer", "1", { kind: "added" })),
      says(13, indexed(3) + indexed(6) + indexed(63)) + data(13, "7", { ends: true }),
    );
    await client.wholeAnswerOn(13);
    expect([1, 3, 5, 7, 9, 11, 13].map((stream) => client.answerOn(stream).body)).toEqual([
      ...["plain 1", "plain 2", "plain 3", "node POST 4", "node POST 5", "node POST ", "node POST 7"],
    ]);
  });

  test("of which there are more than are remembered is read all the same", async () => {
    const scene = await open();
    const client = await scene.connect();
    const streams = Array.from({ length: 200 }, (_, i) => 2 * i + 1);
    const one = (stream: number) =>
      request(stream, { headers: { "x-a": String(stream % 100) }, body: String(stream) });
    client.say(...streams.map(one));
    await client.wholeAnswerOn(399);
    expect(scene.answered).toEqual(streams.map((stream) => `plain ${stream}`));
  });
});

describe("an error ends the connection, and what was asked on it:", () => {
  const trailing = (payload: string) => headers(1, payload);
  const cases: readonly (readonly [string, string, ErrorName])[] = [
    ["DATA on no stream", frame("DATA", { payload: "1" }), "PROTOCOL_ERROR"],
    ["DATA before HEADERS", data(3, "1"), "PROTOCOL_ERROR"],
    [
      "padding longer than DATA",
      frame("DATA", { stream: 1, flags: PADDED, payload: "\x02a" }),
      "PROTOCOL_ERROR",
    ],
    ["padding in no DATA", frame("DATA", { stream: 1, flags: PADDED }), "PROTOCOL_ERROR"],
    ["HEADERS on no stream", headers(0, PLAIN_ECHO), "PROTOCOL_ERROR"],
    ["HEADERS on a server's stream", headers(2, PLAIN_ECHO), "PROTOCOL_ERROR"],
    ["DATA on a server's stream", request(3) + data(2, "1"), "PROTOCOL_ERROR"],
    ["RST_STREAM on a server's stream", request(3) + rstStream(2, "CANCEL"), "PROTOCOL_ERROR"],
    ["padding longer than HEADERS", headers(3, `\x7f${PLAIN_ECHO}`, END_HEADERS | PADDED), "PROTOCOL_ERROR"],
    ["HEADERS that end in a priority", headers(3, "\0\0\0\0", END_HEADERS | PRIORITY), "FRAME_SIZE_ERROR"],
    ["a block that makes no sense", headers(3, "\xff\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"],
    ["trailers that make no sense", trailing(indexed(99)), "COMPRESSION_ERROR"],
    ["a block with no end: HEADERS", headers(3, "", 0) + headers(5, PLAIN_ECHO), "PROTOCOL_ERROR"],
    ["a block with no end: DATA", headers(3, "", 0) + data(1, "1"), "PROTOCOL_ERROR"],
    [
      "a block with no end: PING",
      headers(3, "", 0) + frame("PING", { payload: "12345678" }),
      "PROTOCOL_ERROR",
    ],
    ["a block with no end: an extension", headers(3, "", 0) + frame(42), "PROTOCOL_ERROR"],
    ["CONTINUATION of nothing", frame("CONTINUATION", { stream: 1, flags: END_HEADERS }), "PROTOCOL_ERROR"],
    [
      "CONTINUATION of a block that was whole",
      headers(3, PLAIN_ECHO) + frame("CONTINUATION", { stream: 3, flags: END_HEADERS }),
      "PROTOCOL_ERROR",
    ],
    [
      "CONTINUATION on another stream",
      headers(3, PLAIN_ECHO, 0) + frame("CONTINUATION", { stream: 5, flags: END_HEADERS }),
      "PROTOCOL_ERROR",
    ],
    [
      "a block of more bytes than anybody needs",
      headers(3, "", 0) + frame("CONTINUATION", { stream: 3, payload: "\0".repeat(16_384) }).repeat(5),
      "ENHANCE_YOUR_CALM",
    ],
    [
      "a block in more frames than anybody needs",
      headers(3, "", 0) + frame("CONTINUATION", { stream: 3 }).repeat(32),
      "ENHANCE_YOUR_CALM",
    ],
    ["PRIORITY on no stream", frame("PRIORITY", { payload: "\0\0\0\0\0" }), "PROTOCOL_ERROR"],
    ["PRIORITY of another length", frame("PRIORITY", { stream: 1, payload: "\0\0\0\0" }), "FRAME_SIZE_ERROR"],
    ["RST_STREAM on no stream", rstStream(0, "CANCEL"), "PROTOCOL_ERROR"],
    ["RST_STREAM before HEADERS", rstStream(3, "CANCEL"), "PROTOCOL_ERROR"],
    [
      "RST_STREAM of another length",
      frame("RST_STREAM", { stream: 1, payload: "\0\0\0" }),
      "FRAME_SIZE_ERROR",
    ],
    ["SETTINGS on a stream", frame("SETTINGS", { stream: 1 }), "PROTOCOL_ERROR"],
    ["SETTINGS of half an entry", frame("SETTINGS", { payload: "\0\0\0" }), "FRAME_SIZE_ERROR"],
    [
      "an acknowledgement that says something",
      frame("SETTINGS", { flags: ACK, payload: "\0\0\0\0\0\0" }),
      "FRAME_SIZE_ERROR",
    ],
    ["SETTINGS of a wrong value", settings({ ENABLE_PUSH: 2 }), "PROTOCOL_ERROR"],
    [
      "SETTINGS that make a stream's window too large",
      windowUpdate(1, MAX - 65_535) + settings({ INITIAL_WINDOW_SIZE: 65_536 }),
      "FLOW_CONTROL_ERROR",
    ],
    ["PUSH_PROMISE", frame("PUSH_PROMISE", { stream: 1, payload: uint32(2) }), "PROTOCOL_ERROR"],
    ["PING on a stream", frame("PING", { stream: 1, payload: "12345678" }), "PROTOCOL_ERROR"],
    ["PING of another length", frame("PING", { payload: "1234567" }), "FRAME_SIZE_ERROR"],
    ["GOAWAY without a reason", frame("GOAWAY", { payload: uint32(0) }), "FRAME_SIZE_ERROR"],
    ["GOAWAY on a stream", frame("GOAWAY", { stream: 1, payload: uint32(0) + uint32(0) }), "PROTOCOL_ERROR"],
    [
      "WINDOW_UPDATE of another length",
      frame("WINDOW_UPDATE", { stream: 1, payload: "\0\0\x01" }),
      "FRAME_SIZE_ERROR",
    ],
    ["WINDOW_UPDATE by nothing", windowUpdate(0, 0), "PROTOCOL_ERROR"],
    ["WINDOW_UPDATE by too much", windowUpdate(0, MAX - 65_534), "FLOW_CONTROL_ERROR"],
    ["WINDOW_UPDATE before HEADERS", windowUpdate(3, 1), "PROTOCOL_ERROR"],
    [
      "a frame that is too long",
      frame("DATA", { stream: 1, payload: "x".repeat(16_385) }),
      "FRAME_SIZE_ERROR",
    ],
    ["an extension's frame that is too long", frame(42, { payload: "x".repeat(16_385) }), "FRAME_SIZE_ERROR"],
  ];

  test.each(cases)("%s", async (_, frames, error) => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold", ends: false }));
    await client.isHeard();
    const ends: string[] = [];
    for (const { request, response } of scene.held) {
      request.once("close", () => ends.push("request"));
      response.once("close", () => ends.push("response"));
    }
    client.say(frames, request(101, { body: "not asked" }));
    await client.closed;
    expect(client.goAways()).toEqual([{ lastStream: expect.any(Number), error }]);
    expect(client.frames().at(-1)?.type).toBe("GOAWAY");
    expect(ends.toSorted()).toEqual(["request", "response"]);
    expect(scene.answered).not.toContain("plain not asked");
    expect(scene.drops).toEqual([]);
    await eventually(() => scene.server.connectionCount === 0);
  });

  test("what the client was told of last streams and reasons", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { body: "1" }), request(5, { body: "2" }), data(7, ""));
    await client.closed;
    expect(client.goAways()).toEqual([{ lastStream: 5, error: "PROTOCOL_ERROR" }]);
    expect(client.raw.received()).toContain("stream 7 was never opened");
    // What was answered before that is not lost.
    expect([1, 5].map((stream) => client.answerOn(stream).body)).toEqual(["plain 1", "plain 2"]);
  });
});

describe("an error ends its stream, and no other:", () => {
  const head = (extra: Readonly<Record<string, string>>, parts: { body?: string; ends?: boolean }) =>
    request(3, { path: "/hold", headers: extra, ...parts });
  const cases: readonly (readonly [string, string, ErrorName])[] = [
    ["a malformed head", headers(3, PLAIN_ECHO + literal("X", "1")), "PROTOCOL_ERROR"],
    ["a head without a path", headers(3, indexed(2) + indexed(6)), "PROTOCOL_ERROR"],
    ["a malformed head, with a body", headers(3, "", END_HEADERS) + data(3, "1"), "PROTOCOL_ERROR"],
    ["DATA after the end", head({}, {}) + data(3, "1"), "STREAM_CLOSED"],
    ["a second end", head({}, { body: "1" }) + data(3, "", { ends: true }), "STREAM_CLOSED"],
    ["trailers after the end", head({}, {}) + headers(3, block(["a", "1"])), "STREAM_CLOSED"],
    [
      "trailers that do not end the stream",
      head({}, { ends: false }) + headers(3, block(["a", "1"]), END_HEADERS),
      "PROTOCOL_ERROR",
    ],
    ["less of a body than was said", head({ "content-length": "2" }, { body: "1" }), "PROTOCOL_ERROR"],
    ["more of a body than was said", head({ "content-length": "2" }, { body: "123" }), "PROTOCOL_ERROR"],
    [
      "more of a body than was said, before its end",
      head({ "content-length": "2" }, { body: "123", ends: false }),
      "PROTOCOL_ERROR",
    ],
    ["no body where one was said", head({ "content-length": "2" }, {}), "PROTOCOL_ERROR"],
    [
      "less of a body than was said, and trailers",
      head({ "content-length": "2" }, { body: "1", ends: false }) + headers(3, block(["a", "1"])),
      "PROTOCOL_ERROR",
    ],
    ["WINDOW_UPDATE by nothing", head({}, {}) + windowUpdate(3, 0), "PROTOCOL_ERROR"],
    ["WINDOW_UPDATE by too much", head({}, {}) + windowUpdate(3, MAX - 65_534), "FLOW_CONTROL_ERROR"],
    [
      "more of a body than its window",
      head({}, { ends: false }) + data(3, "x".repeat(65_536)),
      "FLOW_CONTROL_ERROR",
    ],
    ["one request too many", head({}, {}) + request(5) + request(7), "REFUSED_STREAM"],
  ];

  test.each(cases)("%s", async (_, frames, error) => {
    const scene = await open({ limits: { streamsMax: 2 } });
    const client = await scene.connect();
    client.say(request(1, { path: "/hold" }));
    client.say(frames);
    await client.isHeard();
    const broken = error === "REFUSED_STREAM" ? 5 : 3;
    expect(client.answerOn(broken)).toMatchObject({ statuses: [], reset: error });
    // What was on its way meanwhile is no error.
    client.say(data(broken, "late"), windowUpdate(broken, 1), rstStream(broken, "CANCEL"));
    if (error === "REFUSED_STREAM") client.say(rstStream(3, "CANCEL"));
    client.say(request(101, { body: "1" }));
    expect((await client.wholeAnswerOn(101)).body).toBe("plain 1");
    scene.held[0]?.response.writeHead(200, {});
    scene.held[0]?.response.end(Buffer.from("held"));
    expect((await client.wholeAnswerOn(1)).body).toBe("held");
    expect(client.goAways()).toEqual([]);
    expect(scene.drops).toEqual([]);
  });
});

describe("what says nothing to us is ignored:", () => {
  test.each([
    ["extensions", frame(42, { flags: 255, stream: 9, payload: "what" })],
    ["priorities", frame("PRIORITY", { stream: 9, payload: "\0\0\0\0\0" })],
    ["that the client takes no pushes any more", frame("GOAWAY", { payload: uint32(0) + uint32(0) })],
    ["settings that nobody knows", settings({ 4242: 1 })],
    ["acknowledgements", frame("SETTINGS", { flags: ACK })],
    ["answers to pings that nobody sent", frame("PING", { flags: ACK, payload: "12345678" })],
    ["flags that nobody knows", frame("PING", { flags: 0xfe, payload: "12345678" })],
    ["a window of a stream that is over", windowUpdate(1, 1)],
    ["the reset of a stream that is over", rstStream(1, "CANCEL")],
    ["a body of a stream that is over", data(1, "late", { ends: true })],
    ["trailers of a stream that is over", headers(1, block(["a", "1"]))],
    ["a frame without bytes", data(3, "")],
  ])("%s", async (_, frames) => {
    const scene = await open();
    const client = await scene.connect();
    client.say(
      request(1, { body: "1" }) + request(3, { ends: false }) + frames + data(3, "2", { ends: true }),
    );
    expect((await client.wholeAnswerOn(3)).body).toBe("plain 2");
    expect(client.goAways()).toEqual([]);
  });

  test("the bit in front of a stream's number", async () => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(2 ** 31 + 1, { body: "1" }));
    expect((await client.wholeAnswerOn(1)).body).toBe("plain 1");
  });
});

test("pings are answered with what they say", async () => {
  const scene = await open();
  const client = await scene.connect();
  client.say(frame("PING", { payload: "\0\x01\x80\xff1234" }));
  await client.isHeard();
  expect(client.raw.received()).toContain(frame("PING", { flags: ACK, payload: "\0\x01\x80\xff1234" }));
});

describe("a client that asks for nothing", () => {
  async function openSilent(answer: (ping: ReadFrame) => string) {
    const clock = new FakeClock();
    const scene = await open({ clock, limits: { headerTimeoutMs: 5_000 } });
    const client = await scene.connect();
    await client.isHeard();
    const pings = () => client.frames().filter(({ type, flags }) => type === "PING" && flags === 0);
    await clock.advance(3_000);
    await eventually(() => pings().length === 1);
    client.say(...pings().map(answer));
    await client.isHeard();
    await clock.advance(3_000);
    return { ...scene, client, pings };
  }

  test("is asked once whether it is there, and may stay if it says so", async () => {
    const { drops, pings } = await openSilent(({ payload }) => frame("PING", { flags: ACK, payload }));
    expect(drops).toEqual([]);
    expect(pings()).toHaveLength(1);
  });

  test.each<[string, (ping: ReadFrame) => string]>([
    ["says so to somebody else", () => frame("PING", { flags: ACK, payload: "12345678" })],
    ["asks the same of us", ({ payload }) => frame("PING", { payload })],
    ["says other things", () => settings({})],
  ])("is cut if it %s", async (_, answer) => {
    const { drops, client } = await openSilent(answer);
    expect(drops).toEqual(["half_open"]);
    await client.closed;
  });
});

describe("a client with a small header table", () => {
  const EMPTY = "\x20";
  const isTold = (client: { frames(): ReturnType<typeof readFrames> }, stream: number) =>
    client
      .frames()
      .filter((each) => each.type === "HEADERS" && each.stream === stream)
      .map(({ payload }) => payload.startsWith(EMPTY));

  test("is told once that it is empty, in front of the next block", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ HEADER_TABLE_SIZE: 100 }));
    client.say(request(1), request(3), request(5, { path: "/other" }));
    await client.wholeAnswerOn(5);
    expect([1, 3, 5].map((stream) => isTold(client, stream))).toEqual([[true], [false], [false]]);
    client.say(settings({ HEADER_TABLE_SIZE: 0 }) + request(7, { path: "/other" }));
    await client.wholeAnswerOn(7);
    expect(isTold(client, 7)).toEqual([true]);
  });

  test("is told also in front of trailers", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ INITIAL_WINDOW_SIZE: 0 }));
    client.say(request(1, { path: "/trailers" }));
    await client.isHeard();
    client.say(settings({ HEADER_TABLE_SIZE: 0, INITIAL_WINDOW_SIZE: 100 }));
    expect((await client.wholeAnswerOn(1)).trailers).toEqual({ "x-trailer": "1" });
    expect(isTold(client, 1)).toEqual([false, true]);
  });

  test("is told what Node's client insists on", async () => {
    const scene = await open();
    const session = await scene.openSession({ initialWindowSize: 0 });
    const stream = session.request({ ":method": "POST", ":path": "/trailers" });
    stream.end();
    await once(stream, "response");
    session.settings({ headerTableSize: 0, initialWindowSize: 100 });
    stream.resume();
    const [trailers] = await once(stream, "trailers");
    expect(trailers).toMatchObject({ "x-trailer": "1" });
  });

  test("that is no smaller than usual is told nothing", async () => {
    const scene = await open();
    const client = await scene.connect(settings({ HEADER_TABLE_SIZE: 4_096 }));
    client.say(request(1));
    await client.wholeAnswerOn(1);
    expect(isTold(client, 1)).toEqual([false]);
  });
});

describe("draining", () => {
  test("announces the end, then names the last request, and takes no later one", async () => {
    const clock = new FakeClock();
    const scene = await open({ clock });
    const client = await scene.connect();
    client.say(request(1, { path: "/hold" }), request(3, { body: "1" }));
    await client.wholeAnswerOn(3);
    const drained = scene.server[Symbol.asyncDispose]();
    await eventually(() => client.goAways().length === 1);
    expect(client.goAways()).toEqual([{ lastStream: MAX, error: "NO_ERROR" }]);
    // On their way, as far as anybody can tell.
    client.say(request(5, { body: "2" }));
    expect((await client.wholeAnswerOn(5)).body).toBe("plain 2");
    await clock.advance(240);
    await eventually(() => client.goAways().length === 2);
    expect(client.goAways()[1]).toEqual({ lastStream: 5, error: "NO_ERROR" });
    client.say(
      request(7, { body: "3" }),
      rstStream(7, "CANCEL"),
      windowUpdate(7, 1),
      request(9, { body: "4" }),
    );
    client.say(request(11, { path: "/later", ends: false }));
    await client.isHeard();
    expect(scene.answered).toEqual(["plain 1", "plain 2"]);
    expect(client.frames().filter(({ stream }) => stream > 5)).toEqual([]);
    scene.held[0]?.response.writeHead(200, {});
    scene.held[0]?.response.end(Buffer.from("held"));
    expect((await client.wholeAnswerOn(1)).body).toBe("held");
    await clock.advance(1_000);
    await client.closed;
    await drained;
    expect(scene.drops).toEqual([]);
  });
});

describe("frames that ask for nothing end the connection, once there are too many:", () => {
  test.each([
    ["pings", frame("PING", { payload: "12345678" }).repeat(1_001)],
    ["answers to pings", frame("PING", { flags: ACK, payload: "12345678" }).repeat(1_001)],
    ["settings", settings({}).repeat(1_001)],
    ["acknowledgements", frame("SETTINGS", { flags: ACK }).repeat(1_001)],
    ["that the client takes no pushes", frame("GOAWAY", { payload: uint32(0) + uint32(0) }).repeat(1_001)],
    ["extensions", frame(42).repeat(1_001)],
    ["bodies of nothing", data(1, "").repeat(1_001)],
    ["priorities", frame("PRIORITY", { stream: 1, payload: "\0\0\0\0\0" }).repeat(10_001)],
    ["windows", windowUpdate(0, 1).repeat(10_001)],
    ["windows of a stream", windowUpdate(1, 1).repeat(10_001)],
    ["what comes on streams that are over", rstStream(1, "CANCEL") + data(1, "1").repeat(10_001)],
    ["trailers on streams that are over", rstStream(1, "CANCEL") + headers(1, "").repeat(1_001)],
    [
      "requests without a path",
      Array.from({ length: 101 }, (_, i) => headers(2 * i + 3, indexed(2))).join(""),
    ],
  ])("%s", async (_, frames) => {
    const scene = await open();
    const client = await scene.connect();
    client.say(request(1, { path: "/hold", ends: false }), frames);
    await client.closed;
    expect(client.goAways()).toMatchObject([{ error: "ENHANCE_YOUR_CALM" }]);
    expect(scene.drops).toEqual(["flood"]);
  });

  test("but not while requests are answered as well", async () => {
    const scene = await open();
    const client = await scene.connect();
    const streams = Array.from({ length: 3_000 }, (_, i) => 2 * i + 1);
    const ping = frame("PING", { payload: "12345678" });
    client.say(...streams.map((stream) => ping + request(stream)));
    await client.wholeAnswerOn(5_999);
    expect(scene.answered).toHaveLength(3_000);
    expect(scene.drops).toEqual([]);
  });
});

describe("requests that break the protocol once they are being answered are not had for nothing:", () => {
  const held = (stream: number, parts: RequestParts) => request(stream, { path: "/hold", ...parts });
  test.each<[string, (stream: number) => string]>([
    ["more after their end", (stream) => held(stream, {}) + data(stream, "1")],
    [
      "more than was said",
      (stream) => held(stream, { headers: { "content-length": "0" }, body: "1", ends: false }),
    ],
    [
      "less than was said",
      (stream) =>
        held(stream, { headers: { "content-length": "2" }, ends: false }) + data(stream, "1", { ends: true }),
    ],
    ["trailers after their end", (stream) => held(stream, {}) + headers(stream, block(["a", "1"]))],
    ["a window of nothing", (stream) => held(stream, {}) + windowUpdate(stream, 0)],
    ["taken back", (stream) => held(stream, {}) + rstStream(stream, "CANCEL")],
  ])("%s", async (_, broken) => {
    const scene = await open();
    const client = await scene.connect();
    client.say(...Array.from({ length: 1_000 }, (__, i) => broken(2 * i + 1)));
    await client.closed;
    expect(client.goAways()).toMatchObject([{ error: "ENHANCE_YOUR_CALM" }]);
    expect(scene.drops).toEqual(["flood"]);
    expect(scene.held.length).toBeLessThan(1_000);
  });
});

test("our own mistakes end the connection, are reported, and are not told", async () => {
  const scene = await open();
  const client = await scene.connect();
  client.say(request(1, { path: "/mistake" }));
  await client.closed;
  expect(client.goAways()).toEqual([{ lastStream: 1, error: "INTERNAL_ERROR" }]);
  expect(scene.takeInternalErrors()).toMatchObject([{ message: "a mistake of the test" }]);
  expect(client.raw.received()).not.toContain("a mistake");
});
