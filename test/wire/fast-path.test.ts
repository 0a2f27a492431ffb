import { once } from "node:events";
import { constants } from "node:http2";
import { gunzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BulkEvaluateRequestSchema, EvaluateRequestSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { eventually } from "../support/eventually.ts";
import { recordSpans } from "../support/recorded-spans.ts";
import {
  CLIENT_KINDS,
  type ClientKind,
  openEvaluatorClients,
  openHttp2,
  openRaw,
  type RawConnection,
  sendHttp1,
  sendHttp2,
} from "../support/wire-clients.ts";
import { evaluatorPath, type Served, type ServeOptions, serveMemory } from "./serve-memory.ts";

const EVALUATE = evaluatorPath("evaluate");
const WEEKLY = toProto("notifications/1");
/** Nobody has asked for it yet: the store has to be. */
const UNHEARD = toProto("unheard/1");

let served: Served;

async function serve(options: ServeOptions): Promise<void> {
  await served[Symbol.asyncDispose]();
  served = await serveMemory(options);
}

beforeEach(async () => {
  served = await serveMemory();
});

afterEach(async () => {
  await served[Symbol.asyncDispose]();
  if (served.internalErrors.length > 0) throw new Error("Internal errors", { cause: served.internalErrors });
});

function toProto(flagId: string): Buffer {
  return Buffer.from(toBinary(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId })));
}

function toFrame(message: Uint8Array): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}

