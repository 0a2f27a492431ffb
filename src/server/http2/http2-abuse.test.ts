import { connect } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { END_HEADERS, END_STREAM, frame, PREFACE, SETTINGS } from "../../../test/support/http2-frames.ts";
import { openRaw, type RawConnection } from "../../../test/support/wire-clients.ts";
import { DEFAULT_LIMITS } from "../../../test/wire/serve-memory.ts";
import { type DropReason, type HttpServer, openHttpServer } from "../http-server.ts";
import type { HttpResponse, RequestHandler } from "../listener/exchange.ts";

const opened: { readonly server: HttpServer; readonly client: RawConnection }[] = [];

afterEach(async () => {
  for (const { server, client } of opened.splice(0)) {
    client.socket.destroy();
    await eventually(() => server.connectionCount === 0);
    await server[Symbol.asyncDispose]();
  }
});

/** A client whose frames the test writes, of a server whose clock stands still and whose answers are the test's. */
async function openScene(plainHttp2?: RequestHandler["plainHttp2"]) {
  const drops: DropReason[] = [];
  const waiting: HttpResponse[] = [];
  const server = await openHttpServer({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits: DEFAULT_LIMITS,
    drainTimeoutMs: 0,
    clock: new FakeClock(),
    handle: Object.assign(
      (_: unknown, response: HttpResponse) => void waiting.push(response),
      plainHttp2 === undefined ? {} : { plainHttp2 },
    ),
    onDrop: (reason) => drops.push(reason),
    onInternalError: (error) => {
      throw error;
    },
  });
  const port = server.address.kind === "tcp" ? server.address.port : 0;
  const client = await openRaw(port);
  opened.push({ server, client });
  client.socket.write(PREFACE + SETTINGS, "latin1");
  const say = (frames: string) => client.socket.write(frames, "latin1");
  return { ...client, port, say, drops, waiting };
}

/** A GET, with more in its header block or without. */
function get(stream: number, flags = END_HEADERS | END_STREAM, more = ""): string {
  return frame("HEADERS", { flags, stream, payload: `\x82\x86\x84${more}` });
}

describe("streams that break the protocol once they are open", () => {
  test.for([
    { how: "DATA after their end", say: (stream: number) => frame("DATA", { flags: END_STREAM, stream }) },
    { how: "trailers after their end", say: (stream: number) => get(stream) },
  ])("are too much in their thousands: $how", async ({ say: sayMore }) => {
    const { say, drops, closed, received } = await openScene();
    for (let i = 0; i < 1_000; i++) say(get(2 * i + 1) + sayMore(2 * i + 1));
    await closed;
    expect(drops).toEqual(["flood"]);
    expect(received()).toContain("too many frames");
  });

  test("are too much in their thousands: another length than they said", async () => {
    const { say, drops, closed, waiting } = await openScene();
    // content-length, by its index, is "5".
    for (let i = 0; i < 1_000; i++) say(get(2 * i + 1, END_HEADERS | END_STREAM, "\x0f\x0d\x015"));
    await closed;
    expect({ drops, asked: waiting.length }).toEqual({ drops: ["flood"], asked: 0 });
  });
});

function answer(response: HttpResponse, bytes: number): void {
  response.writeHead(200, {});
  response.end(Buffer.alloc(bytes));
}

