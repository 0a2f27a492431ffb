import { once } from "node:events";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  createServer as createHttpServer,
  Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import { createSecureServer as createHttp2SecureServer, createServer as createHttp2Server } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { createServer as createTcpServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket, TlsOptions } from "node:tls";
import { inspect } from "node:util";
import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { listen } from "../../../test/support/listen.ts";
import { FlagEvaluatorService, GetKilledFlagsResponseSchema } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { UpstreamError } from "../upstream-error.ts";
import type { AuthSettings, UpstreamSettings } from "../upstream-settings.ts";
import { withDeadline } from "./deadline.ts";
import { openTransport } from "./open-transport.ts";
import { QUIET_MS } from "./stale.ts";
import type { Transport } from "./transport.ts";

const { getKilledFlags } = FlagEvaluatorService.method;
const MESSAGE = toBinary(
  GetKilledFlagsResponseSchema,
  create(GetKilledFlagsResponseSchema, { flagIds: ["a/1"] }),
);
const PROTOCOLS = ["connect", "grpc"] as const;
type Protocol = (typeof PROTOCOLS)[number];

/** Where a certificate, a key or an authority lies. */
function pem(name: string): string {
  return new URL(`../../../test/support/certificates/${name}`, import.meta.url).pathname;
}

const MTLS = { method: "mtls", certFile: pem("client.pem"), keyFile: pem("client.key") } as const;

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "pbflagd-transport-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

