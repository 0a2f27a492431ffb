import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { damage, someHarm } from "../../../test/support/damage.ts";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { openRaw, type RawConnection } from "../../../test/support/wire-clients.ts";
import { DEFAULT_LIMITS } from "../../../test/wire/serve-memory.ts";
import { systemClock } from "../../system/clock.ts";
import { type DropReason, type HttpServer, type HttpServerOptions, openHttpServer } from "../http-server.ts";
import type { HttpRequest, HttpResponse, RequestHandler } from "./exchange.ts";
import type { ConnectionLimits } from "./node-servers.ts";
import type { PlainExchange, PlainHandler } from "./plain-route.ts";

/** More than the system holds for a client that does not read. */
const LARGE = "x".repeat(20_000_000);

/** Who answers says so, and what the body was. */
interface Opened {
  readonly server: HttpServer;
  readonly port: number;
  readonly drops: readonly DropReason[];
  /** What was answered, by whom: `plain 1`, `node 2`. */
  readonly answered: readonly string[];
  /** Requests to /later, for the test to answer. To /large the answer is that, and what comes to /fall falls through. */
  readonly later: readonly { readonly exchange: PlainExchange; readonly body: string }[];
  /** Paths of requests that were cut off. */
  readonly cutOff: readonly string[];
}

const opened: HttpServer[] = [];
const clients: RawConnection[] = [];

afterEach(async () => {
  for (const { socket } of clients.splice(0)) socket.destroy();
  for (const server of opened.splice(0)) {
    await eventually(() => server.connectionCount === 0);
    await server[Symbol.asyncDispose]();
  }
});

async function open(
  limits: Partial<ConnectionLimits> = {},
  options: Partial<HttpServerOptions> = {},
): Promise<Opened> {
  const drops: DropReason[] = [];
  const answered: string[] = [];
  const later: { exchange: PlainExchange; body: string }[] = [];
  const cutOff: string[] = [];

  const answerPlain: PlainHandler<PlainExchange> = ({ path }) => {
    if (!["/echo", "/large", "/later", "/fall"].includes(path)) return undefined;
    return {
      bodyBytesMax: 64 * 1_024,
      answer(bytes, exchange) {
        const body = bytes.toString("latin1");
        if (path === "/later") {
          later.push({ exchange, body });
        } else if (path === "/fall") {
          exchange.fallThrough();
        } else {
          answered.push(`plain ${body}`);
          if (path === "/large") exchange.reply(`content-length: ${LARGE.length}\r\n`, LARGE);
          else replyTo(exchange, body);
        }
      },
      cutOff: () => cutOff.push(path),
    };
  };
  const handle = (request: HttpRequest, response: HttpResponse) => {
    let body = "";
    request.setEncoding("latin1");
    request.on("data", (text: string) => {
      body += text;
    });
    request.once("end", () => {
      const text = `node ${body}`;
      answered.push(text);
      response.writeHead(200, { "content-length": text.length });
      response.end(Buffer.from(text, "latin1"));
    });
  };
  const both: RequestHandler = Object.assign(handle, { plain: answerPlain });
  const server = await openHttpServer({
    address: { kind: "tcp", host: "127.0.0.1", port: 0 },
    limits: { ...DEFAULT_LIMITS, ...limits },
    drainTimeoutMs: 5_000,
    clock: systemClock,
    handle: both,
    onDrop: (reason) => drops.push(reason),
    onInternalError: (error) => {
      throw error;
    },
    ...options,
  });
  opened.push(server);
  const port = server.address.kind === "tcp" ? server.address.port : 0;
  return { server, port, drops, answered, later, cutOff };
}

function replyTo(exchange: PlainExchange, body: string): void {
  exchange.reply(`content-length: ${"plain ".length + body.length}\r\n`, `plain ${body}`);
}

async function connectTo({ port }: Opened): Promise<RawConnection> {
  const client = await openRaw(port);
  clients.push(client);
  return client;
}

