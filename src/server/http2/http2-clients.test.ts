import { once } from "node:events";
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect as connectHttp2,
  constants,
} from "node:http2";
import { connect, createServer, type Server } from "node:net";
import { pipeline } from "node:stream";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { createHpackWriter, type LiteralKind } from "../../../test/support/hpack-writer.ts";
import { END_HEADERS, frame } from "../../../test/support/http2-frames.ts";
import { bytesOf, data, openHttp2Scene } from "../../../test/support/http2-scene.ts";
import { listen } from "../../../test/support/listen.ts";
import { seededRandom } from "../../../test/support/seeded-random.ts";

interface Asked {
  readonly path: string;
  /** Of the body, and of the pieces that it is written in. */
  readonly bytes: number;
  readonly pieceBytes: number;
  /** After so many pieces, or with the head of the answer. */
  readonly resetAfter: number | "response" | undefined;
}

interface Answered {
  readonly body: string;
  readonly trailer: unknown;
  readonly wasReset: boolean;
}

test("Node's client gets all its answers, however many it asks for at once, and wherever what is sent is cut", async () => {
  const bytes = fc.oneof(
    fc.constantFrom(0, 1, 16_384, 65_535, 65_536, 65_537),
    fc.nat(1_000),
    fc.nat(300_000),
  );
  const path = fc.oneof(
    fc.constantFrom("/echo", "/echo", "/trailers", "/fall", "/other"),
    bytes.map((count) => `/bytes/${count}`),
  );
  const asked: fc.Arbitrary<Asked> = fc.record({
    path,
    bytes,
    pieceBytes: fc.constantFrom(1_000, 16_384, 50_000, 300_000),
    resetAfter: fc.oneof(
      { weight: 5, arbitrary: fc.constant(undefined) },
      fc.constantFrom<(number | "response")[]>(0, 1, 2, 5, "response"),
    ),
  });
  const settings = fc.record(
    {
      initialWindowSize: fc.constantFrom(1_000, 65_535, 1_000_000),
      headerTableSize: fc.constantFrom(0, 100, 4_096, 65_536),
    },
    { requiredKeys: [] },
  );
  const counts = { whole: 0, reset: 0, plain: 0, node: 0 };
  await fc.assert(
    fc.asyncProperty(
      fc.array(asked, { minLength: 1, maxLength: 12 }),
      settings,
      fc.integer(),
      async (all, clientSettings, seed) => {
        const clock = new FakeClock();
        await using scene = await openHttp2Scene({ clock });
        const relay = createCuttingRelay(scene.port, { random: seededRandom(seed), clock });
        const session = connectHttp2(`http://127.0.0.1:${await listen(relay)}`, { settings: clientSettings });
        const answers = await Promise.all(all.map((each, i) => ask(session, each, bodyOf(each, i))));
        for (const [i, answer] of answers.entries()) {
          const request = all[i];
          if (request === undefined) continue;
          counts[answer.wasReset ? "reset" : "whole"] += 1;
          // One that is whole before it can be taken back is right as well.
          if (!answer.wasReset || request.resetAfter === undefined)
            expectRight(request, bodyOf(request, i), answer);
        }
        for (const text of scene.answered) counts[text.startsWith("plain") ? "plain" : "node"] += 1;
        // A stream that was left behind would keep its connection open, in which nothing else is under way.
        const drained = scene.server[Symbol.asyncDispose]();
        await clock.advance(1_000);
        await eventually(() => scene.server.connectionCount === 0);
        await drained;
        expect(scene.drops).toEqual([]);
        session.destroy();
        relay.close();
        await once(relay, "close");
      },
    ),
    { numRuns: 25 },
  );
  // Of each, so that this says something.
  for (const count of Object.values(counts)) expect(count).toBeGreaterThan(5);
}, 120_000);

/** Passes everything on, cut where chance has it, in several turns. Time goes on with it. */
function createCuttingRelay(
  port: number,
  { random, clock }: { readonly random: () => number; readonly clock: FakeClock },
): Server {
  let isAdvancing = false;
  async function* cut(source: AsyncIterable<Buffer>) {
    for await (const chunk of source) {
      for (let at = 0; at < chunk.length; ) {
        const end = at + 1 + Math.floor(random() ** 4 * chunk.length);
        yield chunk.subarray(at, end);
        at = end;
        await setImmediate();
        if (isAdvancing || random() > 0.05) continue;
        isAdvancing = true;
        await clock.advance(50);
        isAdvancing = false;
      }
    }
  }
  return createServer({ noDelay: true }, (client) => {
    const server = connect({ port, host: "127.0.0.1", noDelay: true });
    pipeline(client, cut, server, () => {});
    pipeline(server, cut, client, () => {});
  });
}

/** No two of those that are asked at once begin alike. */
function bodyOf({ bytes }: Asked, i: number): string {
  return `${i}:${bytesOf(bytes)}`.slice(0, bytes);
}

