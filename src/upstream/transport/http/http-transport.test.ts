import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline, Readable } from "node:stream";
import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { FakeClock } from "../../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../../test/support/fake-upstream.ts";
import { FlagEvaluatorService, GetKilledFlagsResponseSchema } from "../../../gen/pbflags/v1/evaluator_pb.ts";
import { DeadlineError, withDeadline } from "../deadline.ts";
import { openTransport, type TransportOptions } from "../open-transport.ts";
import type { Transport } from "../transport.ts";

const { getKilledFlags } = FlagEvaluatorService.method;
const ANSWER = toBinary(
  GetKilledFlagsResponseSchema,
  create(GetKilledFlagsResponseSchema, { flagIds: ["a/1"] }),
);

test("sends what Connect wants, with the time that is left and the headers it was given", async () => {
  const seen: unknown[] = [];
  await using server = await listen((request, response) => {
    const {
      "content-type": type,
      "connect-protocol-version": version,
      "connect-timeout-ms": timeout,
    } = request.headers;
    seen.push([request.method, request.url, type, version, timeout, request.headers["traceparent"]]);
    answer(response);
  });
  await using client = openClient(`${server.url}/behind/a/prefix/`, {
    headers: () => ({ traceparent: "00-1-2-01" }),
  });
  expect((await ask(client)).flagIds).toEqual(["a/1"]);
  const path = "/behind/a/prefix/pbflags.v1.FlagEvaluatorService/GetKilledFlags";
  expect(seen).toEqual([["POST", path, "application/proto", "1", "500", "00-1-2-01"]]);
});

test("keeps its connection, and notices when the other side has closed it meanwhile", async () => {
  let connections = 0;
  await using server = await listen(
    (_, response) => answer(response),
    (socket) => {
      connections += 1;
      sockets.push(socket);
    },
  );
  const sockets: Socket[] = [];
  await using client = openClient(server.url);
  await ask(client);
  await ask(client);
  expect(connections).toBe(1);

  // Without a FIN having been seen by the client: the next request meets a reset.
  sockets[0]?.resetAndDestroy();
  expect((await ask(client)).flagIds).toEqual(["a/1"]);
  expect(connections).toBe(2);
});

test("sends credentials that are in the URL, and never shows them", async () => {
  const seen: unknown[] = [];
  await using server = await listen((request, response) => {
    seen.push(request.headers.authorization);
    response.writeHead(401).end();
  });
  const url = server.url.replace("://", "://bob:p%40ss@");
  await using client = openClient(url);
  await expect(ask(client)).rejects.toSatisfy((error: Error) => !String(error.stack).includes("p@ss"));
  expect(client.target).toBe(server.url);
  expect(seen).toEqual([`Basic ${Buffer.from("bob:p@ss").toString("base64")}`]);
});

test("speaks to a Unix socket", async () => {
  const folder = mkdtempSync(join(tmpdir(), "pbflagd-client-"));
  // Nothing in it is encoded, or means what it would in another URL.
  const path = join(folder, "a#b?c d%20e%zz");
  const server = createHttpServer((_, response) => answer(response)).listen(path);
  await once(server, "listening");
  {
    await using client = openClient(`unix://${path}`);
    expect(client.target).toBe(`unix://${path}`);
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
  }
  server.close();
  await once(server, "close");
  rmSync(folder, { recursive: true });
});

test.each([
  ["", "no URL"],
  ["localhost:9201", "localhost:"],
  ["ftp://bob:hunter2@host", "ftp:"],
  ["unix:relative", "unix:"],
  ["unix://host/path", "unix:"],
  ["http://bob:%zz@host", "a % that encodes nothing"],
  ["http://bob:hunter2@host:0", "port 0"],
  ["grpc://bob:hunter2@host:0/a", "port 0"],
  ["http://bob:hunter2@host?a", "http:"],
  ["HTTP://host", "HTTP:"],
  ["unix:///", "unix:"],
  [`unix:///${"s".repeat(103)}`, "a path of more than 103 bytes"],
  ["http://bob:hunter2@host\n", "one with a control character"],
])("refuses the URL %j without repeating it", (url, got) => {
  expect(() => openClient(url)).toThrow(
    `Cannot use upstream a: url must be http://…, https://…, grpc://…, grpcs://…, unix:///… or exec:…, got ${got}`,
  );
});