function post(path: string, body: string, ...lines: readonly string[]): string {
  const head = [`POST ${path} HTTP/1.1`, "host: a", `content-length: ${body.length}`, ...lines];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

const echo = (body: string) => post("/echo", body);

/** Says both, and is heard out in between. */
async function sayInTwo({ socket }: RawConnection, first: string, second: string): Promise<void> {
  await say(socket, first);
  socket.write(second, "latin1");
}

/** Resolves when it is said and the server, which is in this process, has had its turn. */
async function say(socket: RawConnection["socket"], text: string): Promise<void> {
  await new Promise((resolve) => socket.write(text, "latin1", resolve));
  for (let i = 0; i < 3; i++) await setImmediate();
}

interface Answer {
  readonly status: string;
  readonly connection: string | undefined;
  readonly body: string;
}

/** As far as they are whole. */
function answersOf({ received }: RawConnection): readonly Answer[] {
  const text = received();
  const answers: Answer[] = [];
  for (let at = 0; ; ) {
    const headEnd = text.indexOf("\r\n\r\n", at);
    const head = text.slice(at, headEnd);
    const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
    const end = headEnd + 4 + length;
    if (headEnd === -1 || end > text.length) return answers;
    const [, status = ""] = /^HTTP\/1\.1 (\d+)/.exec(head) ?? [];
    const [, connection] = /\r\nConnection: (.*)/.exec(head) ?? [];
    answers.push({ status, connection, body: text.slice(headEnd + 4, end) });
    at = end;
  }
}

const bodiesOf = (client: RawConnection) => answersOf(client).map(({ body }) => body);
const statusesOf = ({ received }: RawConnection) =>
  [...received().matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);

async function expectBodies(client: RawConnection, ...bodies: readonly string[]): Promise<void> {
  await eventually(() => answersOf(client).length >= bodies.length);
  expect(bodiesOf(client)).toEqual(bodies);
}

describe("plain requests", () => {
  test("are answered as Node's server answers", async () => {
    const server = await open({ idleTimeoutMs: 42_900 });
    const [plain, node] = [await connectTo(server), await connectTo(server)];
    plain.socket.write(echo("1"));
    node.socket.write(post("/other", "23"));
    await expectBodies(plain, "plain 1");
    await expectBodies(node, "node 23");
    const shape = ({ received }: RawConnection) =>
      received().replace(/Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT/, "DATE");
    expect(shape(plain).replace("plain 1", "BODY")).toBe(shape(node).replace("node 23", "BODY"));
    expect(plain.received()).toContain("\r\nKeep-Alive: timeout=42\r\n");
  });

  test("may all come in one piece", async () => {
    const server = await open();
    const client = await connectTo(server);
    const bodies = Array.from({ length: 1_000 }, (_, i) => String(i));
    client.socket.write(bodies.map(echo).join(""));
    await expectBodies(client, ...bodies.map((body) => `plain ${body}`));
    expect(server.answered).toHaveLength(1_000);
  });

  test("may be cut anywhere", async () => {
    const server = await open();
    const text = echo("1") + echo("") + echo("\r\n\r\nPOST ");
    const expected = ["plain 1", "plain ", "plain \r\n\r\nPOST "];
    await Promise.all(
      Array.from({ length: text.length - 1 }, async (_, i) => {
        const client = await connectTo(server);
        await sayInTwo(client, text.slice(0, i + 1), text.slice(i + 1));
        await expectBodies(client, ...expected);
      }),
    );
    expect(server.answered).toHaveLength(3 * (text.length - 1));
  });

  test("keep their bytes, whatever those are", async () => {
    const server = await open();
    const client = await connectTo(server);
    const body = Buffer.from(Array.from({ length: 256 }, (_, i) => i)).toString("latin1");
    client.socket.write(echo(body), "latin1");
    await expectBodies(client, `plain ${body}`);
    expect(server.answered).toEqual([`plain ${body}`]);
  });

  test("need not be small", async () => {
    const server = await open();
    const client = await connectTo(server);
    const large = "x".repeat(64 * 1_024);
    client.socket.write(echo(large) + echo(large) + echo(`${large}x`) + echo("1"));
    await expectBodies(client, `plain ${large}`, `plain ${large}`, `node ${large}x`, "node 1");
    expect(server.answered).toHaveLength(4);
  });
});

/** Each is answered with its body `2`, by Node's server, and another may follow. */
const UNUSUAL: Readonly<Record<string, string>> = {
  "another path": post("/other", "2"),
  "another method": "PUT /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n2",
  "a body in chunks":
    "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n",
  "an empty line before it": `\r\n${echo("2")}`,
  "a field twice": post("/echo", "2", "x-a: 1", "x-a: 1"),
  "a long head": post("/echo", "2", `x-a: ${"a".repeat(5_000)}`),
  "what falls through": post("/fall", "2"),
};

describe("from a request on that is not plain", () => {
  test.each(Object.entries(UNUSUAL))("Node's server answers, each once: %s", async (_, unusual) => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.write(echo("1") + unusual + echo("3"));
    await expectBodies(client, "plain 1", "node 2", "node 3");
    client.socket.write(echo("4"));
    await expectBodies(client, "plain 1", "node 2", "node 3", "node 4");
    expect(server.answered).toEqual(["plain 1", "node 2", "node 3", "node 4"]);
  });

  test.each(Object.entries(UNUSUAL).filter(([name]) => name !== "a long head"))(
    "Node's server answers, wherever it is cut: %s",
    async (_, unusual) => {
      const server = await open();
      const text = echo("1") + unusual + echo("3");
      await Promise.all(
        Array.from({ length: text.length - 1 }, async (_, i) => {
          const client = await connectTo(server);
          await sayInTwo(client, text.slice(0, i + 1), text.slice(i + 1));
          await expectBodies(client, "plain 1", "node 2", "node 3");
        }),
      );
      expect(server.answered).toHaveLength(3 * (text.length - 1));
    },
  );

  test.each([
    ["HTTP/1.0", "POST /echo HTTP/1.0\r\ncontent-length: 1\r\n\r\n2"],
    ["Connection: close", post("/echo", "2", "connection: close")],
    ["Proxy-Connection: close", post("/echo", "2", "proxy-connection: close")],
  ])("Node's server closes: %s", async (_, last) => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.write(echo("1") + last);
    await client.closed;
    expect(answersOf(client)).toMatchObject([
      { body: "plain 1", connection: "keep-alive" },
      { body: "node 2", connection: "close" },
    ]);
  });

  test("HEAD has no body, and what expects a word gets it", async () => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.write(`${echo("1")}HEAD /echo HTTP/1.1\r\nhost: a\r\n\r\n`);
    await eventually(() => /content-length: 5\r\n[^]*\r\n\r\n$/.test(client.received()));
    expect(client.received()).not.toContain("node");

    const waiting = await connectTo(server);
    const [head = "", body = ""] = post("/echo", "2", "expect: 100-continue").split(/(?<=\r\n\r\n)/);
    waiting.socket.write(echo("1") + head);
    await eventually(() => waiting.received().includes("100 Continue"));
    waiting.socket.write(body + echo("3"));
    await expectBodies(waiting, "plain 1", "", "node 2", "node 3");
  });

  test.each([
    ["two lengths", "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n2"],
    ["a bare LF", "POST /echo HTTP/1.1\r\nhost: a\ncontent-length: 1\r\n\r\n2"],
    ["nonsense", "no request\r\n\r\n"],
  ])("Node's server refuses: %s", async (_, refused) => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.write(echo("1") + refused + echo("3"));
    await client.closed;
    expect(statusesOf(client)).toEqual(["200", "400"]);
    expect(server.answered).toEqual(["plain 1"]);
  });
});