describe.each(PROTOCOLS)("over TLS, %s", (protocol) => {
  test("trusts whom tls.ca_file names", async () => {
    await using server = await serve({ protocol, tls: certificate("server") });
    for (const host of ["localhost", "127.0.0.1"]) {
      await using client = open({ url: server.url.replace("127.0.0.1", host), tls: trust("ca.pem") });
      expect((await ask(client)).flagIds).toEqual(["a/1"]);
    }
  });

  test.each<[string, string, UpstreamSettings["tls"], string]>([
    ["has expired", "expired", trust("ca.pem"), "its certificate has expired"],
    [
      "is from an unknown authority",
      "server",
      trust("other-ca.pem"),
      "its certificate is not from an authority that is trusted here",
    ],
    [
      "is from an authority that this machine does not know",
      "server",
      { caFile: undefined, serverName: undefined },
      "its certificate is not from an authority that is trusted here",
    ],
    [
      "is for another name",
      "other-name",
      trust("ca.pem"),
      "its certificate is for another name: IP: 127.0.0.1 is not in the cert's list",
    ],
    [
      "is not for the name that is wanted",
      "server",
      trust("ca.pem", "elsewhere.test"),
      "its certificate is for another name: Host: elsewhere.test",
    ],
  ])("a server whose certificate %s is refused with the reason", async (_, name, tls, reason) => {
    await using server = await serve({ protocol, tls: certificate(name) });
    await using client = open({ url: server.url, tls });
    const error = await ask(client).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ name: "UpstreamError", code: "connection", answered: false });
    expect(String(error)).toContain(`Cannot reach ${server.url}: ${reason}`);
    expect(server.authorizations).toEqual([]);
  });

  test("accepts the name that tls.server_name says", async () => {
    await using server = await serve({ protocol, tls: certificate("other-name") });
    await using client = open({ url: server.url, tls: trust("ca.pem", "elsewhere.test") });
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
  });

  test("shows its own certificate where it has one", async () => {
    const names: unknown[] = [];
    const onSecure = (socket: TLSSocket) => names.push(socket.getPeerCertificate().subject.CN);
    await using server = await serve({ protocol, tls: { ...certificate("server"), ...DEMANDS }, onSecure });
    await using client = open({ url: server.url, tls: trust("ca.pem"), auth: MTLS });
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
    expect(names).toEqual(["client"]);
  });

  test.each<[string, AuthSettings, Buffer, string]>([
    [
      "wants a client certificate",
      { method: "none" },
      readFileSync(pem("ca.pem")),
      "wants a client certificate",
    ],
    [
      "refuses the client's certificate",
      MTLS,
      readFileSync(pem("other-ca.pem")),
      "refuses the client's certificate",
    ],
  ])("a server that %s is named so", async (_, auth, ca, reason) => {
    await using server = await serve({ protocol, tls: { ...certificate("server"), ...DEMANDS, ca } });
    await using client = open({ url: server.url, tls: trust("ca.pem"), auth });
    const error = await ask(client).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "connection" });
    // Which of the two it is depends on whether the alert arrives before the end of the connection.
    expect(String(error)).toMatch(
      new RegExp(
        `Cannot reach ${server.url}: it (closed the connection right after the TLS handshake, as a server does that )?${reason}`,
      ),
    );
  });

  test("a server that does not speak TLS is named so", async () => {
    await using server = await serve({ protocol });
    await using client = open({ url: server.url.replace("://", "s://"), tls: trust("ca.pem") });
    await expect(ask(client)).rejects.toMatchObject({
      code: "connection",
      message: expect.stringContaining("it does not speak TLS"),
    });
  });

  test("a server that does not speak the protocol is named so", async () => {
    const other = protocol === "grpc" ? "connect" : "grpc";
    await using server = await serve({ protocol: other, tls: { ...certificate("server") } });
    const url = `${protocol === "grpc" ? "grpcs" : "https"}${server.url.slice(server.url.indexOf(":"))}`;
    await using client = open({ url, tls: trust("ca.pem") });
    await expect(ask(client)).rejects.toMatchObject({
      code: "connection",
      message: expect.stringMatching(
        /it does not speak (the protocol that the url asks for|HTTP\/2 over TLS)/,
      ),
    });
  });

  test("a handshake that takes too long fails the calls that wait for it", async () => {
    const clock = new FakeClock();
    const sockets: Socket[] = [];
    const silent = createTcpServer((socket) => void sockets.push(socket.resume().on("error", () => {})));
    const url = `${protocol === "grpc" ? "grpcs" : "https"}://127.0.0.1:${await listen(silent)}`;
    await using client = open({ url, tls: trust("ca.pem") }, clock);
    const asking = ask(client, clock).catch((error: unknown) => error);
    await eventually(() => sockets.length === 1);
    await clock.advance(249);
    expect(sockets[0]?.destroyed).toBe(false);
    await clock.advance(1);
    expect(await asking).toMatchObject({
      code: "connection",
      message: `Cannot reach ${url}: no connection over TLS within 250 ms`,
    });
    silent.close();
    await once(silent, "close");
  });

  test("takes up files that were renewed, but not such as cannot be used", async () => {
    const [caFile, certFile, keyFile] = ["ca", "cert", "key"].map((name) =>
      join(folder, `${protocol}-${name}`),
    );
    if (caFile === undefined || certFile === undefined || keyFile === undefined) throw new Error("no folder");
    copyFileSync(pem("other-ca.pem"), caFile);
    copyFileSync(pem("server.pem"), certFile);
    copyFileSync(pem("server.key"), keyFile);
    const names: unknown[] = [];
    const onSecure = (socket: TLSSocket) => names.push(socket.getPeerCertificate().subject.CN);
    const tls = { ...certificate("server"), ...DEMANDS };
    await using server = await serve({ protocol, tls, onSecure });
    const clock = new FakeClock();
    await using client = open(
      {
        url: server.url,
        tls: { caFile, serverName: undefined },
        auth: { method: "mtls", certFile, keyFile },
      },
      clock,
    );
    const closeConnections = async () => {
      server.closeConnections();
      await clock.advance(QUIET_MS);
    };
    await expect(ask(client)).rejects.toMatchObject({ code: "connection" });

    copyFileSync(pem("ca.pem"), caFile);
    await ask(client);
    copyFileSync(pem("client.pem"), certFile);
    await closeConnections();
    // The key is still another's.
    await ask(client);
    copyFileSync(pem("client.key"), keyFile);
    await closeConnections();
    await ask(client);
    rmSync(caFile);
    await closeConnections();
    await ask(client);
    expect(names).toEqual(["server", "server", "client", "client"]);
  });
});

