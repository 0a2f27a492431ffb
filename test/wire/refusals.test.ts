import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EvaluateRequestSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { eventually } from "../support/eventually.ts";
import { recordSpans } from "../support/recorded-spans.ts";
import {
  openEvaluatorClients,
  openHttp2,
  openRaw,
  type PlainResponse,
  postJson,
  sendHttp1,
  sendHttp2,
} from "../support/wire-clients.ts";
import { evaluatorPath, type Served, serveMemory } from "./serve-memory.ts";

const EVALUATE = evaluatorPath("evaluate");
const PROCEDURE = "pbflags.v1.FlagEvaluatorService/Evaluate";
const GOOD = toBinary(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId: "notifications/1" }));
const GARBAGE = Buffer.from("ffffffffff", "hex");
const BODY_MAX = 64 * 1_024;

let served: Served;

beforeAll(async () => {
  served = await serveMemory({ limits: { bodyBytesMax: BODY_MAX } });
});

afterAll(async () => {
  await served[Symbol.asyncDispose]();
});

/** A message as gRPC and gRPC-web frame it. */
function envelope(message: Uint8Array, flags = 0): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt8(flags, 0);
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}

interface Refused {
  readonly status: number;
  /** gRPC's number, or Connect's name. */
  readonly code: string;
}