describe("the rest of a request", () => {
  test("that does not come is waited for by Node's server, soon", async () => {
    const clock = new FakeClock();
    const server = await open({}, { clock });
    const sleepers = clock.sleeperCount;
    const [inBody, inHead, inTime] = [
      await connectTo(server),
      await connectTo(server),
      await connectTo(server),
    ];
    await say(inBody.socket, echo("1") + echo("2-").slice(0, -1));
    await say(inHead.socket, echo("1") + echo("2-").slice(0, -9));
    await eventually(() => clock.sleeperCount === sleepers + 2);
    await clock.advance(100);
    await say(inTime.socket, echo("1") + echo("2-").slice(0, -1));
    await eventually(() => clock.sleeperCount === sleepers + 3);
    await clock.advance(100);
    expect(clock.sleeperCount).toBe(sleepers + 1);
    inBody.socket.write(`-${echo("3")}`);
    inHead.socket.write(`${echo("2-").slice(-9)}${echo("3")}`);
    inTime.socket.write(`-${echo("3")}`);
    await expectBodies(inBody, "plain 1", "node 2-", "node 3");
    await expectBodies(inHead, "plain 1", "node 2-", "node 3");
    await expectBodies(inTime, "plain 1", "plain 2-", "plain 3");
    // Nobody waits for anything any more.
    expect(clock.sleeperCount).toBe(sleepers);
    expect(server.cutOff).toEqual([]);
  });

  test("is not put together of many pieces", async () => {
    const server = await open();
    const client = await connectTo(server);
    const body = "x".repeat(40);
    const text = echo(body);
    await say(client.socket, text.slice(0, -40));
    for (const byte of body) await say(client.socket, byte);
    await expectBodies(client, `node ${body}`);
    expect(server.answered).toEqual([`node ${body}`]);
  });

  test.each([
    ["a head, the first", (whole: string) => whole.slice(0, 30)],
    ["a head, later", (whole: string) => echo("1") + whole.slice(0, 30)],
    ["a body, the first", (whole: string) => whole.slice(0, -1)],
    ["a body, later", (whole: string) => echo("1") + whole.slice(0, -1)],
  ])("is not waited for longer than Node's server does: %s", async (_, begin) => {
    const server = await open({ headerTimeoutMs: 400, requestTimeoutMs: 400 });
    const client = await connectTo(server);
    client.socket.write(begin(echo("22")));
    await client.closed;
    expect(statusesOf(client).at(-1)).toBe("408");
    expect(server.drops).toEqual([]);
  });

  test("is not read if the head is larger than heads may be", async () => {
    const server = await open({ headerBytesMax: 1_024 });
    const client = await connectTo(server);
    client.socket.write(post("/echo", "1", `x-a: ${"a".repeat(1_024)}`));
    await client.closed;
    expect(statusesOf(client)).toEqual(["431"]);
  });
});

