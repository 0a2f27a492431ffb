import { once } from "node:events";
import type { Socket } from "node:net";
import { gzipSync } from "node:zlib";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { type CollectedStream, collectStream } from "../../../test/support/collect-stream.ts";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { flagValue, overrideOf, stateOf } from "../../../test/support/flag-builders.ts";
import { WatchScene } from "../../../test/support/watch-scene.ts";
import {
  openGrpcJsClient,
  openHttp2,
  openRaw,
  type PlainRequest,
  recordHttp2Request,
  sendHttp1,
} from "../../../test/support/wire-clients.ts";
import type { Version } from "../../evaluation/version.ts";
import { toWireVersion } from "../../evaluation/wire-version.ts";
import {
  WatchRequestSchema,
  type WatchResponse,
  WatchResponseSchema,
  WatchService,
} from "../../gen/pbflagd/v1/watch_pb.ts";
import { openTransport } from "../../upstream/transport/open-transport.ts";

const { watch } = WatchService.method;
const PATH = `/${WatchService.typeName}/Watch`;

type Request = MessageInitShape<typeof WatchRequestSchema>;

/** A follower over a connection of its own. */
interface Follower extends AsyncDisposable {
  readonly stream: CollectedStream<WatchResponse>;
}

function follow(scene: WatchScene, request: Request = {}, scheme = "http"): Follower {
  const settings = upstreamSettings({ name: "root", url: `${scheme}://127.0.0.1:${scene.port}` });
  const transport = openTransport({ settings, clock: new FakeClock() });
  const stream = collectStream(transport, watch, request);
  return {
    stream,
    async [Symbol.asyncDispose]() {
      await stream[Symbol.asyncDispose]();
      await transport[Symbol.asyncDispose]();
    },
  };
}

function wire(version: Version) {
  return toWireVersion(version);
}

describe.each(["http", "grpc"])("over %s", (scheme) => {
  test("first tells what is in force, then what changes", async () => {
    await using scene = await WatchScene.open();
    const before = scene.version;
    await using follower = follow(scene, {}, scheme);
    const { stream } = follower;
    expect(await stream.at(0)).toMatchObject({
      version: wire(before),
      ageMs: 0n,
      heartbeatIntervalMs: 2_000n,
      event: { case: "resync", value: { kills: { flagIds: ["a/2"], killedOverrides: [] } } },
    });

    scene.store.set(stateOf("a/1", { mode: "killed" }));
    await scene.poll();
    expect(await stream.at(1)).toMatchObject({
      version: wire(scene.version),
      heartbeatIntervalMs: 0n,
      event: {
        case: "changed",
        value: { changes: { flagIds: ["a/1"], entityIds: [] }, kills: { flagIds: ["a/1", "a/2"] } },
      },
    });

    scene.store.setOverride(overrideOf("a/1", "ann"));
    await scene.clock.advance(50);
    await scene.poll();
    const { event } = await stream.at(2);
    expect(event).toMatchObject({ case: "changed", value: { changes: { flagIds: [], entityIds: ["ann"] } } });
    expect(event.value).not.toHaveProperty("kills.flagIds");
    expect(stream.messages).toHaveLength(3);
  });

  test("a quiet stream says every two seconds that it is there, and how old its knowledge is", async () => {
    await using scene = await WatchScene.open();
    await using follower = follow(scene, {}, scheme);
    await follower.stream.at(0);
    await scene.clock.advance(1_999);
    expect(follower.stream.messages).toHaveLength(1);
    await scene.clock.advance(1);
    expect(await follower.stream.at(1)).toMatchObject({
      version: wire(scene.version),
      ageMs: 2_000n,
      event: { case: "heartbeat" },
    });
    await scene.clock.advance(2_000);
    expect(await follower.stream.at(2)).toMatchObject({ ageMs: 4_000n, event: { case: "heartbeat" } });
  });

  test("ends in order when the daemon stops, so that followers go on elsewhere", async () => {
    await using scene = await WatchScene.open();
    await using follower = follow(scene, {}, scheme);
    await follower.stream.at(0);
    scene.stop();
    expect(await follower.stream.ended).toBeUndefined();
    await eventually(() => scene.rpcs.length === 1);
    expect(scene.rpcs[0]).toMatchObject({ procedure: PATH.slice(1), code: "ok" });
    expect(scene.followers).toBe(0);
  });

  test("forgets a follower that leaves", async () => {
    await using scene = await WatchScene.open();
    const follower = follow(scene, {}, scheme);
    await follower.stream.at(0);
    expect(scene.followers).toBe(1);
    await follower[Symbol.asyncDispose]();
    await eventually(() => scene.followers === 0);
    await eventually(() => scene.server.connectionCount === 0);
    expect(scene.rpcs[0]).toMatchObject({ code: "canceled" });
    expect(scene.internalErrors).toEqual([]);
  });
});