interface Request {
  readonly body: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

/** How each protocol sends a request and says what became of it. */
const PROTOCOLS = {
  connect: async ({ body, headers = {} }: Request): Promise<Refused> => {
    const response = await sendHttp1(served.port, {
      method: "POST",
      path: EVALUATE,
      headers: { "content-type": "application/proto", ...headers },
      body,
    });
    return { status: response.status, code: connectCode(response) };
  },
  grpc: async ({ body, headers = {} }: Request): Promise<Refused> => {
    const session = await openHttp2(served.port);
    const { status, trailers } = await sendHttp2(session, {
      method: "POST",
      path: EVALUATE,
      headers: { "content-type": "application/grpc", te: "trailers", ...headers },
      body,
    });
    session.close();
    return { status, code: String(trailers["grpc-status"]) };
  },
  "grpc-web": async ({ body, headers = {} }: Request): Promise<Refused> => {
    const response = await sendHttp1(served.port, {
      method: "POST",
      path: EVALUATE,
      headers: { "content-type": "application/grpc-web+proto", ...headers },
      body,
    });
    return { status: response.status, code: /grpc-status: (\d+)/.exec(response.body.toString())?.[1] ?? "" };
  },
} as const;

function connectCode({ status, body }: PlainResponse): string {
  return status === 200 ? "ok" : String(JSON.parse(body.toString()).code);
}

describe("a message that cannot be read", () => {
  const cases = [
    { what: "garbage", message: GARBAGE },
    { what: "half a message", message: GOOD.subarray(0, 5) },
    { what: "no text but invalid UTF-8", message: Buffer.from("0a02c328", "hex") },
    { what: "groups within groups", message: Buffer.alloc(20_000, 0x7b) },
    { what: "what is not compressed", message: GOOD, compressed: true },
    { what: "half of what is compressed", message: gzipSync(GOOD).subarray(0, 15), compressed: true },
  ];

  test.each(cases)("is the caller's mistake, and counted: $what", async ({ message, compressed = false }) => {
    const before = served.rpcs.length;
    const framed = envelope(message, compressed ? 1 : 0);
    const grpcHeaders = compressed ? { "grpc-encoding": "gzip" } : {};
    const connectHeaders = compressed ? { "content-encoding": "gzip" } : {};
    expect(await PROTOCOLS.connect({ body: message, headers: connectHeaders })).toEqual({
      status: 400,
      code: "invalid_argument",
    });
    expect(await PROTOCOLS.grpc({ body: framed, headers: grpcHeaders })).toEqual({ status: 200, code: "3" });
    expect(await PROTOCOLS["grpc-web"]({ body: framed, headers: grpcHeaders })).toEqual({
      status: 200,
      code: "3",
    });
    const counted = served.rpcs.slice(before);
    expect(counted).toMatchObject([
      { procedure: PROCEDURE, protocol: "connect", code: "invalid_argument" },
      { procedure: PROCEDURE, protocol: "grpc", code: "invalid_argument" },
      { procedure: PROCEDURE, protocol: "grpc-web", code: "invalid_argument" },
    ]);
    expect(served.internalErrors).toEqual([]);
  });
});

describe("a message that is too large", () => {
  const large = toBinary(
    EvaluateRequestSchema,
    create(EvaluateRequestSchema, { flagId: "x".repeat(10 * BODY_MAX) }),
  );
  const bomb = gzipSync(Buffer.alloc(50 * BODY_MAX));

  test("is refused as such, and read no further", async () => {
    const connect = { status: 429, code: "resource_exhausted" };
    expect(await PROTOCOLS.connect({ body: large })).toEqual(connect);
    expect(await PROTOCOLS.grpc({ body: envelope(large) })).toEqual({ status: 200, code: "8" });
    expect(await PROTOCOLS["grpc-web"]({ body: envelope(large) })).toEqual({ status: 200, code: "8" });
  });

  test("is refused when it becomes so by inflating", async () => {
    expect(bomb.length).toBeLessThan(BODY_MAX);
    const connect = { body: bomb, headers: { "content-encoding": "gzip" } };
    expect(await PROTOCOLS.connect(connect)).toEqual({ status: 429, code: "resource_exhausted" });
    const grpc = { body: envelope(bomb, 1), headers: { "grpc-encoding": "gzip" } };
    expect(await PROTOCOLS.grpc(grpc)).toEqual({ status: 200, code: "8" });
    expect(await PROTOCOLS["grpc-web"](grpc)).toEqual({ status: 200, code: "8" });
    const get = new URLSearchParams({
      encoding: "proto",
      compression: "gzip",
      base64: "1",
      message: bomb.toString("base64url"),
    });
    const { status } = await sendHttp1(served.port, { path: `${EVALUATE}?${get.toString()}` });
    expect(status).toBe(429);
  });

  test("does not take other calls of its connection along", async () => {
    const session = await openHttp2(served.port);
    const headers = { "content-type": "application/proto" };
    const send = (body: Uint8Array) => sendHttp2(session, { method: "POST", path: EVALUATE, headers, body });
    const statuses = await Promise.all(
      [GOOD, large, GOOD, large, GOOD].map(async (body) => (await send(body)).status),
    );
    expect(statuses).toEqual([200, 429, 200, 429, 200]);
    session.close();
    // Nothing is left of the bodies that were not read.
    await eventually(() => served.server.connectionCount === 0);
  });

  test("may be as large as the limit", async () => {
    const flagId = "x".repeat(BODY_MAX - 4);
    const message = toBinary(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId }));
    expect(message).toHaveLength(BODY_MAX);
    expect((await PROTOCOLS.connect({ body: message })).status).toBe(200);
    expect(await PROTOCOLS.grpc({ body: envelope(message) })).toEqual({ status: 200, code: "0" });
    expect(await PROTOCOLS["grpc-web"]({ body: envelope(message) })).toEqual({ status: 200, code: "0" });
  });

  test("costs no more when it comes a byte at a time", async () => {
    const { socket, received, closed } = await openRaw(served.port);
    const head = `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n`;
    socket.write(head + "1\r\n \r\n".repeat(BODY_MAX + 6));
    await eventually(() => received() !== "");
    expect(received()).toMatch(/^HTTP\/1\.1 429 /);
    socket.destroy();
    await closed;
  });
});