describe("an answer that comes later", () => {
  async function openWaiting(more: string) {
    const server = await open();
    const client = await connectTo(server);
    client.socket.write(echo("1") + post("/later", "2") + more);
    await expectBodies(client, "plain 1");
    await eventually(() => server.later.length === 1);
    const [first] = server.later;
    if (first === undefined) throw new Error("nothing waits");
    return { server, client, exchange: first.exchange };
  }

  test("keeps its place", async () => {
    const { server, client, exchange } = await openWaiting(echo("3") + post("/later", "4"));
    await say(client.socket, echo("5"));
    expect(server.answered).toEqual(["plain 1"]);
    replyTo(exchange, "2");
    await expectBodies(client, "plain 1", "plain 2", "plain 3");
    await eventually(() => server.later.length === 2);
    server.later[1]?.exchange.reply("content-length: 1\r\n", "4");
    await expectBodies(client, "plain 1", "plain 2", "plain 3", "4", "plain 5");
  });

  test("keeps its place before what is not plain", async () => {
    const { server, client, exchange } = await openWaiting(post("/other", "3") + echo("4"));
    replyTo(exchange, "2");
    await expectBodies(client, "plain 1", "plain 2", "node 3", "node 4");
    expect(server.answered).toEqual(["plain 1", "node 3", "node 4"]);
  });

  test("may be left to Node's server after all, with what has come since", async () => {
    const { server, client, exchange } = await openWaiting(`${echo("3")}POST /ec`);
    await say(client.socket, echo("4").slice("POST /ec".length));
    exchange.fallThrough();
    await expectBodies(client, "plain 1", "node 2", "node 3", "node 4");
    expect(server.answered).toEqual(["plain 1", "node 2", "node 3", "node 4"]);
  });

  test("may be given up, and the connection with it", async () => {
    const { client, exchange } = await openWaiting(echo("3"));
    exchange.destroy();
    await client.closed;
    expect(bodiesOf(client)).toEqual(["plain 1"]);
  });

  test.each(["destroy", "resetAndDestroy", "end"] as const)(
    "is for nobody if the client leaves: %s",
    async (leave) => {
      for (const settle of ["reply", "fallThrough"] as const) {
        const { server, client, exchange } = await openWaiting("");
        client.socket[leave]();
        await eventually(() => server.server.connectionCount === 0);
        if (settle === "reply") replyTo(exchange, "2");
        else exchange.fallThrough();
        await client.closed;
        expect(bodiesOf(client)).toEqual(["plain 1"]);
        expect(server.answered).toEqual(["plain 1"]);
        // Whoever counts calls has counted one that is answered.
        expect(server.cutOff).toEqual(settle === "reply" ? [] : ["/later"]);
      }
    },
  );

  test("keeps a client waiting that would be closed as idle", async () => {
    const server = await open({ idleTimeoutMs: 100 });
    const [client, idle] = [await connectTo(server), await connectTo(server)];
    client.socket.write(post("/later", "1"));
    idle.socket.write(echo("1"));
    await idle.closed;
    server.later[0]?.exchange.reply("content-length: 1\r\n", "1");
    await client.closed;
    expect(bodiesOf(client)).toEqual(["1"]);
    expect(server.drops).toEqual([]);
  });
});