test.each<[string, (baseUrl: string) => Transport]>([
  ["Connect", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
  [
    "Connect in JSON",
    (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false }),
  ],
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
  ["gRPC-web", (baseUrl) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
])("generated clients of %s can follow", async (_, transportOf) => {
  await using scene = await WatchScene.open();
  const client = createClient(WatchService, transportOf(`http://127.0.0.1:${scene.port}`));
  const events: unknown[] = [];
  for await (const { event } of client.watch({})) {
    events.push(event.case);
    if (events.length === 2) scene.stop();
    else {
      scene.store.set(stateOf("a/1", { mode: "killed" }));
      await scene.poll();
    }
  }
  expect(events).toEqual(["resync", "changed"]);
  expect(scene.internalErrors).toEqual([]);
});

test("a client of the gRPC project can follow", async () => {
  await using scene = await WatchScene.open();
  using client = openGrpcJsClient(`127.0.0.1:${scene.port}`);
  const call = client.serverStream(watch, {});
  const cases: unknown[] = [];
  call.on("data", ({ event }: WatchResponse) => cases.push(event.case));
  const ended = once(call, "status");
  await eventually(() => cases.length === 1);
  scene.stop();
  expect(await ended).toMatchObject([{ code: status.OK }]);
  const wrong = client.serverStream(watch, { since: { epoch: "", revision: 1n } });
  wrong.resume();
  const [error]: unknown[] = await once(wrong, "error");
  expect(error).toMatchObject({ code: status.INVALID_ARGUMENT });
});

test.each<[string, (baseUrl: string) => Transport]>([
  ["Connect", (baseUrl) => createConnectTransport({ baseUrl, httpVersion: "1.1" })],
  ["gRPC", (baseUrl) => createGrpcTransport({ baseUrl })],
])("over %s, who may not follow is told so before the stream begins", async (_, transportOf) => {
  await using scene = await WatchScene.open({
    permit({ procedure, header }) {
      if (procedure === PATH.slice(1) && header("authorization") === "Bearer good") return undefined;
      return new ConnectError("who are you?", Code.Unauthenticated);
    },
  });
  const client = createClient(WatchService, transportOf(`http://127.0.0.1:${scene.port}`));
  const firstOf = async (headers: Readonly<Record<string, string>>) => {
    for await (const { event } of client.watch({}, { headers })) return event.case;
    return undefined;
  };
  await expect(firstOf({})).rejects.toMatchObject({
    code: Code.Unauthenticated,
    rawMessage: "who are you?",
  });
  expect(scene.rpcs).toMatchObject([{ procedure: PATH.slice(1), code: "unauthenticated" }]);
  expect(scene.followers).toBe(0);
  expect(await firstOf({ authorization: "Bearer good" })).toBe("resync");
  expect(scene.internalErrors).toEqual([]);
});

test("a time limit ends a stream, and tells that it was that", async () => {
  await using scene = await WatchScene.open();
  const transport = createConnectTransport({ baseUrl: `http://127.0.0.1:${scene.port}`, httpVersion: "1.1" });
  const client = createClient(WatchService, transport);
  const follow = async () => {
    for await (const { event } of client.watch({}, { timeoutMs: 100 })) expect(event.case).toBe("resync");
  };
  await expect(follow()).rejects.toMatchObject({ code: Code.DeadlineExceeded });
  await eventually(() => scene.followers === 0);
});

test.each([
  ["no message", "", "must be one message"],
  ["two messages", "\0\0\0\0\0\0\0\0\0\0", "must be one message"],
  ["a compressed message", "\x01\0\0\0\0", "must be one message"],
  ["something else", "\0\0\0\0\x02\xff\xff", "must be a pbflagd.v1.WatchRequest"],
])("%s is no request", async (_, body, reason) => {
  await using scene = await WatchScene.open();
  const { status: code, body: answer } = await sendHttp1(scene.port, {
    method: "POST",
    path: PATH,
    headers: { "content-type": "application/connect+proto" },
    body: Buffer.from(body, "latin1"),
  });
  expect(code).toBe(200);
  expect(answer.readUInt8(0)).toBe(2);
  expect(JSON.parse(answer.subarray(5).toString())).toEqual({
    error: { code: "invalid_argument", message: expect.stringContaining(reason) },
  });
  expect(scene.rpcs).toMatchObject([{ code: "invalid_argument", protocol: "connect" }]);
});

/** Follows until the daemon stops. */
async function followPlainly(
  scene: WatchScene,
  headers: Readonly<Record<string, string>>,
  message: Uint8Array,
  flag = 0,
) {
  const body = Buffer.concat([Buffer.from([flag, 0, 0, 0, message.length]), message]);
  const answering = sendHttp1(scene.port, { method: "POST", path: PATH, headers, body });
  await eventually(() => scene.followers === 1 || scene.rpcs.length === 1);
  scene.stop();
  const { status: code, headers: answered, body: answer } = await answering;
  const length = answer.readUInt32BE(1);
  const [first, end] = [answer.subarray(5, 5 + length), answer.subarray(5 + length)];
  return { code, type: answered["content-type"], first, end };
}

test.each<[string, string, Buffer]>([
  [
    "application/connect+json; charset=utf-8",
    "application/connect+json",
    Buffer.from("\x02\0\0\0\x02{}", "latin1"),
  ],
  [
    "application/grpc-web+json",
    "application/grpc-web+json",
    Buffer.from("\x80\0\0\0\x10grpc-status: 0\r\n", "latin1"),
  ],
])("a message may be JSON of the type %s", async (contentType, type, end) => {
  await using scene = await WatchScene.open();
  const request = Buffer.from('{"omitKills":true,"fromTheFuture":1}');
  const told = await followPlainly(scene, { "content-type": contentType }, request);
  expect(told).toMatchObject({ code: 200, type, end });
  expect(JSON.parse(told.first.toString())).toEqual({
    version: { epoch: "epoch-1", revision: "2" },
    heartbeatIntervalMs: "2000",
    resync: {},
  });
});

test("a request may be compressed, but not in a way that nobody knows", async () => {
  const message = gzipSync(toBinary(WatchRequestSchema, create(WatchRequestSchema, { omitKills: true })));
  const headers = (compression: string) => ({
    "content-type": "application/connect+proto",
    "connect-content-encoding": compression,
  });
  await using scene = await WatchScene.open();
  const { first } = await followPlainly(scene, headers("gzip"), message, 1);
  expect(fromBinary(WatchResponseSchema, first).event).toMatchObject({ case: "resync" });
  await using other = await WatchScene.open();
  await followPlainly(other, headers("br"), message, 1);
  expect(other.rpcs).toMatchObject([{ code: "unimplemented" }]);
});

test.each<[string, PlainRequest["method"], string, number]>([
  ["another method", "GET", "application/connect+proto", 405],
  ["the type of a single message", "POST", "application/json", 415],
  ["no type", "POST", "", 415],
])("%s is refused", async (_, method = "", type, expected) => {
  await using scene = await WatchScene.open();
  const { status: code } = await sendHttp1(scene.port, {
    method,
    path: PATH,
    headers: { "content-type": type },
  });
  expect(code).toBe(expected);
});

test("a time limit that cannot be read is the caller's mistake", async () => {
  await using scene = await WatchScene.open();
  await followPlainly(
    scene,
    { "content-type": "application/connect+proto", "connect-timeout-ms": "soon" },
    Buffer.alloc(0),
  );
  expect(scene.rpcs).toMatchObject([{ code: "invalid_argument" }]);
});

test("a request that is too large is refused", async () => {
  await using scene = await WatchScene.open();
  const { body: answer } = await sendHttp1(scene.port, {
    method: "POST",
    path: PATH,
    headers: { "content-type": "application/connect+proto" },
    body: Buffer.alloc(2 * 1024 * 1024),
  });
  expect(JSON.parse(answer.subarray(5).toString())).toMatchObject({ error: { code: "resource_exhausted" } });
});

test("what was committed when is told where it is known", async () => {
  await using scene = await WatchScene.open();
  await scene.clock.advance(1_500);
  await using follower = follow(scene);
  const { committedAgoMs } = await follower.stream.at(0);
  const { committedAt } = scene.namespace;
  expect(committedAgoMs).toBe(committedAt === undefined ? undefined : BigInt(1_500 - committedAt));
});

test("the kill set is left out for who does not want it", async () => {
  await using scene = await WatchScene.open();
  await using follower = follow(scene, { omitKills: true });
  const { event } = await follower.stream.at(0);
  expect(event.case).toBe("resync");
  expect(event.value).not.toHaveProperty("kills.flagIds");
  scene.store.set(stateOf("a/1", { mode: "killed" }));
  await scene.poll();
  const { event: change } = await follower.stream.at(1);
  expect(change).toMatchObject({ case: "changed", value: { changes: { flagIds: ["a/1"] } } });
  expect(change.value).not.toHaveProperty("kills.flagIds");
});

test("who knows the version in force is told that nothing has changed", async () => {
  await using scene = await WatchScene.open();
  await using follower = follow(scene, { since: wire(scene.version) });
  const { event, version } = await follower.stream.at(0);
  expect(version).toMatchObject(wire(scene.version));
  expect(event).toMatchObject({ case: "changed", value: { changes: { flagIds: [], entityIds: [] } } });
  expect(event.value).not.toHaveProperty("kills.flagIds");
});

test("who knows an earlier version is told only what changed since, and the kill set", async () => {
  await using scene = await WatchScene.open();
  const since = wire(scene.version);
  scene.store.set(stateOf("a/1", { value: flagValue("hourly") }));
  await scene.poll();
  await using follower = follow(scene, { since });
  expect(await follower.stream.at(0)).toMatchObject({
    version: wire(scene.version),
    event: { case: "changed", value: { changes: { flagIds: ["a/1"] }, kills: { flagIds: ["a/2"] } } },
  });
});

describe("who is ahead, having followed somebody else", () => {
  /** By two commits. */
  async function followAhead(scene: WatchScene) {
    const { epoch, revision } = scene.version;
    const follower = follow(scene, { since: wire({ epoch, revision: revision + 2 }) });
    expect(await follower.stream.at(0)).toMatchObject({
      version: wire(scene.version),
      heartbeatIntervalMs: 2_000n,
      event: { case: "heartbeat" },
    });
    scene.store.set(stateOf("a/1", { mode: "killed" }));
    await scene.poll();
    await scene.clock.advance(2_000);
    // Not what it has known for long: a kill that is over might be among it.
    expect(await follower.stream.at(1)).toMatchObject({
      version: wire({ epoch, revision: revision + 1 }),
      event: { case: "heartbeat" },
    });
    return follower;
  }

  test("is told once this evaluator knows as much, and then what changes", async () => {
    await using scene = await WatchScene.open();
    await using follower = await followAhead(scene);
    scene.store.set(stateOf("a/1"));
    await scene.poll();
    const { version, event } = await follower.stream.at(2);
    expect(version).toMatchObject(wire(scene.version));
    expect(event).toMatchObject({ case: "changed", value: { changes: { flagIds: [], entityIds: [] } } });
    expect(event.value).not.toHaveProperty("kills.flagIds");
    scene.store.set(stateOf("a/3"));
    await scene.clock.advance(50);
    await scene.poll();
    expect((await follower.stream.at(3)).event).toMatchObject({
      case: "changed",
      value: { changes: { flagIds: ["a/3"] } },
    });
  });

  test("is told only what it did not know, where this evaluator is past that", async () => {
    await using scene = await WatchScene.open();
    await using follower = await followAhead(scene);
    scene.store.set(stateOf("a/3"));
    scene.store.set(stateOf("a/4"));
    await scene.poll();
    expect(await follower.stream.at(2)).toMatchObject({
      version: wire(scene.version),
      // Those of one poll come together.
      event: {
        case: "changed",
        value: { changes: { flagIds: ["a/3", "a/4"] }, kills: { flagIds: ["a/1", "a/2"] } },
      },
    });
  });

  test("starts from the beginning where the database was replaced meanwhile", async () => {
    await using scene = await WatchScene.open();
    await using follower = await followAhead(scene);
    scene.store.restore("epoch-2", 1);
    await scene.poll();
    expect(await follower.stream.at(2)).toMatchObject({
      version: wire(scene.version),
      event: { case: "resync", value: { kills: { flagIds: ["a/2"] } } },
    });
  });
});

test.each<[string, (scene: WatchScene) => Version]>([
  ["of another database", ({ version }) => ({ ...version, epoch: "another" })],
  ["that is too long ago", ({ version: { epoch } }) => ({ epoch, revision: 0 })],
])("who knows a version %s starts from the beginning", async (_, sinceOf) => {
  await using scene = await WatchScene.open();
  await using follower = follow(scene, { since: wire(sinceOf(scene)) });
  expect((await follower.stream.at(0)).event).toMatchObject({
    case: "resync",
    value: { kills: { flagIds: ["a/2"] } },
  });
});

test("a database that was replaced is told as a new beginning", async () => {
  await using scene = await WatchScene.open();
  await using follower = follow(scene);
  await follower.stream.at(0);
  scene.store.restore("epoch-2", 1);
  await scene.poll();
  expect(await follower.stream.at(1)).toMatchObject({
    version: wire(scene.version),
    event: { case: "resync", value: { kills: { flagIds: [] } } },
  });
});

test("a store without versions tells a new beginning whenever kills change", async () => {
  await using scene = await WatchScene.open({ storeAway: true });
  scene.store.versioned = false;
  scene.store.away = false;
  await scene.clock.advance(30_000);
  await using follower = follow(scene);
  const first = await follower.stream.at(0);
  expect(first.version).toBeUndefined();
  scene.store.set(stateOf("a/1", { mode: "killed" }));
  await scene.clock.advance(30_000);
  await eventually(() =>
    follower.stream.messages.some(
      ({ event }) => event.case === "resync" && event.value.kills?.flagIds.length === 2,
    ),
  );
});

test("while nothing is known it says so, and then what it has learnt", async () => {
  await using scene = await WatchScene.open({ storeAway: true });
  await using follower = follow(scene, { since: wire(scene.version) });
  const first = await follower.stream.at(0);
  expect(first).toMatchObject({ heartbeatIntervalMs: 2_000n, event: { case: "heartbeat" } });
  expect(first.version).toBeUndefined();
  scene.store.away = false;
  await scene.poll();
  // Nobody here remembers what changed since, so it is nothing only for the version that was learnt.
  expect(await follower.stream.at(1)).toMatchObject({
    version: wire(scene.version),
    event: { case: "changed" },
  });
});

test("a poll that brings nothing new is not told", async () => {
  await using scene = await WatchScene.open();
  await using follower = follow(scene);
  await follower.stream.at(0);
  await scene.clock.advance(30_000);
  await eventually(() => follower.stream.messages.length >= 15);
  expect(new Set(follower.stream.messages.slice(1).map(({ event }) => event.case))).toEqual(
    new Set(["heartbeat"]),
  );
});

test("a version that no database can have said is the caller's mistake", async () => {
  await using scene = await WatchScene.open();
  await using follower = follow(scene, { since: { epoch: "", revision: 1n } });
  expect(await follower.stream.ended).toMatchObject({ code: "invalid_argument", answered: true });
  expect(scene.followers).toBe(0);
});

/** A follower's request as HTTP/1.1 has it. */
const HTTP1_REQUEST = `POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/connect+proto\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0`;

describe("a client whose stream cannot begin", () => {
  test("is no follower once it has left, however many requests stood in line behind each other", async () => {
    await using scene = await WatchScene.open();
    const { socket, closed } = await openRaw(scene.port);
    socket.write(HTTP1_REQUEST.repeat(20));
    await eventually(() => scene.followers > 0);
    socket.resetAndDestroy();
    await closed;
    await eventually(() => scene.server.connectionCount === 0);
    await eventually(() => scene.followers === 0, { what: "no follower is left" });
    expect(scene.rpcs.map(({ code }) => code)).toEqual(Array(20).fill("canceled"));
  });

  test("is not waited for behind a stream that has no end", async () => {
    await using scene = await WatchScene.open();
    const { socket, received } = await openRaw(scene.port);
    socket.write(HTTP1_REQUEST.repeat(3));
    await eventually(() => scene.followers === 3 && received().includes("a/2"));
    await scene.clock.advance(10_000);
    expect(scene.followers).toBe(1);
    expect(scene.rpcs.map(({ code }) => code)).toEqual(["canceled", "canceled"]);
    socket.destroy();
    await eventually(() => scene.followers === 0);
  });

  test("is no follower, over an HTTP/2 session that a broken frame ends", async () => {
    await using scene = await WatchScene.open();
    const { socket, closed } = await openRaw(scene.port);
    socket.write(Buffer.concat([await recordHttp2Request(PATH), Buffer.from("no frame of HTTP/2")]));
    await closed;
    await eventually(() => scene.rpcs.length === 1);
    expect(scene.rpcs.map(({ code }) => code)).toEqual(["canceled"]);
    expect(scene.followers).toBe(0);
    expect(scene.internalErrors).toEqual([]);
  });
});

/** More than the system holds for a connection whose other end does not read. */
async function killMany(scene: WatchScene): Promise<void> {
  for (let i = 0; i < 1_500; i += 1)
    scene.store.set(stateOf(`${"x".repeat(4_000)}/${i}`, { mode: "killed" }));
  await scene.poll();
}

describe("a follower over HTTP/2 that does not read", () => {
  /** It allows 64 KiB a stream. */
  async function followOnce(scene: WatchScene) {
    const session = await openHttp2(scene.port);
    const headers = { ":method": "POST", ":path": PATH, "content-type": "application/grpc", te: "trailers" };
    const stream = session.request(headers);
    stream.on("error", () => {});
    stream.end(Buffer.alloc(5));
    await eventually(() => scene.followers === 1);
    return session;
  }

  test("is cut ten seconds after it could take no more", async () => {
    const stalled: string[] = [];
    await using scene = await WatchScene.open({ onStalled: (procedure) => stalled.push(procedure) });
    for (let i = 0; i < 100; i += 1)
      scene.store.set(stateOf(`${"x".repeat(1_000)}/${i}`, { mode: "killed" }));
    await scene.poll();
    const session = await followOnce(scene);
    await eventually(() => session.socket.bytesRead > 64_000);
    await scene.clock.advance(9_999);
    expect({ followers: scene.followers, stalled }).toEqual({ followers: 1, stalled: [] });
    await scene.clock.advance(1);
    expect({ followers: scene.followers, stalled }).toEqual({ followers: 0, stalled: [PATH.slice(1)] });
    session.destroy();
  });

  test("is left alone as long as what it was told has left the daemon", async () => {
    await using scene = await WatchScene.open();
    const session = await followOnce(scene);
    for (let i = 0; i < 30; i += 1) {
      const before = session.socket.bytesRead;
      await scene.clock.advance(2_000);
      await eventually(() => session.socket.bytesRead > before, { what: `heartbeat ${i}` });
    }
    expect(scene.followers).toBe(1);
    session.destroy();
  });
});

/** Commits that are learnt one by one. */
async function changeOften(scene: WatchScene, good: Follower): Promise<void> {
  for (let i = 0; i < 5; i += 1) {
    scene.store.set(stateOf(`b/${i}`));
    await scene.clock.advance(50);
    await scene.poll();
    await eventually(() => good.stream.messages.at(-1)?.version?.revision === BigInt(scene.version.revision));
  }
}

/** A follower that does not read. */
async function followWithoutReading(scene: WatchScene): Promise<Socket> {
  const { socket } = await openRaw(scene.port);
  socket.pause();
  socket.write(HTTP1_REQUEST);
  await eventually(() => scene.followers === 2);
  return socket;
}

test("a follower that stops reading is cut after ten seconds, and others do not notice", async () => {
  const stalled: string[] = [];
  await using scene = await WatchScene.open({ onStalled: (procedure) => stalled.push(procedure) });
  await killMany(scene);
  await using good = follow(scene);
  await good.stream.at(0);
  const socket = await followWithoutReading(scene);
  await changeOften(scene, good);
  await scene.clock.advance(9_000);
  expect({ followers: scene.followers, stalled }).toEqual({ followers: 2, stalled: [] });
  await scene.clock.advance(1_000);
  await eventually(() => scene.followers === 1);
  expect(stalled).toEqual([PATH.slice(1)]);
  expect(good.stream.end).toBeUndefined();
  socket.destroy();
});

test("a follower that reads again in time is told all that it missed as one event", async () => {
  await using scene = await WatchScene.open();
  await killMany(scene);
  await using good = follow(scene);
  await good.stream.at(0);
  const socket = await followWithoutReading(scene);
  await changeOften(scene, good);
  let tail = "";
  socket.on("data", (piece: Buffer) => {
    tail = `${tail}${piece.toString("latin1")}`.slice(-2_000);
  });
  socket.resume();
  await eventually(() => tail.includes("b/4"));
  // The last chunk holds the last message, and nothing was told in between.
  expect(Array.from(tail.matchAll(/b\/\d/g), ([id]) => id)).toEqual(["b/0", "b/1", "b/2", "b/3", "b/4"]);
  expect(good.stream.messages.filter(({ event }) => event.case === "changed")).toHaveLength(5);
  socket.destroy();
});
