import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { EvaluateRequestSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { openHttp2, openRaw, postJson, runCurl, sendHttp1, sendHttp2 } from "../support/wire-clients.ts";
import { evaluatorPath, type Served, serveMemory } from "./serve-memory.ts";

const EVALUATE = evaluatorPath("evaluate");
const WEEKLY = {
  flagId: "notifications/1",
  value: { stringValue: "weekly" },
  source: "EVALUATION_SOURCE_GLOBAL",
};

const CHECKS = [
  {
    name: "database",
    healthy: true,
    message: "PostgreSQL 15",
    latencyMs: 1.5,
    checkedAt: Date.UTC(2026, 0, 2),
  },
  {
    name: "listener",
    healthy: undefined,
    message: "not checked yet",
    latencyMs: undefined,
    checkedAt: undefined,
  },
];

let served: Served;

beforeAll(async () => {
  served = await serveMemory({ checks: CHECKS });
});

afterAll(async () => {
  await served[Symbol.asyncDispose]();
});

describe("JSON by hand", () => {
  test("is answered in proto3's JSON", async () => {
    const answer = await postJson(served.port, EVALUATE, { flagId: "notifications/1" });
    expect(answer).toEqual({ status: 200, json: WEEKLY });
    const snakeCase = await postJson(served.port, EVALUATE, { flag_id: "notifications/1" });
    expect(snakeCase.json).toEqual(WEEKLY);
    const int64 = await postJson(served.port, EVALUATE, { flagId: "notifications/3" });
    expect(int64.json).toMatchObject({ value: { int64Value: "5" } });
  });

  test("may hold fields that we do not know", async () => {
    const { status } = await postJson(served.port, EVALUATE, {
      flagId: "notifications/1",
      context: { a: [1] },
    });
    expect(status).toBe(200);
  });

  test("may not be nested deeply, compressed or not", async () => {
    for (const depth of [101, 10_000, 500_000]) {
      const body = Buffer.from(
        `{"flagId":"notifications/1","unknown":${"[".repeat(depth)}${"]".repeat(depth)}}`,
      );
      const headers = { "content-type": "application/json" };
      for (const request of [
        { headers, body },
        { headers: { ...headers, "content-encoding": "gzip" }, body: gzipSync(body) },
      ]) {
        const answer = await sendHttp1(served.port, { method: "POST", path: EVALUATE, ...request });
        expect([answer.status, JSON.parse(answer.body.toString())]).toEqual([
          400,
          { code: "invalid_argument", message: "cannot decode JSON: nested more than 100 levels deep" },
        ]);
      }
    }
  });

  test("that makes no sense is refused as the caller's mistake", async () => {
    for (const body of ["", "{", "[]", '{"flagId": 7}', '"text"', "null", "\u0000"]) {
      const { status, body: answer } = await sendHttp1(served.port, {
        method: "POST",
        path: EVALUATE,
        headers: { "content-type": "application/json" },
        body,
      });
      expect(status, body).toBe(400);
      expect(JSON.parse(answer.toString()), body).toMatchObject({ code: "invalid_argument" });
    }
  });

  test("may hold half a surrogate pair, which no answer can repeat", async () => {
    for (const accept of ["application/json", "application/proto"]) {
      const { status } = await sendHttp1(served.port, {
        method: "POST",
        path: EVALUATE,
        headers: { "content-type": "application/json", accept },
        body: '{"flagId": "\\ud800"}',
      });
      expect([200, 400]).toContain(status);
    }
    expect(served.internalErrors).toEqual([]);
  });

  test("works with curl over HTTP/1.1 and HTTP/2", async ({ skip }) => {
    const url = `http://127.0.0.1:${served.port}${EVALUATE}`;
    const json = [
      "--header",
      "content-type: application/json",
      "--data",
      '{"flagId":"notifications/1"}',
      url,
    ];
    const answer = await runCurl(json);
    skip(answer === undefined, "this machine has no curl");
    expect(JSON.parse(answer ?? "")).toEqual(WEEKLY);
    skip(!(await runCurl(["--version"]))?.includes("HTTP2"), "this machine's curl has no HTTP/2");
    expect(JSON.parse((await runCurl(["--http2-prior-knowledge", ...json])) ?? "")).toEqual(WEEKLY);
    // Asks for an upgrade, which is not offered: answered over HTTP/1.1.
    expect(JSON.parse((await runCurl(["--http2", ...json])) ?? "")).toEqual(WEEKLY);
  });
});

describe("Connect GET", () => {
  test("takes JSON and base64 in the URL", async () => {
    const json = new URLSearchParams({
      connect: "v1",
      encoding: "json",
      message: '{"flagId":"notifications/1"}',
    });
    const one = await sendHttp1(served.port, { path: `${EVALUATE}?${json.toString()}` });
    expect(JSON.parse(one.body.toString())).toEqual(WEEKLY);

    const bytes = toBinary(
      EvaluateRequestSchema,
      create(EvaluateRequestSchema, { flagId: "notifications/1" }),
    );
    const message = Buffer.from(bytes).toString("base64url");
    const binary = new URLSearchParams({ connect: "v1", encoding: "proto", base64: "1", message });
    const two = await sendHttp1(served.port, { path: `${EVALUATE}?${binary.toString()}` });
    expect(two.status).toBe(200);
    expect(two.headers["content-type"]).toBe("application/proto");
    expect(two.body.includes("weekly")).toBe(true);
  });

  test("that makes no sense is refused", async () => {
    for (const query of [
      "",
      "?encoding=json",
      "?encoding=json&message={",
      "?encoding=proto&base64=1&message=!!!",
      "?encoding=proto&message=%FF%FF",
      "?%%%",
    ]) {
      const { status } = await sendHttp1(served.port, { path: `${EVALUATE}${query}` });
      expect([400, 415], query).toContain(status);
    }
    expect(served.internalErrors).toEqual([]);
  });
});

describe("probes", () => {
  test("tell what was last checked, and wait for nothing", async () => {
    const checks = [
      {
        name: "database",
        healthy: true,
        message: "PostgreSQL 15",
        latency_ms: 1.5,
        checked_at: "2026-01-02T00:00:00.000Z",
      },
      { name: "listener", healthy: null, message: "not checked yet", latency_ms: null, checked_at: null },
    ];
    const health = await sendHttp1(served.port, { path: "/healthz" });
    expect(health.status).toBe(200);
    expect(health.headers["content-type"]).toBe("application/json");
    expect(JSON.parse(health.body.toString())).toEqual({ status: "ok", checks });
    const ready = await sendHttp1(served.port, { path: "/readyz?verbose" });
    expect(ready.status).toBe(200);
    expect(JSON.parse(ready.body.toString())).toEqual({ status: "ready", checks });
  });

  test("are not ready before the store was read, stay ready without it, and end when draining", async () => {
    await using starting = await serveMemory({ storeAway: true });
    const readiness = async () => {
      const { status, body } = await sendHttp1(starting.port, { path: "/readyz" });
      return [status, JSON.parse(body.toString()).status];
    };
    expect(await readiness()).toEqual([503, "starting"]);
    expect((await sendHttp1(starting.port, { path: "/healthz" })).status).toBe(200);
    starting.store.away = false;
    await starting.namespace.whenReady(AbortSignal.timeout(30_000));
    expect(await readiness()).toEqual([200, "ready"]);
    starting.store.away = true;
    expect(await readiness()).toEqual([200, "ready"]);
    starting.stop();
    expect(await readiness()).toEqual([503, "draining"]);
    expect((await sendHttp1(starting.port, { path: "/healthz" })).status).toBe(200);
  }, 40_000);

  test("answer HEAD with the headers alone, and no other method", async () => {
    const head = await sendHttp1(served.port, { method: "HEAD", path: "/readyz" });
    expect(head.status).toBe(200);
    expect(Number(head.headers["content-length"])).toBeGreaterThan(10);
    expect(head.body).toHaveLength(0);
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      const { status, headers } = await sendHttp1(served.port, { method, path: "/healthz" });
      expect([status, headers.allow]).toEqual([405, "GET, HEAD"]);
    }
  });

  test("publish metrics under their own content type", async () => {
    const { headers, body } = await sendHttp1(served.port, { path: "/metrics" });
    expect(headers["content-type"]).toBe("text/plain; version=0.0.4");
    expect(body.toString()).toBe("up 1\n");
  });

  test("answer over HTTP/2 as well", async () => {
    const session = await openHttp2(served.port);
    expect((await sendHttp2(session, { path: "/readyz" })).status).toBe(200);
    expect((await sendHttp2(session, { method: "HEAD", path: "/readyz" })).body).toHaveLength(0);
    session.close();
  });
});