/** "I take so many more bytes", of a stream or of the connection. */
function windowUpdate(stream: number, bytes: number): string {
  const update = Buffer.from([0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  update.writeUInt32BE(stream, 5);
  update.writeUInt32BE(bytes, 9);
  return update.toString("latin1");
}

test("a client that says of every 4 KiB of its answers that it has taken them is served for as long as it likes", async () => {
  const BYTES = 1_000_000;
  const STEP = 4_096;
  const { say, drops, received, waiting } = await openScene();
  // INITIAL_WINDOW_SIZE.
  say(frame("SETTINGS", { payload: "\0\x04\0\x10\0\0" }) + windowUpdate(0, 2 ** 20));
  for (let i = 0; i < 20; i++) {
    const stream = 2 * i + 1;
    const before = received().length;
    say(get(stream));
    await eventually(() => waiting.length > 0 || drops.length > 0);
    expect(drops).toEqual([]);
    for (const response of waiting.splice(0)) answer(response, BYTES);
    await eventually(() => received().length > before + BYTES);
    say((windowUpdate(0, STEP) + windowUpdate(stream, STEP)).repeat(BYTES / STEP));
  }
});

test("a client that says of each answer, however short, that it has taken it, and pings, is too", async () => {
  const { say, drops, received, waiting } = await openScene();
  for (let i = 0; i < 12_000; i += 100) {
    const streams = Array.from({ length: 100 }, (_, k) => 2 * (i + k) + 1);
    say(streams.map((stream) => get(stream)).join(""));
    await eventually(() => waiting.length === streams.length || drops.length > 0);
    expect(drops).toEqual([]);
    const before = received().length;
    for (const response of waiting.splice(0)) answer(response, 10);
    await eventually(() => received().length >= before + 10 * streams.length);
    say((windowUpdate(0, 10) + frame("PING", { payload: "12345678" })).repeat(streams.length));
  }
});

describe("the same long answer, asked for many times", () => {
  const ANSWERS = 200;
  // POST instead of GET.
  const asking = Array.from({ length: ANSWERS }, (_, i) =>
    frame("HEADERS", { flags: END_HEADERS | END_STREAM, stream: 2 * i + 1, payload: "\x83\x86\x84" }),
  ).join("");

  async function openLong(bytes: number) {
    const text = "x".repeat(bytes);
    const done = { answered: 0 };
    const scene = await openScene(() => ({
      bodyBytesMax: 100,
      answer(_, exchange) {
        exchange.reply("\x88", text, undefined);
        done.answered += 1;
      },
      cutOff() {},
    }));
    return { ...scene, done };
  }

  test("and not taken, is one piece of memory", async () => {
    const { say, done } = await openLong(1_000_000);
    const before = process.memoryUsage().arrayBuffers;
    say(asking);
    await eventually(() => done.answered === ANSWERS);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  test("is not copied all at once for a client that opens its windows", async () => {
    const BYTES = 2_000_000;
    const { port, done } = await openLong(BYTES);
    const socket = connect(port, "127.0.0.1");
    const before = process.memoryUsage.rss();
    let [received, most] = [0, before];
    socket.on("data", (chunk) => {
      received += chunk.length;
      most = Math.max(most, process.memoryUsage.rss());
    });
    // INITIAL_WINDOW_SIZE.
    socket.write(PREFACE + frame("SETTINGS", { payload: "\0\x04\0\0\0\0" }) + asking, "latin1");
    await eventually(() => done.answered === ANSWERS);
    socket.write(
      frame("SETTINGS", { payload: "\0\x04\x7f\xff\xff\xff" }) + windowUpdate(0, 2 ** 31 - 65_536),
      "latin1",
    );
    await eventually(() => received >= ANSWERS * BYTES);
    socket.destroy();
    expect(most - before).toBeLessThan((ANSWERS * BYTES) / 2);
  });
});

test("a client that makes its header table smaller in the middle of an answer is told so before the trailers", async () => {
  const { say, received, waiting } = await openScene();
  // INITIAL_WINDOW_SIZE.
  say(frame("SETTINGS", { payload: "\0\x04\0\0\0\0" }) + get(1));
  await eventually(() => waiting.length === 1);
  for (const response of waiting) {
    response.writeHead(200, {});
    response.addTrailers({ "x-end": "1" });
    response.end(Buffer.from("body"));
  }
  // HEADER_TABLE_SIZE.
  say(frame("SETTINGS", { payload: "\0\x01\0\0\0\0" }) + windowUpdate(1, 100));
  await eventually(() => received().includes("x-end"));
  const trailers = { flags: END_HEADERS | END_STREAM, stream: 1, payload: "\x20\0\x05x-end\x011" };
  expect(received().endsWith(frame("HEADERS", trailers))).toBe(true);
});

test.for([
  { how: "that was used", stream: 3 },
  { how: "that was passed over", stream: 1 },
])("a client that begins a request on a stream $how is told that this is the end", async ({ stream }) => {
  const { say, received, waiting, closed } = await openScene();
  say(get(3));
  await eventually(() => waiting.length === 1);
  for (const response of waiting) answer(response, 1);
  // Trailers may have been on their way when the stream was closed.
  say(frame("HEADERS", { flags: END_HEADERS | END_STREAM, stream: 3, payload: "\0\x05x-end\x011" }));
  say(get(5));
  await eventually(() => waiting.length === 2);
  say(get(stream));
  await closed;
  expect(received().endsWith("\0\0\0\x05a stream is used again")).toBe(true);
});