describe.each(PROTOCOLS)("who asks, %s", (protocol) => {
  test.each<[string, AuthSettings, string, Record<string, string | undefined>]>([
    ["nobody", { method: "none" }, "", { authorization: undefined, "x-api-key": undefined }],
    ["the URL's user", { method: "none" }, "bob:p%40ss@", { authorization: basic("bob:p@ss") }],
    [
      "who has a key",
      { method: "api-key", key: "k3y" },
      "bob:p%40ss@",
      { "x-api-key": "k3y", authorization: undefined },
    ],
    [
      "the bearer of a token",
      { method: "bearer", token: "t0ken" },
      "bob:p%40ss@",
      { authorization: "Bearer t0ken" },
    ],
    [
      "a user with a password",
      { method: "basic", username: "eve", password: "wörd:x" },
      "bob:p%40ss@",
      { authorization: basic("eve:wörd:x") },
    ],
    [
      "whom headers of one's own name",
      { method: "custom", headers: { "X-Tenant": "7", Authorization: "Secret s3" } },
      "",
      { "x-tenant": "7", authorization: "Secret s3" },
    ],
  ])("%s is told to the upstream", async (_, auth, credentials, expected) => {
    await using server = await serve({ protocol });
    await using client = open({ url: server.url.replace("://", `://${credentials}`), auth });
    expect(client.target).toBe(server.url);
    await ask(client);
    await ask(client);
    for (const headers of server.authorizations) expect(headers).toEqual({ ...NOBODY, ...expected });
    expect(server.authorizations).toHaveLength(2);
  });

  test("a wrong token is the upstream's own refusal, and is not shown", async () => {
    await using server = await serve({
      protocol,
      isAllowed: ({ authorization }) => authorization === "Bearer right",
    });
    await using client = open({ url: server.url, auth: { method: "bearer", token: "wr0ng" } });
    const error = await ask(client).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: "unauthenticated", answered: true });
    expect(String(error)).toContain(`${server.url} answered unauthenticated: who are you?`);
    expect(String((error as Error).stack)).not.toContain("wr0ng");
  });
});

describe.each(PROTOCOLS)("an upstream that repeats what it was sent, %s", (protocol) => {
  const TOKEN = `t0ken-${"x".repeat(100)}`;

  test.each<[string, AuthSettings, string, string]>([
    ["a token", { method: "bearer", token: TOKEN }, "", TOKEN],
    ["a key", { method: "api-key", key: TOKEN }, "", TOKEN],
    ["a password", { method: "basic", username: "eve", password: TOKEN }, "", TOKEN],
    ["the URL's password", { method: "none" }, `bob:${TOKEN}@`, TOKEN],
    [
      "a base64 of it",
      { method: "basic", username: "eve", password: "hunter2" },
      "",
      basic("eve:hunter2").slice(6),
    ],
    ["a header", { method: "custom", headers: { "X-Tenant": TOKEN } }, "", TOKEN],
  ])("does not make us show %s", async (_, auth, credentials, secret) => {
    for (const said of [`who is ${secret}?`, `${"x".repeat(480)}${secret}`]) {
      await using server = await serve({ protocol, isAllowed: () => false, refusal: said });
      await using client = open({ url: server.url.replace("://", `://${credentials}`), auth });
      const error = await ask(client).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: "unauthenticated", answered: true });
      expect(String(error)).toMatch(/answered unauthenticated: (who is \*\*\*\?|x{480}\*\*\*)$/);
      expect(inspect(error)).not.toContain(secret.slice(0, 10));
    }
  });

  test("does not make us show it as a content type either", async () => {
    await using server = await serve({ protocol, type: `text/${TOKEN}` });
    await using client = open({ url: server.url, auth: { method: "bearer", token: TOKEN } });
    const error = await ask(client).catch((caught: unknown) => caught);
    expect(String(error)).toContain("content type text/***");
    expect(inspect(error)).not.toContain("t0ken");
  });
});

test("an upstream that repeats what it was sent as an encoding or as a code does not make us show it", async () => {
  let answers = 0;
  await using server = await serveHttp((_, response) => {
    answers += 1;
    if (answers === 1) response.writeHead(200, { ...PROTO, "content-encoding": "t0ken" }).end(MESSAGE);
    else
      response
        .writeHead(400, { "content-type": "application/json" })
        .end(JSON.stringify({ code: "t0ken", message: "t0ken" }));
  });
  await using client = open({ url: server.url, auth: { method: "bearer", token: "t0ken" } });
  await expect(ask(client)).rejects.toThrow("must be not encoded, got ***");
  const error = await ask(client).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "internal", answered: false });
  expect(inspect(error)).not.toContain("t0ken");
});