describe("a body that does not come", () => {
  test("is not waited for longer than the request may take", async () => {
    await using slow = await serveMemory({ limits: { requestTimeoutMs: 200, headerTimeoutMs: 200 } });
    const raw = await openRaw(slow.port);
    raw.socket.write(
      `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{`,
    );
    const session = await openHttp2(slow.port);
    const stream = session.request({
      ":method": "POST",
      ":path": EVALUATE,
      "content-type": "application/grpc",
    });
    stream.write(envelope(GOOD).subarray(0, 6));
    const trailers = new Promise((resolve) => stream.once("trailers", resolve));
    stream.resume();
    expect(await trailers).toMatchObject({ "grpc-status": "4" });
    await raw.closed;
    expect(raw.received()).toMatch(/^HTTP\/1\.1 (504|408) /);
    session.destroy();
  });

  test("because the client left is no error of ours", async () => {
    const before = served.rpcs.length;
    const { socket } = await openRaw(served.port);
    socket.write(
      `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{`,
    );
    socket.end();
    await eventually(() => served.rpcs.length > before);
    expect(served.rpcs.at(-1)?.code).toBe("canceled");
    expect(served.internalErrors).toEqual([]);
  });
});

describe("a caller's timeout", () => {
  test("may be as long as it likes", async () => {
    const send = (timeout: string) =>
      PROTOCOLS.connect({ body: GOOD, headers: { "connect-timeout-ms": timeout } });
    expect(await send("86400000")).toEqual({ status: 200, code: "ok" });
    expect(await send("9999999999")).toEqual({ status: 200, code: "ok" });
    expect(await send("soon")).toEqual({ status: 400, code: "invalid_argument" });
    const grpc = { body: envelope(GOOD), headers: { "grpc-timeout": "99999999H" } };
    expect(await PROTOCOLS.grpc(grpc)).toEqual({ status: 200, code: "0" });
  });
});

describe("an exception that nobody expected", () => {
  test("is told to us with its stack and to nobody else", async () => {
    await using broken = await serveMemory({
      wrap: (namespace) => ({
        ...namespace,
        evaluate: () => {
          throw new TypeError("the secret of the bug");
        },
      }),
    });
    const { status, json } = await postJson(broken.port, EVALUATE, { flagId: "notifications/1" });
    expect([status, json]).toEqual([500, { code: "internal", message: "internal error" }]);
    using clients = openEvaluatorClients(broken.port);
    await expect(clients.of["gRPC-web, HTTP/2"].evaluate({ flagId: "a" })).rejects.toThrow(
      "[internal] internal error",
    );
    expect(broken.internalErrors.length).toBe(2);
    expect(broken.internalErrors[0]).toMatchObject({
      error: new TypeError("the secret of the bug"),
      where: PROCEDURE,
    });
    expect(broken.rpcs.map(({ code }) => code)).toEqual(["internal", "internal"]);
  });
});

describe("a trace", () => {
  test.each([true, false])(
    "holds the call and the evaluation within it, on the fast way: %s",
    async (isFast) => {
      const { spans, tracing } = recordSpans();
      await using traced = await serveMemory({ tracing, isFast });
      const post = (body: string) =>
        sendHttp1(traced.port, {
          method: "POST",
          path: EVALUATE,
          headers: { "content-type": "application/json", traceparent: "00-1-2-01" },
          body,
        });
      await post('{"flagId":"notifications/1"}');
      await post('{"flagId":""}');
      await post('{"flagId":');
      await postJson(traced.port, evaluatorPath("bulkEvaluate"), {});
      expect(spans).toEqual([
        "evaluate notifications/1",
        `${PROCEDURE} connect ok 00-1-2-01`,
        `${PROCEDURE} connect invalid_argument 00-1-2-01`,
        `${PROCEDURE} connect invalid_argument 00-1-2-01`,
        "evaluate 4",
        "pbflags.v1.FlagEvaluatorService/BulkEvaluate connect ok undefined",
      ]);
      expect(traced.rpcs.map((rpc) => rpc.isFast ?? false)).toEqual([isFast, false, false, isFast]);
    },
  );
});

describe("large requests that are allowed", () => {
  test("may come side by side on one connection", async () => {
    await using roomy = await serveMemory();
    using clients = openEvaluatorClients(roomy.port);
    const flagIds = Array.from({ length: 10_000 }, () => "x".repeat(80));
    const askers = Array.from({ length: 20 }, async () => {
      for (let i = 0; i < 3; i++) {
        const { evaluations } = await clients.of["gRPC, HTTP/2"].bulkEvaluate({ flagIds });
        expect(evaluations).toHaveLength(10_000);
      }
    });
    await Promise.all(askers);
  });
});