async function ask(session: ClientHttp2Session, asked: Asked, body: string): Promise<Answered> {
  const stream = session.request({ ":method": "POST", ":path": asked.path });
  const pieces: string[] = [];
  let trailer: unknown;
  stream.setEncoding("latin1");
  stream.on("data", (text: string) => pieces.push(text));
  stream.on("trailers", (trailers) => {
    trailer = trailers["x-trailer"];
  });
  stream.on("error", () => {});
  const closed = new Promise<void>((resolve) => stream.once("close", resolve));
  if (asked.resetAfter === "response") stream.once("response", () => takeBack(stream));
  await Promise.race([writeBody(stream, Buffer.from(body, "latin1"), asked), closed]);
  await closed;
  return { body: pieces.join(""), trailer, wasReset: stream.rstCode !== constants.NGHTTP2_NO_ERROR };
}

async function writeBody(
  stream: ClientHttp2Stream,
  body: Buffer,
  { pieceBytes, resetAfter }: Asked,
): Promise<void> {
  for (let at = 0, count = 0; at < body.length; at += pieceBytes, count += 1) {
    if (count === resetAfter) takeBack(stream);
    if (stream.closed) return;
    await new Promise((resolve) => stream.write(body.subarray(at, at + pieceBytes), resolve));
  }
  stream.end();
}

function takeBack(stream: ClientHttp2Stream): void {
  stream.close(constants.NGHTTP2_CANCEL);
}

function expectRight({ path }: Asked, body: string, answer: Answered): void {
  const longer = `node POST ${body}`;
  const isPlain = answer.body !== longer && path !== "/other" && path !== "/fall";
  const [, count] = /^\/bytes\/(\d+)$/.exec(path) ?? [];
  const shorter = count === undefined ? `plain ${body}` : bytesOf(Number(count));
  const isRight = answer.body === (isPlain ? shorter : longer);
  expect({
    path,
    isRight,
    bytes: answer.body.length,
    wasReset: answer.wasReset,
    trailer: answer.trailer,
  }).toEqual({
    ...{ path, isRight: true, bytes: answer.body.length, wasReset: false },
    trailer: isPlain && path === "/trailers" ? "1" : undefined,
  });
}

test("Node's client gets an answer to what it has not sent all of, and its other answers", async () => {
  await using scene = await openHttp2Scene();
  const session = await scene.openSession();
  const stream = session.request({ ":method": "POST", ":path": "/hold" });
  const pieces: string[] = [];
  stream.setEncoding("latin1");
  stream.on("data", (text: string) => pieces.push(text));
  stream.write(Buffer.alloc(1_000_000));
  await eventually(() => scene.held.length === 1);
  scene.held[0]?.response.writeHead(413, {});
  scene.held[0]?.response.end(Buffer.from("too large"));
  const [[{ ":status": status }]] = await Promise.all([once(stream, "response"), once(stream, "close")]);
  expect({ status, body: pieces.join(""), code: stream.rstCode }).toEqual({
    ...{ status: 413, body: "too large", code: constants.NGHTTP2_NO_ERROR },
  });
  const large = { path: "/echo", bytes: 60_000, pieceBytes: 60_000, resetAfter: undefined };
  for (let i = 0; i < 10; i++)
    expectRight(large, bodyOf(large, i), await ask(session, large, bodyOf(large, i)));
});

test("whatever a client remembers, and lets us remember, requests are those that it meant", async () => {
  const ways = {
    kind: fc.constantFrom<LiteralKind[]>("added", "plain", "never indexed"),
    isHuffman: fc.boolean(),
    refers: fc.boolean(),
  };
  const field = fc.record({
    name: fc.constantFrom("x-a", "x-b"),
    value: fc.constantFrom("1", "2", "x".repeat(2_000)),
    ...ways,
  });
  const asked = fc.record({
    path: fc.constantFrom("/echo", "/echo", "/later", "/other"),
    how: fc.record(ways),
    fields: fc.array(field, { maxLength: 2 }),
    resize: fc.option(fc.constantFrom(0, 60, 4_096), { nil: undefined, freq: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(asked, { minLength: 1, maxLength: 40 }), async (all) => {
      await using scene = await openHttp2Scene();
      const client = await scene.connect();
      const writer = createHpackWriter();
      for (const [i, { path, how, fields, resize }] of all.entries()) {
        const block = [
          resize === undefined ? "" : writer.resize(resize),
          ...["POST", "http", path].map((value, at) =>
            writer.field({ name: [":method", ":scheme", ":path"][at] ?? "", value, ...how }),
          ),
          ...fields.map((one) => writer.field(one)),
        ];
        client.say(
          frame("HEADERS", { stream: 2 * i + 1, flags: END_HEADERS, payload: block.join("") }),
          data(2 * i + 1, String(i), { ends: true }),
        );
      }
      await client.isHeard();
      await eventually(() => scene.answered.length + scene.later.length === all.length);
      const bodies = (of: string) => all.flatMap(({ path }, i) => (path === of ? [String(i)] : []));
      expect(scene.later.map(({ body }) => body)).toEqual(bodies("/later"));
      expect(scene.answered.filter((text) => text.startsWith("plain"))).toEqual(
        bodies("/echo").map((body) => `plain ${body}`),
      );
      expect(scene.answered.filter((text) => text.startsWith("node"))).toEqual(
        bodies("/other").map((body) => `node POST ${body}`),
      );
    }),
    { numRuns: 50 },
  );
}, 60_000);