describe.each(PROTOCOLS)("a connection that breaks as it is used again, %s", (protocol) => {
  test("costs a server that breaks it off on every other call no more calls than were made", async () => {
    await using server = await serve({
      protocol,
      before: (call) => (call % 2 === 0 ? server.resetConnections() : undefined),
    });
    await using client = open({ url: server.url });
    for (let i = 0; i < 20; i++) {
      await ask(client);
      await expect(ask(client)).rejects.toMatchObject({ code: "connection" });
    }
    expect(server.authorizations).toHaveLength(40);
  });

  test("is replaced once, and the call repeated, if nothing had been heard on it for a second", async () => {
    const clock = new FakeClock();
    let isBroken: (call: number) => boolean = () => false;
    await using server = await serve({
      protocol,
      before: (call) => (isBroken(call) ? server.resetConnections() : undefined),
    });
    await using client = open({ url: server.url }, clock);
    await ask(client);
    isBroken = (call) => call === 2;
    await clock.advance(QUIET_MS);
    expect((await ask(client)).flagIds).toEqual(["a/1"]);
    expect([server.authorizations.length, server.connectionsEver]).toEqual([3, 2]);

    isBroken = () => true;
    await clock.advance(QUIET_MS);
    await expect(ask(client)).rejects.toMatchObject({ code: "connection" });
    expect([server.authorizations.length, server.connectionsEver]).toEqual([5, 3]);

    isBroken = (call) => call === 7;
    await ask(client);
    await clock.advance(QUIET_MS - 1);
    await expect(ask(client)).rejects.toMatchObject({ code: "connection" });
    expect(server.authorizations).toHaveLength(7);
  });
});

test.each<[string, Partial<UpstreamSettings>, string]>([
  [
    "a key that is no header",
    { auth: { method: "api-key", key: "s3cret\r\nx: y" } },
    "auth.key must be ASCII text on one line, got something else",
  ],
  [
    "an empty token",
    { auth: { method: "bearer", token: "" } },
    "auth.token must be ASCII text on one line, got none",
  ],
  [
    "a user name with a colon",
    { auth: { method: "basic", username: "s3:cret", password: "" } },
    "auth.username must be a name without a colon, got one with it",
  ],
  [
    "a header without a name",
    { auth: { method: "custom", headers: { "s3cret value": "x" } } },
    "auth.headers must be headers that no protocol sets itself, got a name that is none",
  ],
  [
    "a header of the protocol",
    { auth: { method: "custom", headers: { "Content-Type": "s3cret" } } },
    "auth.headers must be headers that no protocol sets itself, got content-type",
  ],
  [
    "a header with a line end",
    { auth: { method: "custom", headers: { "X-Me": "s3cret\n" } } },
    "auth.headers.x-me must be ASCII text on one line, got something else",
  ],
  [
    "authorities that are not there",
    { tls: trust("nobody.pem") },
    `tls.ca_file must be a PEM file of certificates, got no such file at ${pem("nobody.pem")}`,
  ],
  [
    "authorities that are something else",
    { tls: trust("README.md") },
    `tls.ca_file must be a PEM file of certificates, got something else at ${pem("README.md")}`,
  ],
  [
    "a folder of authorities",
    { tls: { caFile: pem("."), serverName: undefined } },
    `tls.ca_file must be a PEM file of certificates, got no such thing at ${pem(".")}`,
  ],
  [
    "a certificate that is a key",
    { auth: { ...MTLS, certFile: pem("client.key") } },
    `auth.cert_file must be a PEM file of a certificate, got something else at ${pem("client.key")}`,
  ],
  [
    "the key of another certificate",
    { auth: { ...MTLS, keyFile: pem("server.key") } },
    `auth.key_file must be a PEM file of the certificate's private key, without a passphrase, got something else at ${pem("server.key")}`,
  ],
  [
    "a certificate to be shown without TLS",
    { url: "grpc://host:1", auth: MTLS },
    "auth.method must fit the url: mtls needs https:// or grpcs://, got grpc://host:1",
  ],
])("refuses %s, without showing a secret", (_, settings, message) => {
  const attempt = () => open({ url: "https://host:1", ...settings });
  expect(attempt).toThrow(new UpstreamError("settings", `Cannot use upstream a: ${message}`));
  expect(attempt).not.toThrow(/s3/);
});