describe("what is not served", () => {
  test("is not found", async () => {
    for (const path of [
      "/",
      "/healthz/",
      "//healthz",
      "/pbflags.v1.FlagEvaluatorService",
      `${EVALUATE}/x`,
      "/__proto__",
    ]) {
      const { status, body } = await sendHttp1(served.port, { path });
      expect([status, body.toString()], path).toEqual([404, "Cannot find this path\n"]);
    }
  });

  test("is refused by method and content type", async () => {
    const method = await sendHttp1(served.port, { method: "PUT", path: EVALUATE });
    expect([method.status, method.headers.allow]).toEqual([405, "POST, GET"]);
    const headers = { "content-type": "text/xml" };
    const type = await sendHttp1(served.port, { method: "POST", path: EVALUATE, headers, body: "<a/>" });
    expect(type.status).toBe(415);
    // Streams in both directions need HTTP/2.
    const bidi = await sendHttp1(served.port, {
      method: "POST",
      path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
      headers: { "content-type": "application/grpc" },
    });
    expect(bidi.status).toBe(505);
  });

  test("does not matter to the process: requests without a host, or with a strange one", async () => {
    const body = '{"flagId":"notifications/1"}';
    const post = (version: string, host: string) =>
      `POST ${EVALUATE} HTTP/${version}\r\n${host}content-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`;
    for (const [request, status] of [
      [post("1.0", ""), 200],
      [post("1.1", ""), 400],
      [post("1.1", "host: a b\r\n"), 200],
      [post("1.1", "host: [::\r\n"), 200],
      [post("1.1", "host: %\r\n"), 200],
    ] as const) {
      const { socket, received, closed } = await openRaw(served.port);
      socket.write(request);
      await closed;
      expect(received()).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    }
    const session = await openHttp2(served.port);
    const headers = { host: "%", "content-type": "application/json" };
    expect((await sendHttp2(session, { method: "POST", path: EVALUATE, headers, body })).status).toBe(200);
    session.close();
    expect(served.internalErrors).toEqual([]);
  });
});