test.each<[string, RequestListener, object]>([
  [
    "an error of the service",
    (_, response) => json(response, 404, { code: "not_found", message: "no such flag" }),
    { code: "not_found", answered: true },
  ],
  [
    "401 without Connect's error",
    (_, response) => response.writeHead(401).end("no"),
    { code: "unauthenticated" },
  ],
  ["404 of another server", (_, response) => json(response, 404, { error: "?" }), { code: "unimplemented" }],
  [
    "503 of a proxy on the way",
    (_, response) => response.writeHead(503).end("<html>"),
    { code: "unavailable" },
  ],
  ["a status that says nothing", (_, response) => response.writeHead(302).end(), { code: "unknown" }],
  ["an error that is not JSON", (_, response) => json(response, 500, "{"), { code: "unknown" }],
  [
    "a web page",
    (_, response) => response.setHeader("content-type", "text/html").end("<html>"),
    { code: "answer" },
  ],
  ["JSON with status 200", (_, response) => json(response, 200, { code: "internal" }), { code: "answer" }],
  ["garbage", (_, response) => answer(response, Buffer.from([0x0a, 0xff, 0xff])), { code: "answer" }],
  [
    "text that is not UTF-8",
    (_, response) => answer(response, Buffer.from([0x0a, 1, 0xff])),
    { code: "answer" },
  ],
  [
    "more than a sensible answer",
    (_, response) => endless(response),
    { code: "answer", message: expect.stringContaining("at most 8388608 bytes") },
  ],
  [
    "half an answer",
    (_, response) => {
      response.writeHead(200, { "content-type": "application/proto", "content-length": "100" });
      response.write("x", () => response.destroy());
    },
    { code: "connection" },
  ],
])("an upstream that answers %s is an error that says so", async (_, listener, expected) => {
  await using server = await listen(listener);
  await using client = openClient(server.url);
  await expect(ask(client)).rejects.toMatchObject({ name: "UpstreamError", answered: false, ...expected });
});

test("nothing listens", async () => {
  const server = await listen(() => {});
  await server[Symbol.asyncDispose]();
  await using client = openClient(server.url);
  await expect(ask(client)).rejects.toMatchObject({ code: "connection", cause: { code: "ECONNREFUSED" } });
});

test("what does not speak HTTP is an error", async () => {
  const tcp = createTcpServer((socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n")).listen(0, "127.0.0.1");
  await once(tcp, "listening");
  await using client = openClient(urlOf(tcp));
  await expect(ask(client)).rejects.toMatchObject({ code: "connection" });
  tcp.close();
});

test.each<[string, RequestListener]>([
  ["hangs", () => {}],
  [
    "sends half an answer and hangs",
    (_, response) => {
      response.writeHead(200, { "content-type": "application/proto", "content-length": "100" });
      response.write("x");
    },
  ],
])("an upstream that %s is given up at the deadline", async (_, listener) => {
  const clock = new FakeClock();
  await using server = await listen((request, response) => {
    listener(request, response);
    arrived.resolve();
  });
  const arrived = deferred();
  await using client = openClient(server.url, { clock });
  const asking = ask(client, clock).catch((error: unknown) => error);
  await arrived.promise;
  await clock.advance(499);
  expect(clock.sleeperCount).toBe(1);
  await clock.advance(1);
  expect(await asking).toEqual(new DeadlineError("no answer within 500 ms"));
});

test("an upstream that drips a byte at a time is given up at the deadline", async () => {
  const clock = new FakeClock();
  let dripped = 0;
  const enough = deferred();
  await using server = await listen((_, response) => {
    response.writeHead(200, { "content-type": "application/proto", "content-length": "100000" });
    const drip = () => {
      if (response.destroyed) return;
      dripped += 1;
      if (dripped === 5) enough.resolve();
      response.write("x", () => setImmediate(drip));
    };
    drip();
  });
  await using client = openClient(server.url, { clock });
  const asking = ask(client, clock).catch((error: unknown) => error);
  await enough.promise;
  await clock.advance(500);
  expect(await asking).toBeInstanceOf(DeadlineError);
});

test("what is over before it begins sends nothing", async () => {
  let requests = 0;
  await using server = await listen((_, response) => {
    requests += 1;
    answer(response);
  });
  await using client = openClient(server.url);
  const signal = AbortSignal.abort(new DeadlineError("too late"));
  await expect(client.call(getKilledFlags, {}, { at: 0, signal })).rejects.toThrow("too late");
  expect(requests).toBe(0);
});

test("a deadline that was met leaves no timer behind, and ends what was still under way", async () => {
  const clock = new FakeClock();
  let signal: AbortSignal | undefined;
  const result = await withDeadline({ timeoutMs: 500, clock }, async (deadline) => {
    signal = deadline.signal;
    return deadline.at;
  });
  expect(result).toBe(500);
  expect(clock.sleeperCount).toBe(0);
  expect(signal?.aborted).toBe(true);
});

function openClient(url: string, options: Partial<TransportOptions> = {}): Transport {
  return openTransport({
    settings: upstreamSettings({ name: "a", url }),
    clock: new FakeClock(),
    ...options,
  });
}

function ask(client: Transport, clock = new FakeClock()) {
  return withDeadline({ timeoutMs: 500, clock }, (deadline) => client.call(getKilledFlags, {}, deadline));
}

type Response = Parameters<RequestListener>[1];

function answer(response: Response, body: Uint8Array = ANSWER): void {
  response.writeHead(200, { "content-type": "application/proto" }).end(body);
}

function json(response: Response, status: number, body: unknown): void {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  response.writeHead(status, { "content-type": "application/json" }).end(text);
}

function endless(response: Response): void {
  response.writeHead(200, { "content-type": "application/proto" });
  pipeline(Readable.from(repeat(Buffer.alloc(64 * 1024))), response, () => {});
}

function* repeat<T>(item: T): Generator<T> {
  for (;;) yield item;
}

async function listen(listener: RequestListener, onConnection: (socket: Socket) => void = () => {}) {
  const server = createHttpServer(listener).on("connection", onConnection).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: urlOf(server),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      if (server.listening) await once(server.close(), "close");
    },
  };
}

function urlOf(server: Server): string {
  const address = server.address();
  return `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`;
}

function deferred() {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