describe("a client that leaves", () => {
  test.each(["destroy", "resetAndDestroy"] as const)(
    "in the middle of a request is told of once: %s",
    async (leave) => {
      const server = await open();
      const [inBody, inHead] = [await connectTo(server), await connectTo(server)];
      await say(inBody.socket, echo("1") + echo("22").slice(0, -1));
      await say(inHead.socket, echo("1") + echo("22").slice(0, 20));
      await expectBodies(inBody, "plain 1");
      await expectBodies(inHead, "plain 1");
      inBody.socket[leave]();
      inHead.socket[leave]();
      await eventually(() => server.server.connectionCount === 0);
      expect(server.cutOff).toEqual(["/echo"]);
    },
  );

  test("in the middle of a request, and listens, hears that it was a bad one", async () => {
    const server = await open();
    const [inBody, inHead] = [await connectTo(server), await connectTo(server)];
    inBody.socket.end(echo("1") + echo("22").slice(0, -1));
    inHead.socket.end(echo("1") + echo("22").slice(0, 20));
    await Promise.all([inBody.closed, inHead.closed]);
    for (const client of [inBody, inHead]) {
      expect(answersOf(client)).toMatchObject([
        { status: "200", body: "plain 1" },
        { status: "400", connection: "close" },
      ]);
    }
    expect(server.cutOff).toEqual(["/echo"]);
  });

  test("after its last request, and listens, gets all answers", async () => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.end(echo("1") + echo("2"));
    await client.closed;
    expect(bodiesOf(client)).toEqual(["plain 1", "plain 2"]);
  });
});

describe("a client that asks and does not read", () => {
  const COUNT = 10_000;
  const BODY = "x".repeat(4_096);

  /** It has asked for more than the system holds for it. */
  async function openDeaf(limits: Partial<ConnectionLimits> = {}) {
    const server = await open(limits);
    const client = await connectTo(server);
    client.socket.pause();
    let left = COUNT;
    const ask = () => {
      while (left > 0 && client.socket.write(echo(`${COUNT - left--} ${BODY}`)));
      if (left === 0) client.socket.end();
    };
    client.socket.on("drain", ask);
    ask();
    return { server, client };
  }

  test("is not read from either, and gets everything in order once it reads", async () => {
    const { server, client } = await openDeaf();
    let before = -1;
    await eventually(async () => {
      const isStill = before === server.answered.length && before > 0;
      before = server.answered.length;
      return isStill;
    });
    expect(before).toBeLessThan(COUNT);
    expect(client.socket.writableLength).toBeGreaterThan(0);
    client.socket.resume();
    // It has said that it is done while much of this waited for its turn.
    await client.closed;
    const numbers = bodiesOf(client).map((body) => Number(body.split(" ")[1]));
    expect(numbers).toEqual(Array.from({ length: COUNT }, (_, i) => i));
    expect(server.answered).toHaveLength(COUNT);
    expect(server.drops).toEqual([]);
  }, 60_000);

  test("is cut after a while", async () => {
    const { server, client } = await openDeaf({ idleTimeoutMs: 300 });
    await eventually(() => server.drops.length === 1);
    expect(server.drops).toEqual(["stalled"]);
    client.socket.resume();
    await client.closed;
    expect(server.answered.length).toBeLessThan(COUNT);
  }, 60_000);

  test("gets all answers to what it asked before it left", async () => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.pause();
    const large = post("/large", "1");
    client.socket.end(large + large + echo("2") + echo("3"));
    await eventually(() => server.answered.length === 1);
    // So that the server would know of its end if it read on.
    for (let i = 0; i < 20; i++) await setImmediate();
    expect(server.answered).toEqual(["plain 1"]);
    client.socket.resume();
    await client.closed;
    expect(bodiesOf(client)).toEqual([LARGE, LARGE, "plain 2", "plain 3"]);
  });
});