test("hands exec: to whoever opens it", async () => {
  const settings = upstreamSettings({ name: "a", url: "exec:/bin/plugin" });
  await using other = open({ url: "http://host:1" });
  const asked: unknown[] = [];
  const openExec = (given: UpstreamSettings) => {
    asked.push(given);
    return other;
  };
  expect(openTransport({ settings, clock: new FakeClock(), openExec })).toBe(other);
  expect(asked).toEqual([settings]);
  expect(() => openTransport({ settings, clock: new FakeClock() })).toThrow("url must not be exec:… here");
});

test.each(PROTOCOLS)("a default port is the scheme's, %s", async (protocol) => {
  const name = protocol === "grpc" ? "grpc" : "http";
  for (const url of [`${name}://Host`, `${name}s://Host/a/`, `${name}://[::1]:7`]) {
    await using client = open({ url, tls: trust("ca.pem") });
    expect(client.target).toBe(url.replace("Host", "host").replace(/\/$/, ""));
  }
});

describe("connections of HTTP/1.1", () => {
  test("are no more than connections_max: further calls wait for one", async () => {
    const waiting: (() => void)[] = [];
    await using server = await serve({
      protocol: "connect",
      before: () => new Promise((go) => waiting.push(go)),
    });
    await using client = open({ url: server.url, connection: connection({ connectionsMax: 2 }) });
    const asking = Promise.all(Array.from({ length: 6 }, () => ask(client)));
    for (let answered = 0; answered < 6; answered++) {
      await eventually(() => waiting.length > 0);
      expect(server.connectionCount).toBeLessThanOrEqual(2);
      waiting.shift()?.();
    }
    expect(await asking).toHaveLength(6);
    expect(server.connectionsEver).toBe(2);
  });

  test("that were used before a broken one are not tried after it", async () => {
    const clock = new FakeClock();
    const old = new Set<Socket>();
    const waiting: (() => void)[] = [];
    let broken = 0;
    await using server = await serveHttp(({ socket }, response) => {
      const answer = () => response.writeHead(200, PROTO).end(MESSAGE);
      if (waiting.length < 3) {
        old.add(socket);
        waiting.push(answer);
      } else if (old.has(socket)) {
        broken += 1;
        socket.resetAndDestroy();
      } else answer();
    });
    await using client = open({ url: server.url }, clock);
    const asking = Promise.all(Array.from({ length: 3 }, () => ask(client, clock)));
    await eventually(() => waiting.length === 3);
    for (const answer of waiting) answer();
    await asking;
    await clock.advance(QUIET_MS);
    expect((await ask(client, clock)).flagIds).toEqual(["a/1"]);
    expect([broken, server.connectionsEver]).toEqual([1, 4]);
  });

  test("that are all in use let a call wait no longer than it may", async () => {
    const clock = new FakeClock();
    await using server = await serve({ protocol: "connect", before: () => new Promise(() => {}) });
    await using client = open({ url: server.url, connection: connection({ connectionsMax: 1 }) }, clock);
    const never = new AbortController();
    const first = client.call(getKilledFlags, {}, { at: Infinity, signal: never.signal });
    await eventually(() => server.authorizations.length === 1);
    const second = ask(client, clock);
    second.catch(() => {});
    await clock.advance(500);
    await expect(second).rejects.toThrow("no answer within 500 ms");
    never.abort(new Error("never mind"));
    await expect(first).rejects.toThrow("never mind");
  });

  test("are closed once they have been idle for long", async () => {
    await using server = await serve({ protocol: "connect" });
    await using client = open({ url: server.url, connection: connection({ idleTimeoutMs: 20 }) });
    await ask(client);
    await eventually(() => server.connectionCount === 0);
    await ask(client);
    expect(server.connectionsEver).toBe(2);
  });

  test("offer gzip where it is wanted, and read answers that are compressed and such that are not", async () => {
    const offers: unknown[] = [];
    let isCompressed = false;
    await using server = await serveHttp((request, response) => {
      offers.push(request.headers["accept-encoding"]);
      const type = { "content-type": "application/proto" };
      isCompressed = !isCompressed;
      if (isCompressed)
        response.writeHead(200, { ...type, "content-encoding": "gzip" }).end(gzipSync(MESSAGE));
      else response.writeHead(200, type).end(MESSAGE);
    });
    await using client = open({ url: server.url, connection: connection({ compression: "gzip" }) });
    for (let i = 0; i < 2; i++) expect((await ask(client)).flagIds).toEqual(["a/1"]);
    await using plain = open({ url: server.url });
    await expect(ask(plain)).rejects.toMatchObject({
      code: "answer",
      message: `Cannot use what ${server.url} answered: must be not encoded, got gzip`,
    });
    expect(offers).toEqual(["gzip", "gzip", undefined]);
  });

  test.each([
    [
      "inflates to more than is sensible",
      "gzip",
      gzipSync(Buffer.alloc(64 * 1024 * 1024)),
      "at most 8388608 bytes",
    ],
    ["is not gzip", "gzip", Buffer.from("no"), "must be gzip, got other bytes"],
    ["is compressed as nobody asked", "br", MESSAGE, "must be encoded as gzip or not at all, got br"],
  ])("an answer that %s is an error", async (_, encoding, body, message) => {
    await using server = await serveHttp((_, response) => {
      response
        .writeHead(200, { "content-type": "application/proto", "content-encoding": encoding })
        .end(body);
    });
    await using client = open({ url: server.url, connection: connection({ compression: "gzip" }) });
    await expect(ask(client)).rejects.toMatchObject({
      code: "answer",
      message: expect.stringContaining(message),
    });
  });

  test("are closed for good with the transport, and calls under way or waiting are told why", async () => {
    const clock = new FakeClock();
    const handles = handleCount();
    const server = await serve({
      protocol: "connect",
      before: (call) => (call === 1 ? undefined : new Promise(() => {})),
    });
    const client = open({ url: server.url, connection: connection({ connectionsMax: 2 }) }, clock);
    await ask(client, clock);
    const asking = Array.from({ length: 5 }, () => ask(client, clock).catch((error: unknown) => error));
    await eventually(() => server.authorizations.length === 3);
    await client[Symbol.asyncDispose]();
    const closed = {
      code: "connection",
      message: `Cannot reach ${server.url}: the connection to it is closed for good`,
    };
    for (const error of await Promise.all(asking)) expect(error).toMatchObject(closed);
    await expect(ask(client, clock)).rejects.toMatchObject(closed);
    expect(clock.sleeperCount).toBe(0);
    expect(server.connectionsEver).toBe(2);
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await eventually(() => handleCount() <= handles);
  });
});