function toHttp1(body: Buffer, headers: Readonly<Record<string, string>> = {}, path = EVALUATE): Buffer {
  const fields = {
    host: "a",
    "content-type": "application/proto",
    ...headers,
    "content-length": body.length,
  };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join("")}\r\n`), body]);
}

const GRPC = {
  method: "POST",
  path: EVALUATE,
  headers: { "content-type": "application/grpc", te: "trailers" },
};

/** Which way each call went, in the order in which they were answered. */
function ways(): readonly string[] {
  return served.rpcs.map(({ isFast = false }) => (isFast ? "fast" : "generic"));
}

/** Holds back what the store answers from now on, until what is returned is called. */
function holdStore(): () => void {
  let release = () => {};
  served.store.gate = new Promise((resolve) => {
    release = resolve;
  });
  return release;
}

describe("what generated clients send", () => {
  const generic: readonly ClientKind[] = [
    "Connect GET, JSON, HTTP/2",
    "gRPC-web, HTTP/1.1",
    "gRPC-web, HTTP/2",
  ];

  test.each(CLIENT_KINDS)("goes the fast way where it can: %s", async (kind) => {
    using clients = openEvaluatorClients(served.port);
    const one = await clients.of[kind].evaluate({ flagId: "notifications/1", entityId: "user-1" });
    expect(one.value?.value).toEqual({ case: "stringValue", value: "never" });
    const all = await clients.of[kind].bulkEvaluate({});
    expect(all.evaluations).toHaveLength(4);
    const way = generic.includes(kind) ? "generic" : "fast";
    expect(ways()).toEqual([way, way]);
  });

  test("leaves the same spans whichever way it goes", async () => {
    const spansOf = async (isFast: boolean) => {
      const { spans, tracing } = recordSpans();
      await serve({ tracing, isFast });
      using clients = openEvaluatorClients(served.port);
      for (const [i, kind] of CLIENT_KINDS.entries()) {
        const headers = { traceparent: `00-${i}-2-01` };
        await clients.of[kind].evaluate({ flagId: "unheard/1" }, { headers });
        await clients.of[kind].evaluate({ flagId: "" }, { headers }).catch(() => {});
        await clients.of[kind].bulkEvaluate(
          { flagIds: ["notifications/1", "unheard/2"], entityId: kind },
          { headers },
        );
      }
      return spans;
    };
    const spans = await spansOf(true);
    expect(ways()).toContain("fast");
    expect(spans.length).toBe(5 * CLIENT_KINDS.length);
    for (const i of CLIENT_KINDS.keys())
      expect(spans.filter((span) => span.endsWith(` 00-${i}-2-01`))).toHaveLength(3);
    expect(await spansOf(false)).toEqual(spans);
    expect(ways()).not.toContain("fast");
  });
});

test("answers over one connection come in the order of the calls, whichever way those go", async () => {
  const raw = await openRaw(served.port);
  const release = holdStore();
  const grpcWeb = `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web+proto\r\ncontent-length: ${5 + WEEKLY.length}\r\n\r\n`;
  raw.socket.write(
    Buffer.concat([
      toHttp1(UNHEARD),
      toHttp1(WEEKLY),
      Buffer.from(grpcWeb),
      toFrame(WEEKLY),
      toHttp1(toProto("checkout/1")),
    ]),
  );
  await eventually(() => served.store.calls.some(({ keys }) => keys.includes("unheard/1")));
  // Whoever is answered on another connection is not held up.
  expect(
    (
      await sendHttp1(served.port, {
        method: "POST",
        path: EVALUATE,
        headers: { "content-type": "application/proto" },
        body: WEEKLY,
      })
    ).status,
  ).toBe(200);
  expect(raw.received()).toBe("");
  release();
  await eventually(() => raw.received().includes("checkout/1"));
  const answered = [...raw.received().matchAll(/unheard\/1|notifications\/1|grpc-status: 0|checkout\/1/g)];
  expect(answered.map(([what]) => what)).toEqual([
    "unheard/1",
    "notifications/1",
    "notifications/1",
    "grpc-status: 0",
    "checkout/1",
  ]);
  expect(ways()).toContain("generic");
  raw.socket.destroy();
});

describe("calls over one connection of HTTP/1.1", () => {
  const JSON_TYPE = { "content-type": "application/json" };
  const GOOD = { authorization: "Bearer good" };

  const statuses = (raw: RawConnection) =>
    [...raw.received().matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);

  /** Says all of this at once, and resolves once as many answers have begun. */
  async function say(raw: RawConnection, ...requests: readonly Buffer[]): Promise<void> {
    const before = statuses(raw).length;
    raw.socket.write(Buffer.concat(requests));
    await eventually(() => statuses(raw).length === before + requests.length);
  }

  test("are compressed for whoever accepts that, and keep their order meanwhile", async () => {
    const raw = await openRaw(served.port);
    const flagIds = Array.from({ length: 200 }, () => "notifications/1");
    const bulk = Buffer.from(JSON.stringify({ flagIds }));
    const path = evaluatorPath("bulkEvaluate");
    await say(
      raw,
      toHttp1(bulk, { ...JSON_TYPE, "accept-encoding": "br, gzip" }, path),
      toHttp1(WEEKLY, { "accept-encoding": "gzip" }),
      toHttp1(bulk, JSON_TYPE, path),
      toHttp1(WEEKLY),
    );
    const [first = "", second = "", third = ""] = raw.received().split(/(?=HTTP\/1\.1 )/);
    const bodyAt = first.indexOf("\r\n\r\n") + 4;
    expect(first.slice(0, bodyAt)).toMatch(/\r\ncontent-encoding: gzip\r\n/);
    expect(first.slice(0, bodyAt)).toContain(`\r\ncontent-length: ${first.length - bodyAt}\r\n`);
    const { evaluations } = JSON.parse(gunzipSync(Buffer.from(first.slice(bodyAt), "latin1")).toString());
    expect(evaluations).toHaveLength(200);
    expect(second).not.toContain("content-encoding");
    expect(JSON.parse(third.slice(third.indexOf("\r\n\r\n")))).toEqual({ evaluations });
    expect(ways()).toEqual(["fast", "fast", "fast", "fast"]);
    raw.socket.destroy();
  });

  test("are each permitted by what they say themselves, and every time anew", async () => {
    const asked: (string | undefined)[] = [];
    let good = "Bearer good";
    await serve({
      permit({ header }) {
        asked.push(header("authorization"));
        if (header("authorization") === good) return undefined;
        return new ConnectError("who are you?", Code.Unauthenticated);
      },
    });
    const raw = await openRaw(served.port);
    await say(raw, toHttp1(WEEKLY, GOOD), toHttp1(WEEKLY, GOOD));
    expect(asked).toEqual(["Bearer good", "Bearer good"]);
    await say(raw, toHttp1(WEEKLY), toHttp1(WEEKLY, GOOD), toHttp1(WEEKLY, { authorization: "Bearer bad" }));
    expect(statuses(raw)).toEqual(["200", "200", "401", "200", "401"]);
    expect(asked).toContain("Bearer bad");

    const other = await openRaw(served.port);
    await say(other, toHttp1(WEEKLY, GOOD));
    good = "Bearer better";
    await say(other, toHttp1(WEEKLY, GOOD), toHttp1(WEEKLY, { authorization: good }));
    expect(statuses(other)).toEqual(["200", "401", "200"]);
    const codes = served.rpcs.map(({ code }) => code).toSorted();
    expect(codes).toEqual([
      "ok",
      "ok",
      "ok",
      "ok",
      "ok",
      "unauthenticated",
      "unauthenticated",
      "unauthenticated",
    ]);
    raw.socket.destroy();
    other.socket.destroy();
  });

  test("wait for a version that one of them asks for", async () => {
    const raw = await openRaw(served.port);
    await say(raw, toHttp1(WEEKLY), toHttp1(WEEKLY));
    const version = /\r\npbflags-version: (.*)\r\n/.exec(raw.received())?.[1] ?? "";
    await say(raw, toHttp1(WEEKLY, { "pbflags-min-version": version }), toHttp1(WEEKLY));
    expect(statuses(raw)).toEqual(["200", "200", "200", "200"]);
    expect(ways().toSorted()).toEqual(["fast", "fast", "fast", "generic"]);
    // Nobody knows of one that is as new as this.
    const later = version.replace(/\d+$/, "999999999");
    await say(raw, toHttp1(WEEKLY, { "pbflags-min-version": later }), toHttp1(WEEKLY));
    expect(served.rpcs.filter(({ code }) => code !== "ok")).toMatchObject([{ code: "failed_precondition" }]);
    expect(statuses(raw).slice(4)).toEqual(["400", "200"]);
    raw.socket.destroy();
  });

  test("are refused one by one", async () => {
    const raw = await openRaw(served.port);
    await say(
      raw,
      toHttp1(WEEKLY),
      toHttp1(Buffer.from("{"), JSON_TYPE),
      toHttp1(WEEKLY),
      toHttp1(WEEKLY, {}, "/nowhere"),
      toHttp1(Buffer.from('{"flagId":"notifications/1"}'), JSON_TYPE),
    );
    expect(statuses(raw)).toEqual(["200", "400", "200", "404", "200"]);
    expect(ways().toSorted()).toEqual(["fast", "fast", "fast", "generic"]);
    raw.socket.destroy();
  });
});

describe("a client that leaves", () => {
  test("in the middle of its message has sent none", async () => {
    const { spans, tracing } = recordSpans();
    await serve({ tracing });
    const raw = await openRaw(served.port);
    raw.socket.write(toHttp1(WEEKLY).subarray(0, -3));
    const session = await openHttp2(served.port);
    const stream = session.request({ ":method": "POST", ":path": EVALUATE, ...GRPC.headers });
    stream.on("error", () => {});
    stream.write(toFrame(WEEKLY).subarray(0, 9));
    await eventually(() => served.server.connectionCount === 2);
    raw.socket.destroy();
    stream.close(constants.NGHTTP2_CANCEL);
    await eventually(() => served.rpcs.length === 2);
    expect(served.rpcs).toMatchObject([{ code: "canceled" }, { code: "canceled" }]);
    expect(spans).toEqual([]);
    expect((await sendHttp2(session, { ...GRPC, body: toFrame(WEEKLY) })).trailers).toMatchObject({
      "grpc-status": "0",
    });
    session.close();
  });

  test("while the store is asked for it leaves nothing behind", async () => {
    const release = holdStore();
    const raw = await openRaw(served.port);
    raw.socket.write(toHttp1(UNHEARD));
    const session = await openHttp2(served.port);
    const stream = session.request({ ":method": "POST", ":path": EVALUATE, ...GRPC.headers });
    stream.on("error", () => {});
    stream.end(toFrame(toProto("unheard/2")));
    await eventually(() =>
      ["unheard/1", "unheard/2"].every((id) => served.store.calls.some(({ keys }) => keys.includes(id))),
    );
    raw.socket.destroy();
    session.destroy();
    await eventually(() => served.server.connectionCount === 0);
    release();
    await eventually(() => served.rpcs.length === 2);
    expect(ways()).toEqual(["fast", "fast"]);
  });
});

test("a call under way while the server closes is answered, and is the last on its connection", async () => {
  const release = holdStore();
  const raw = await openRaw(served.port);
  raw.socket.write(toHttp1(UNHEARD));
  const session = await openHttp2(served.port);
  const answered = sendHttp2(session, { ...GRPC, body: toFrame(toProto("unheard/2")) });
  const goaway = once(session, "goaway");
  await eventually(() =>
    ["unheard/1", "unheard/2"].every((id) => served.store.calls.some(({ keys }) => keys.includes(id))),
  );
  const closed = served.server[Symbol.asyncDispose]();
  await goaway;
  release();
  expect((await answered).trailers).toMatchObject({ "grpc-status": "0" });
  await raw.closed;
  expect(raw.received()).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\r\nConnection: close\r\n[^]*unheard\/1/);
  await closed;
  expect(ways()).toEqual(["fast", "fast"]);
  session.close();
});

describe("limits", () => {
  const BODY_MAX = 2_048;

  test("a message may be as large as the limit, and not larger", async () => {
    await serve({ limits: { bodyBytesMax: BODY_MAX } });
    const session = await openHttp2(served.port);
    for (const [length, status, grpcStatus] of [
      [BODY_MAX, 200, "0"],
      [BODY_MAX + 1, 429, "8"],
      [BODY_MAX + 6, 429, "8"],
    ] as const) {
      const message = toProto("x".repeat(length - 3));
      expect(message).toHaveLength(length);
      const headers = { "content-type": "application/proto" };
      const answer = await sendHttp1(served.port, { method: "POST", path: EVALUATE, headers, body: message });
      expect(answer.status, `${length} bytes`).toBe(status);
      const grpc = await sendHttp2(session, { ...GRPC, body: toFrame(message) });
      expect(grpc.trailers["grpc-status"], `${length} bytes`).toBe(grpcStatus);
    }
    expect(ways()).toEqual(["fast", "fast", "generic", "generic", "generic", "generic"]);
    session.close();
  });

  test("a bulk of thousands does not hold up all others: it goes the longer way", async () => {
    const flagIds = Array.from({ length: 5_000 }, (_, i) => `notifications/${i}`);
    const body = toBinary(BulkEvaluateRequestSchema, create(BulkEvaluateRequestSchema, { flagIds }));
    const path = evaluatorPath("bulkEvaluate");
    const headers = { "content-type": "application/proto" };
    const answer = await sendHttp1(served.port, { method: "POST", path, headers, body });
    expect(answer.status).toBe(200);
    expect(ways()).toEqual(["generic"]);
  });

  test("headers of HTTP/2 that are too large are refused before anything else", async () => {
    await serve({ limits: { headerBytesMax: 1_024 } });
    const session = await openHttp2(served.port);
    const headers = { ...GRPC.headers, "x-large": "x".repeat(2_000) };
    const answer = await sendHttp2(session, { ...GRPC, headers, body: toFrame(WEEKLY) });
    expect(answer.status).toBe(431);
    expect(served.rpcs).toEqual([]);
    session.destroy();
  });

  test("a time limit that makes no sense is refused, and any other holds", async () => {
    const send = async (timeout: string) => {
      const headers = { "content-type": "application/proto", "connect-timeout-ms": timeout };
      return (await sendHttp1(served.port, { method: "POST", path: EVALUATE, headers, body: WEEKLY })).status;
    };
    expect([await send("5000"), await send("soon")]).toEqual([200, 400]);
    expect(ways()).toEqual(["fast", "generic"]);
  });
});

test("a caller who may not ask is told so whichever way the call goes", async () => {
  const asked: string[] = [];
  await serve({
    permit({ procedure, header }) {
      asked.push(procedure);
      if (header("authorization") === "Bearer good") return undefined;
      return new ConnectError("who are you?", Code.Unauthenticated);
    },
  });
  using clients = openEvaluatorClients(served.port);
  for (const kind of CLIENT_KINDS) {
    const client = clients.of[kind];
    await expect(client.evaluate({ flagId: "notifications/1" }), kind).rejects.toMatchObject({
      code: Code.Unauthenticated,
    });
    const headers = { authorization: "Bearer good" };
    await expect(client.evaluate({ flagId: "notifications/1" }, { headers }), kind).resolves.toBeDefined();
  }
  expect(new Set(asked)).toEqual(new Set(["pbflags.v1.FlagEvaluatorService/Evaluate"]));
  expect(served.rpcs.filter(({ code }) => code === "unauthenticated")).toHaveLength(CLIENT_KINDS.length);
  expect(ways()).toContain("fast");
});