test("whatever is sent, and however it is cut, is taken for the same requests as by Node's server alone", async () => {
  const [mixed, nodeAlone] = [recordRequests(), recordRequests()];
  const servers = [
    await open({}, { handle: Object.assign(mixed.handle, { plain: mixed.plain }) }),
    await open({}, { handle: nodeAlone.handle }),
  ];
  const body = fc.oneof(fc.constantFrom("", "\r\n\r\n", echo("inner")), fc.string({ maxLength: 8 }));
  const field = fc.constantFrom(
    ...["x-a: 1", "connection: keep-alive", "connection: close", "proxy-connection: close", "te: trailers"],
    ...["content-length: 3", "transfer-encoding: chunked", "x-a : 1", " folded", "x-b: \xff", "upgrade: h2c"],
  );
  const fields = fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, fc.array(field, { maxLength: 2 }));
  const path = fc.constantFrom("/echo", "/echo", "/echo", "/fall", "/other");
  const request = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.tuple(path, body, fields).map(([to, text, lines]) => post(to, text, ...lines)),
    },
    fc.constantFrom(...Object.values(UNUSUAL), "\r\n", "GET /echo HTTP/1.1\r\nhost: a\r\n\r\n"),
  );
  const requests = fc.array(request, { minLength: 1, maxLength: 5 }).map((all) => all.join(""));
  const harms = fc.oneof(fc.constant([]), someHarm({ harmsMax: 2, lengthMax: 3 }));
  const cuts = fc.array(
    fc.nat(9_999).map((share) => share / 10_000),
    { maxLength: 4 },
  );
  await fc.assert(
    fc.asyncProperty(requests, harms, cuts, async (text, done, shares) => {
      const said = Buffer.from(damage(Buffer.from(text, "latin1"), done)).toString("latin1");
      const ends = [...shares.map((share) => Math.floor(share * said.length)).toSorted((a, b) => a - b)];
      for (const server of servers) {
        const client = await connectTo(server);
        for (const [i, end] of [...ends, said.length].entries()) {
          const piece = said.slice(ends[i - 1] ?? 0, end);
          if (piece !== "" && client.socket.writable) await say(client.socket, piece);
        }
        client.socket.end();
        await client.closed;
        await eventually(() => server.server.connectionCount === 0);
      }
      expect(mixed.takeSeen(), JSON.stringify(said)).toEqual(nodeAlone.takeSeen());
    }),
    { numRuns: 1_000 },
  );
  // Of both, so that this says something.
  expect(mixed.counts.plain).toBeGreaterThan(500);
  expect(mixed.counts.node).toBeGreaterThan(500);
}, 60_000);