/** What a server does that lets only those in whom its authority has certified. */
const DEMANDS = { requestCert: true, rejectUnauthorized: true, ca: readFileSync(pem("ca.pem")) };
const PROTO = { "content-type": "application/proto" };
const NOBODY = { authorization: undefined, "x-api-key": undefined, "x-tenant": undefined };

function certificate(name: string): TlsOptions {
  // The key of "server" fits "server" only: each has its own.
  return { cert: readFileSync(pem(`${name}.pem`)), key: readFileSync(pem(`${name}.key`)) };
}

function trust(name: string, serverName?: string): UpstreamSettings["tls"] {
  return { caFile: pem(name), serverName };
}

function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString("base64")}`;
}

function connection(settings: Partial<UpstreamSettings["connection"]>): UpstreamSettings["connection"] {
  return { ...upstreamSettings({ name: "a" }).connection, ...settings };
}

function open(settings: Partial<UpstreamSettings>, clock = new FakeClock()): Transport {
  return openTransport({ settings: upstreamSettings({ name: "a", ...settings }), clock });
}

function ask(client: Transport, clock = new FakeClock()) {
  return withDeadline({ timeoutMs: 500, clock }, (deadline) => client.call(getKilledFlags, {}, deadline));
}

interface Played {
  readonly protocol: Protocol;
  /** Undefined: no TLS. */
  readonly tls?: TlsOptions;
  readonly isAllowed?: (headers: Readonly<Record<string, unknown>>) => boolean;
  /** What those are told who are not. */
  readonly refusal?: string;
  /** The content type of answers. Unset: as the protocol has it. */
  readonly type?: string;
  /** Awaited before each answer; calls count from 1. */
  readonly before?: (call: number) => Promise<void> | undefined;
  readonly onSecure?: (socket: TLSSocket) => void;
}

/** An upstream that answers all who are allowed to ask. */
async function serve(played: Played) {
  const { protocol, tls, isAllowed = () => true, refusal = "who are you?", type, before, onSecure } = played;
  const authorizations: object[] = [];
  const answer = async (request: Pick<IncomingMessage, "headers">, respond: (isAllowed: boolean) => void) => {
    const { authorization, "x-api-key": key, "x-tenant": tenant } = request.headers;
    authorizations.push({ authorization, "x-api-key": key, "x-tenant": tenant });
    await before?.(authorizations.length);
    respond(isAllowed({ authorization, "x-api-key": key, "x-tenant": tenant }));
  };
  const onRequest = (request: IncomingMessage, response: ServerResponse) =>
    void answer(request, (isAllowed) => {
      if (isAllowed) response.writeHead(200, { "content-type": type ?? "application/proto" }).end(MESSAGE);
      else
        response
          .writeHead(401, { "content-type": "application/json" })
          .end(JSON.stringify({ code: "unauthenticated", message: refusal }));
    });
  const http2 = () =>
    (tls === undefined ? createHttp2Server() : createHttp2SecureServer(tls)).on(
      "stream",
      (stream, headers) =>
        void answer({ headers }, (isAllowed) => {
          const grpc = { "content-type": type ?? "application/grpc+proto" };
          if (!isAllowed) {
            stream.respond(
              { ...grpc, "grpc-status": "16", "grpc-message": encodeURIComponent(refusal) },
              { endStream: true },
            );
            return;
          }
          stream.respond(grpc, { waitForTrailers: true });
          stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
          stream.end(Buffer.concat([Buffer.from([0, 0, 0, 0, MESSAGE.length]), MESSAGE]));
        }),
    );
  const http1 = () => (tls === undefined ? createHttpServer(onRequest) : createHttpsServer(tls, onRequest));
  const server: Server = protocol === "grpc" ? http2() : http1();
  if (onSecure !== undefined) server.on("secureConnection", onSecure);
  const scheme = `${protocol === "grpc" ? "grpc" : "http"}${tls === undefined ? "" : "s"}`;
  return Object.assign(await listening(server, scheme), { authorizations });
}

async function serveHttp(listener: (request: IncomingMessage, response: ServerResponse) => void) {
  return listening(createHttpServer(listener), "http");
}

async function listening(server: Server, scheme: string) {
  const sockets = new Set<Socket>();
  let connectionsEver = 0;
  server.on("connection", (socket: Socket) => {
    connectionsEver += 1;
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
  });
  // Otherwise it tells its clients how long they may keep a connection.
  if (server instanceof HttpServer) server.keepAliveTimeout = 0;
  server.on("session", (session) => session.on("error", () => {}));
  server.on("tlsClientError", () => {});
  const port = await listen(server);
  const closeConnections = () => {
    for (const socket of sockets) socket.destroy();
  };
  /** Never resolves: what waits for it is not answered. */
  const resetConnections = () => {
    for (const socket of sockets) socket.resetAndDestroy();
    return new Promise<void>(() => {});
  };
  return {
    url: `${scheme}://127.0.0.1:${port}`,
    get connectionCount() {
      return sockets.size;
    },
    get connectionsEver() {
      return connectionsEver;
    },
    closeConnections,
    resetConnections,
    async [Symbol.asyncDispose]() {
      if (!server.listening) return;
      server.close();
      closeConnections();
      await once(server, "close");
    },
  };
}

/** Sockets and servers that are open in this process. */
function handleCount(): number {
  return process.getActiveResourcesInfo().filter((name) => /^(TCP|Pipe|TLS)/.test(name)).length;
}
