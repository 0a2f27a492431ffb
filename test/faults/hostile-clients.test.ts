import { setImmediate, setTimeout } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WatchService } from "../../src/gen/pbflagd/v1/watch_pb.ts";
import { STALL_TIMEOUT_MS } from "../../src/server/rpc/rpc-handlers.ts";
import { openScene, SOON, serveArgs } from "../daemon/scene.ts";
import { startDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { END_HEADERS, frame, PREFACE, SETTINGS } from "../support/http2-frames.ts";
import { JUDGED, judge } from "../support/judged.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { size } from "../support/size.ts";
import {
  CLIENT_KINDS,
  openEvaluatorClients,
  openHttp2,
  openRaw,
  type RawConnection,
  recordHttp2Request,
  sendHttp1,
  sendHttp2,
} from "../support/wire-clients.ts";
import { evaluatorPath } from "../wire/serve-memory.ts";
import { openServerProcess, residentBytes, type ServerProcess, type Target } from "../wire/server-process.ts";

const EVALUATE = evaluatorPath("evaluate");
const MIB = 1_024 * 1_024;

/** With the default of 5 s: everybody is gone after 6. */
const HEADER_TIMEOUT_MS = size(1_000, 5_000);
const CLOSED_WITHIN_MS = 1.2 * HEADER_TIMEOUT_MS;
/** For a body there is the request's time; then its client has a second to read that it was refused. */
const REQUEST_TIMEOUT_MS = size(2_000, 10_000);
const BODIES_CLOSED_WITHIN_MS = 1.2 * REQUEST_TIMEOUT_MS + 1_000;
/** For a machine that is busy with other things to get round to it: it prints what it took. Node's own limit is a minute. */
const NOTICE_MS = 20_000;

let server: ServerProcess;

beforeAll(async () => {
  server = await openServerProcess({
    limits: { headerTimeoutMs: HEADER_TIMEOUT_MS, requestTimeoutMs: REQUEST_TIMEOUT_MS },
  });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

describe("clients that open connections and then ask for nothing", () => {
  const SLOW_BODY = `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n`;
  /** What they say at once, and then a byte at a time if there is more to say. */
  const SLOW_HTTP1 = [
    { says: "" },
    { says: "P" },
    { says: "GET / HT" },
    { says: "GET / HTTP/1.1\r\nhost: a\r\n" },
    { says: "POST / HTTP/1.1\r\nhost: a\r\nx-slow: ", drips: "a" },
    { says: "GET ", drips: "/" },
    // Where we wait ourselves, and hand over.
    { says: "POST " },
    { says: `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\nx-slow: `, drips: "a" },
    { says: `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\n`, drips: "a: a\r\n" },
  ];
  /** Their heads are there in time. */
  const SLOW_BODIES = [
    { says: SLOW_BODY },
    { says: SLOW_BODY, drips: " " },
    { says: `${SLOW_BODY}{`, drips: " " },
  ];
  const HALF_OPEN_HTTP2 = [
    { says: "PRI * HTTP/2.0\r\n\r" },
    { says: PREFACE },
    { says: PREFACE + SETTINGS },
    { says: `${PREFACE}${SETTINGS}\0\0\x20\x01\x04\0\0\0\x01half` },
    { says: `${PREFACE}${SETTINGS}\0\0\x01\x01\0\0\0\0\x01\x82` },
    { says: `${PREFACE}${SETTINGS}\0\x10\0\x01\x04\0\0\0\x01`, drips: "\x82" },
  ];

  test("are gone in time, and everybody else is served meanwhile", {
    ...JUDGED,
    timeout: 60_000,
  }, async () => {
    // The first ones wait for the compiler.
    await serveEverybodyElse(server, setTimeout(size(500, 3_000)));
    const before = await serveEverybodyElse(server, setTimeout(size(500, 3_000)));
    const silent = [...take(SLOW_HTTP1, size(100, 2_000)), ...take(HALF_OPEN_HTTP2, size(50, 500))].map(
      (attacker) => attack(server, attacker),
    );
    const slowBodies = take(SLOW_BODIES, size(30, 300)).map((attacker) => attack(server, attacker));
    const attackers = [...silent, ...slowBodies];
    const during = await serveEverybodyElse(server, Promise.all(attackers));
    expect(during.length).toBeGreaterThan(CLIENT_KINDS.length);
    const [silentMs, slowBodiesMs] = await Promise.all([longest(silent), longest(slowBodies)]);
    expect(silentMs).toBeLessThan(CLOSED_WITHIN_MS + NOTICE_MS);
    expect(slowBodiesMs).toBeLessThan(BODIES_CLOSED_WITHIN_MS + NOTICE_MS);
    const [p99Before, p99] = [percentile(before, 0.99), percentile(during, 0.99)];
    console.log(
      `${attackers.length} attackers; good requests: ${before.length} before, p99 ${p99Before} ms, ${during.length} meanwhile, p99 ${p99} ms`,
    );
    judge({ what: "silent clients, closed after ms", value: silentMs, max: CLOSED_WITHIN_MS });
    judge({ what: "slow bodies, closed after ms", value: slowBodiesMs, max: BODIES_CLOSED_WITHIN_MS });
    judge({ what: "p99 of good clients meanwhile, ms", value: Number(p99), max: 2 * Number(p99Before) });
  });

  async function longest(lifetimes: readonly Promise<number>[]): Promise<number> {
    return Math.max(...(await Promise.all(lifetimes)));
  }

  /** Resolves with how long the connection lasted, in milliseconds. */
  async function attack(
    { port }: Target,
    { says, drips }: { says: string; drips?: string },
  ): Promise<number> {
    const { socket, closed } = await openRaw(port);
    const openedAt = performance.now();
    socket.write(says, "latin1");
    const drip = drips === undefined ? undefined : setInterval(() => socket.write(drips, "latin1"), 200);
    await closed;
    clearInterval(drip);
    return performance.now() - openedAt;
  }
});

describe("floods of HTTP/2", () => {
  /** Asks to Evaluate in gRPC; the message is to follow. In HPACK: POST and http by their indexes, the rest as literals. */
  const HEADERS = `\x83\x86\x04${String.fromCharCode(EVALUATE.length)}${EVALUATE}\x01\x01a\x0f\x10\x10application/grpc`;

  const ask = (stream: number) => frame("HEADERS", { flags: END_HEADERS, stream, payload: HEADERS });
  /** The n-th thing that each says. */
  const FLOODS: Readonly<Record<string, (n: number) => string>> = {
    "streams, all open": (n) => ask(2 * n + 1),
    "streams, reset at once": (n) =>
      ask(2 * n + 1) + frame("RST_STREAM", { stream: 2 * n + 1, payload: "\0\0\0\x08" }),
    CONTINUATION: (n) =>
      n === 0
        ? frame("HEADERS", { stream: 1, payload: HEADERS })
        : frame("CONTINUATION", { stream: 1, payload: "\0\x01a\x01b" }),
    "CONTINUATION, empty": (n) => frame(n === 0 ? "HEADERS" : "CONTINUATION", { stream: 1 }),
    PING: () => frame("PING", { payload: "8 bytes!" }),
    SETTINGS: (n) => frame("SETTINGS", { payload: `\0\x04\0\0\xff${String.fromCharCode(n % 256)}` }),
    "SETTINGS, empty": () => SETTINGS,
  };
  /** In one go. */
  const FRAMES = 500;

  test("are dropped, whether or not their clients read, and everybody else is served meanwhile", async () => {
    const dropped: Record<string, number> = {};
    const floods = take(Object.entries(FLOODS), size(14, 140)).map(async ([name, say], i) => {
      await flood(server, say, { reads: i % 2 === 0 });
      dropped[name] = (dropped[name] ?? 0) + 1;
    });
    const latencies = await serveEverybodyElse(server, Promise.all(floods));
    expect(Object.keys(dropped).toSorted()).toEqual(Object.keys(FLOODS).toSorted());
    expect(latencies.length).toBeGreaterThan(CLIENT_KINDS.length);
    console.log(
      `${floods.length} floods, ${latencies.length} good requests, p99 ${percentile(latencies, 0.99)} ms`,
    );
  }, 120_000);

  test("clients that ask and take nothing are dropped, and everybody else is served meanwhile", async () => {
    await using impatient = await openServerProcess({ limits: { idleTimeoutMs: 5_000 } });
    const stalled = Array.from({ length: size(10, 100) }, () => stall(impatient));
    const latencies = await serveEverybodyElse(impatient, Promise.all(stalled));
    expect(latencies.length).toBeGreaterThan(CLIENT_KINDS.length);
  }, 120_000);

  /** Resolves once the connection is closed, until which it goes on. */
  async function flood(
    { port }: Target,
    say: (n: number) => string,
    { reads }: { reads: boolean },
  ): Promise<void> {
    const { socket, closed } = await openRaw(port);
    if (!reads) socket.pause();
    socket.write(PREFACE + SETTINGS, "latin1");
    for (let n = 0; !socket.closed; n += FRAMES) {
      const frames = Array.from({ length: FRAMES }, (_, i) => say(n + i)).join("");
      const taken = new Promise((resolve) => socket.write(frames, "latin1", resolve));
      await Promise.race([taken, closed]);
      // What is taken at once would leave everybody else in this process without a turn.
      await setImmediate();
    }
  }

  /** Fifty answers that do not fit into a window of nothing. Resolves once the connection is closed. */
  async function stall({ port }: Target): Promise<void> {
    const session = await openHttp2(port, { initialWindowSize: 0 });
    const closed = new Promise<void>((resolve) => session.once("close", resolve));
    const headers = { ":method": "POST", ":path": EVALUATE, "content-type": "application/grpc" };
    for (let i = 0; i < 50; i++) {
      const stream = session.request(headers);
      stream.on("error", () => {});
      stream.end("\0\0\0\0\x11\x0a\x0fnotifications/1");
    }
    await closed;
  }
});

describe("requests that are too much", () => {
  const FLAG = '{"flagId":"notifications/1"}';
  const bomb = gzipSync(Buffer.alloc(256 * MIB), { level: 9 });
  const json = { "content-type": "application/json" };
  const proto = { "content-type": "application/proto" };
  const grpc = { "content-type": "application/grpc", te: "trailers" };

  /** Each resolves with a word for what became of it. */
  const ATTACKS: Readonly<Record<string, (target: Target) => Promise<string>>> = {
    "a body of 64 MiB that says so": (target) =>
      pour(target, "content-length: 67108864\r\n", Buffer.alloc(64 * 1_024)),
    "an endless body in chunks": (target) =>
      pour(target, "transfer-encoding: chunked\r\n", Buffer.from(`10000\r\n${" ".repeat(65_536)}\r\n`)),
    "an endless body in chunks of a byte": (target) =>
      pour(target, "transfer-encoding: chunked\r\n", Buffer.from("1\r\n \r\n".repeat(10_000))),
    "an endless body over HTTP/2": pourHttp2,
    "a gzip bomb": async ({ port }) => {
      const headers = { ...proto, "content-encoding": "gzip" };
      return String((await sendHttp1(port, { method: "POST", path: EVALUATE, headers, body: bomb })).status);
    },
    "a gzip bomb over gRPC": async ({ port }) => {
      const session = await openHttp2(port);
      const body = Buffer.concat([Buffer.alloc(5), bomb]);
      body.writeUInt8(1, 0);
      body.writeUInt32BE(bomb.length, 1);
      const headers = { ...grpc, "grpc-encoding": "gzip" };
      const { trailers } = await sendHttp2(session, { method: "POST", path: EVALUATE, headers, body });
      session.close();
      return `grpc-status ${String(trailers["grpc-status"])}`;
    },
    "a message of 4 GiB that is announced and does not come": async ({ port }) => {
      const session = await openHttp2(port);
      const body = Buffer.from("00ffffffff00", "hex");
      const { trailers } = await sendHttp2(session, { method: "POST", path: EVALUATE, headers: grpc, body });
      session.close();
      return `grpc-status ${String(trailers["grpc-status"])}`;
    },
    "less body than announced": async ({ port }) => {
      const raw = await openRaw(port);
      raw.socket.end(
        `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{}`,
      );
      await raw.closed;
      return statusOf(raw) === "" ? "closed" : statusOf(raw);
    },
    "more body than announced": async ({ port }) => {
      const raw = await openRaw(port);
      const head = `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${FLAG.length}\r\n\r\n`;
      raw.socket.write(`${head}${FLAG}more`);
      await raw.closed;
      return [...raw.received().matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status).join(" ");
    },
    "two lengths": async ({ port }) => {
      const raw = await openRaw(port);
      raw.socket.write(
        `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`,
      );
      await raw.closed;
      return statusOf(raw);
    },
    "another length over HTTP/2": async ({ port }) => {
      const session = await openHttp2(port);
      const headers = { ...json, "content-length": 99 };
      const outcome = await sendHttp2(session, { method: "POST", path: EVALUATE, headers, body: FLAG }).then(
        ({ status }) => String(status),
        () => "stream reset",
      );
      session.destroy();
      return outcome;
    },
    "JSON of depth 10,000": (target) => postDeep(target, 10_000),
    "JSON of depth 500,000": (target) => postDeep(target, 500_000),
    "JSON of depth 10,000 in a field that we know": async ({ port }) => {
      const body = `{"flagId":${"[".repeat(10_000)}${"]".repeat(10_000)}}`;
      return String((await sendHttp1(port, { method: "POST", path: EVALUATE, headers: json, body })).status);
    },
    "groups of depth 500,000": async ({ port }) => {
      const body = Buffer.alloc(500_000, 0x7b);
      return String((await sendHttp1(port, { method: "POST", path: EVALUATE, headers: proto, body })).status);
    },
    "headers of 1 MiB": async ({ port }) => {
      const raw = await openRaw(port);
      raw.socket.write(`GET / HTTP/1.1\r\nx: ${"a".repeat(MIB)}\r\n\r\n`);
      await raw.closed;
      return statusOf(raw);
    },
  };

  const OUTCOMES: Readonly<Record<keyof typeof ATTACKS, string>> = {
    "a body of 64 MiB that says so": "429",
    "an endless body in chunks": "429",
    "an endless body in chunks of a byte": "429",
    "an endless body over HTTP/2": "429",
    "a gzip bomb": "429",
    "a gzip bomb over gRPC": "grpc-status 8",
    "a message of 4 GiB that is announced and does not come": "grpc-status 8",
    "less body than announced": "400",
    // The request was complete; what follows it is none.
    "more body than announced": "200 400",
    "two lengths": "400",
    "another length over HTTP/2": "stream reset",
    "JSON of depth 10,000": "400",
    "JSON of depth 500,000": "400",
    "JSON of depth 10,000 in a field that we know": "400",
    "groups of depth 500,000": "400",
    "headers of 1 MiB": "431",
  };

  test("are refused, each with its status", async () => {
    const outcomes: Record<string, string> = {};
    for (const [name, attackOnce] of Object.entries(ATTACKS)) outcomes[name] = await attackOnce(server);
    expect(outcomes).toEqual(OUTCOMES);
  }, 60_000);

  test("do not make the process grow", async () => {
    await using fresh = await openServerProcess();
    const attacks = Object.values(ATTACKS);
    const oneAfterTheOther = async () => {
      for (const attackOnce of attacks) await attackOnce(fresh);
    };
    const allAtOnce = async (rounds: number) => {
      for (let i = 0; i < rounds; i++) await Promise.all(attacks.map((attackOnce) => attackOnce(fresh)));
    };
    // What the same server takes for ordinary load, large requests among it, is what a rise is a rise above.
    const loadedMiB = await peakDuring(fresh, () => load(fresh, size(1_000, 3_000)));
    const attackedMiB = await peakDuring(fresh, async () => {
      for (let i = 0; i < size(1, 3); i++) await oneAfterTheOther();
    });
    // Memory that was freed is not given back at once; what matters is that it does not go on.
    await allAtOnce(size(2, 12));
    const stormedMiB = await peakDuring(fresh, () => allAtOnce(size(2, 6)));
    const laterMiB = await peakDuring(fresh, () => allAtOnce(size(2, 12)));
    console.log(`RSS in MiB: ${[loadedMiB, attackedMiB, stormedMiB, laterMiB].map(Math.round).join(", ")}`);
    expect(attackedMiB - loadedMiB).toBeLessThan(size(32, 16));
    expect(laterMiB - stormedMiB).toBeLessThan(32);
    await askGood(fresh);
  }, 320_000);

  /** How large a process becomes in the course of something, in MiB. */
  async function peakDuring({ pid }: Target, run: () => Promise<void>): Promise<number> {
    let peak = 0;
    let done = false;
    const running = run().finally(() => {
      done = true;
    });
    const watching = eventually(
      async () => {
        peak = Math.max(peak, await residentBytes(pid));
        return done;
      },
      { timeoutMs: 300_000 },
    );
    await Promise.all([running, watching]);
    return peak / MIB;
  }

  /** Sends as long as the server takes it. Resolves with the status of the answer. */
  async function pour({ port }: Target, length: string, chunk: Buffer): Promise<string> {
    const raw = await openRaw(port);
    const flow = () => {
      while (raw.socket.writable && raw.socket.write(chunk)) if (raw.received() !== "") return;
    };
    raw.socket.on("drain", flow);
    raw.socket.write(
      `POST ${EVALUATE} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n${length}\r\n`,
    );
    flow();
    await raw.closed;
    return statusOf(raw);
  }

  async function pourHttp2({ port }: Target): Promise<string> {
    const session = await openHttp2(port);
    const stream = session.request({ ":method": "POST", ":path": EVALUATE, ...json });
    const answered = new Promise<string>((resolve) => {
      stream.once("response", (headers) => resolve(String(headers[":status"])));
    });
    stream.on("error", () => {});
    const flow = () => {
      while (stream.writable && stream.write(Buffer.alloc(16_384)));
    };
    stream.on("drain", flow);
    flow();
    stream.resume();
    const closed = new Promise((resolve) => stream.once("close", resolve));
    const status = await answered;
    await closed;
    session.destroy();
    return status;
  }

  async function postDeep({ port }: Target, depth: number): Promise<string> {
    const body = `{"flagId":"notifications/1","unknown":${"[".repeat(depth)}${"]".repeat(depth)}}`;
    return String((await sendHttp1(port, { method: "POST", path: EVALUATE, headers: json, body })).status);
  }

  /** Good requests, with every kind of client side by side; one in twenty is nearly as large as it may be. */
  async function load({ port }: Target, requests: number): Promise<void> {
    using clients = openEvaluatorClients(port);
    const small = Array.from({ length: 100 }, () => "notifications/1");
    const large = Array.from({ length: 10_000 }, () => "x".repeat(80));
    const kinds = CLIENT_KINDS.filter((kind) => !kind.startsWith("Connect GET")).map(
      (kind) => clients.of[kind],
    );
    const askers = take(kinds, 36).map(async (client, n) => {
      for (let i = 0; i < requests / 36; i++) {
        await client.bulkEvaluate({ flagIds: (i + n) % 20 === 0 ? large : small });
      }
    });
    await Promise.all(askers);
  }

  async function askGood({ port }: Target): Promise<void> {
    const { body } = await sendHttp1(port, { method: "POST", path: EVALUATE, headers: json, body: FLAG });
    expect(JSON.parse(body.toString())).toMatchObject({ value: { stringValue: "weekly" } });
  }
});

describe("more connections than the system allows", () => {
  test("do not end the process", async () => {
    const small = await openServerProcess({ openFilesMax: 64, limits: { headerTimeoutMs: 500 } });
    const connections = await Promise.all(Array.from({ length: 200 }, () => openRaw(small.port)));
    await Promise.all(connections.slice(0, 10).map(({ closed }) => closed));
    for (const { socket } of connections) socket.destroy();
    const isServed = () =>
      sendHttp1(small.port, { path: "/healthz" }).then(
        ({ status }) => status === 200,
        () => false,
      );
    await expect(eventually(isServed)).resolves.toBeUndefined();
    await small[Symbol.asyncDispose]();
  });
});

describe("clients that ask to follow and are gone at once", () => {
  const WATCH = `/${WatchService.typeName}/Watch`;
  const REQUEST = `POST ${WATCH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/connect+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0`;

  test("leave no follower behind", async () => {
    await using database = await createTestDatabase();
    await using scene = await openScene({ url: database.url });
    await using daemon = await startDaemon({ args: serveArgs(database.url, scene) });
    await daemon.whenReady();
    const http2 = await recordHttp2Request(WATCH);
    const says = [
      Buffer.from(REQUEST, "latin1"),
      // In line behind each other, and behind an answer that has no end.
      Buffer.from(REQUEST.repeat(20), "latin1"),
      http2,
      Buffer.concat([http2, Buffer.from("no frame of HTTP/2")]),
    ];
    const followers = async () => (await daemon.metric("pbflags_watch_followers"))[""] ?? 0;
    const connections = take(says, size(40, 400)).map(async (request) => {
      const { socket, closed } = await openRaw(daemon.port);
      socket.write(request);
      return { socket, closed };
    });
    const opened = await Promise.all(connections);
    await expect.poll(followers, SOON).toBeGreaterThan(0);
    for (const { socket } of opened) socket.resetAndDestroy();
    await Promise.all(opened.map(({ closed }) => closed));
    // Those of whose end nobody tells are cut when they take nothing.
    await expect.poll(followers, { timeout: STALL_TIMEOUT_MS + 30_000, interval: 100 }).toBe(0);
    expect(daemon.log.filter(({ level }) => level === "error")).toEqual([]);
  }, 60_000);
});

/** As many as asked for, of each kind in turn. */
function take<T>(kinds: readonly T[], count: number): T[] {
  return Array.from({ length: count }, (_, i) => kinds[i % kinds.length]).filter(
    (kind) => kind !== undefined,
  );
}

function statusOf({ received }: RawConnection): string {
  return /^HTTP\/1\.1 (\d+)/.exec(received())?.[1] ?? "";
}

/** Asks with every kind of client until `over` settles. Rejects at the first answer that is wrong. */
async function serveEverybodyElse({ port }: Target, over: Promise<unknown>): Promise<number[]> {
  using clients = openEvaluatorClients(port);
  const latencies: number[] = [];
  const stop = new AbortController();
  const stopped = over.finally(() => stop.abort());
  await Promise.all(
    Object.entries(clients.of).map(async ([kind, client]) => {
      while (!stop.signal.aborted) {
        const askedAt = performance.now();
        const { value } = await client.evaluate({ flagId: "notifications/1", entityId: "user-1" });
        latencies.push(performance.now() - askedAt);
        expect(value?.value, kind).toEqual({ case: "stringValue", value: "never" });
      }
    }),
  );
  await stopped;
  return latencies;
}

function percentile(values: readonly number[], share: number): string {
  return (values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? 0).toFixed(1);
}