/** Answers everything, and remembers what the requests were, also those of which not all came. */
function recordRequests() {
  let seen: string[] = [];
  const counts = { plain: 0, node: 0 };
  const handle: RequestHandler = (request, response) => {
    counts.node += 1;
    const at = seen.push("") - 1;
    let text = "";
    request.setEncoding("latin1");
    const note = (isWhole: boolean) => {
      seen[at] = `${request.url} ${isWhole ? text : "in part"}`;
    };
    note(false);
    request.on("data", (piece: string) => {
      text += piece;
    });
    request.once("end", () => {
      note(true);
      response.writeHead(200, { "content-length": 0 });
      response.end();
    });
  };
  const plain: PlainHandler<PlainExchange> = ({ path }) => ({
    bodyBytesMax: 64 * 1_024,
    answer(bytes, exchange) {
      if (path === "/fall") {
        exchange.fallThrough();
        return;
      }
      counts.plain += 1;
      seen.push(`${path} ${bytes.toString("latin1")}`);
      exchange.reply("content-length: 0\r\n", "");
    },
    cutOff: () => seen.push(`${path} in part`),
  });
  const takeSeen = () => {
    const all = seen;
    seen = [];
    return all;
  };
  return { handle, plain, counts, takeSeen };
}

test("idle connections are closed after a while", async () => {
  const server = await open({ idleTimeoutMs: 200 });
  const client = await connectTo(server);
  client.socket.write(echo("1"));
  await client.closed;
  expect(bodiesOf(client)).toEqual(["plain 1"]);
  expect(server.drops).toEqual([]);
});

test("there are no more of them than there may be", async () => {
  const server = await open({ connectionsMax: 1 });
  const [client, other] = [await connectTo(server), await connectTo(server)];
  await other.closed;
  client.socket.write(echo("1"));
  await expectBodies(client, "plain 1");
  expect(server.drops).toEqual(["too_many_connections"]);
});

describe("draining", () => {
  test("finishes what is under way, which is the last, and closes what is idle", async () => {
    const server = await open();
    const [waiting, falling, idle] = [
      await connectTo(server),
      await connectTo(server),
      await connectTo(server),
    ];
    idle.socket.write(echo("1"));
    await expectBodies(idle, "plain 1");
    waiting.socket.write(post("/later", "1") + echo("2"));
    await eventually(() => server.later.length === 1);
    falling.socket.write(post("/later", "1"));
    await eventually(() => server.later.length === 2);
    const drained = server.server[Symbol.asyncDispose]();
    await idle.closed;
    await say(waiting.socket, echo("3"));
    server.later[0]?.exchange.reply("content-length: 1\r\n", "1");
    server.later[1]?.exchange.fallThrough();
    await Promise.all([waiting.closed, falling.closed, drained]);
    expect(answersOf(waiting)).toEqual([{ status: "200", connection: "close", body: "1" }]);
    expect(answersOf(falling)).toEqual([{ status: "200", connection: "close", body: "node 1" }]);
    expect(server.drops).toEqual([]);
  });

  test("leaves what has begun, and what comes in the same moment, to Node's server", async () => {
    const server = await open();
    const [begun, between] = [await connectTo(server), await connectTo(server)];
    await say(begun.socket, echo("1") + echo("22").slice(0, -1));
    await say(between.socket, echo("1"));
    await expectBodies(begun, "plain 1");
    await expectBodies(between, "plain 1");
    const drained = server.server[Symbol.asyncDispose]();
    begun.socket.write("2");
    between.socket.write(echo("2"));
    await Promise.all([begun.closed, between.closed, drained]);
    expect(answersOf(begun)[1]).toEqual({ status: "200", connection: "close", body: "node 22" });
    expect(answersOf(between)[1]).toEqual({ status: "200", connection: "close", body: "node 2" });
    expect(server.cutOff).toEqual([]);
  });

  test("is not held up by a client that goes on after its last answer", async () => {
    const server = await open();
    const client = await connectTo(server);
    client.socket.write(post("/later", "1"));
    await eventually(() => server.later.length === 1);
    const drained = server.server[Symbol.asyncDispose]();
    server.later[0]?.exchange.reply("content-length: 1\r\n", "1");
    await eventually(() => answersOf(client).length === 1);
    client.socket.write(echo("2").repeat(100));
    await Promise.all([client.closed, drained]);
    expect(bodiesOf(client)).toEqual(["1"]);
    expect(server.answered).toEqual([]);
  });
});
