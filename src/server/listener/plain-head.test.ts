import { once } from "node:events";
import type { IncomingHttpHeaders } from "node:http";
import { Duplex } from "node:stream";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { damage, someHarm } from "../../../test/support/damage.ts";
import { DEFAULT_LIMITS } from "../../../test/wire/serve-memory.ts";
import { textOf } from "./exchange.ts";
import { createHttp1 } from "./node-servers.ts";
import { type PlainHead, readPlainHead } from "./plain-head.ts";

const REQUEST_LINE = "POST /a HTTP/1.1";
const HOST = "host: a";
const LENGTH = "content-length: 2";

function headOf(...lines: readonly string[]): string {
  return lines.join("\r\n");
}

/** One that is read, with these lines more. */
function headWith(...lines: readonly string[]): string {
  return headOf(REQUEST_LINE, HOST, LENGTH, ...lines);
}

const READ: Readonly<Record<string, readonly [line: string, name: string, value: string]>> = {
  "a value": ["x-a: 1", "x-a", "1"],
  "a name in capitals": ["X-A: B", "x-a", "B"],
  "every byte that a name may have": ["!#$%&'*+-.^_`|~09azAZ: 1", "!#$%&'*+-.^_`|~09azaz", "1"],
  "every kind of byte that a value may have": ["x-a: !\t ~\x80\xff", "x-a", "!\t ~\x80\xff"],
  "no space before a value": ["x-a:1", "x-a", "1"],
  "spaces around a value, and tabs before it": ["x-a: \t 1  ", "x-a", "1"],
  "a value that begins and ends with a byte that other charsets take for a space": [
    "x-a:\xa01\x85",
    "x-a",
    "\xa01\x85",
  ],
  "an empty value": ["x-a:", "x-a", ""],
  "a value of spaces": ["x-a: \t ", "x-a", ""],
  "a colon in a value": ["x-a: b: c", "x-a", "b: c"],
  "keep-alive, which goes without saying": ["Connection: Keep-Alive", "connection", "Keep-Alive"],
  te: ["te: trailers", "te", "trailers"],
  "a name that looks like one of an object": ["constructor: 1", "constructor", "1"],
};

test.each(Object.entries(READ))("reads %s", (_, [line, name, value]) => {
  expect(readPlainHead(headWith(line))).toEqual({
    path: "/a",
    headers: { host: "a", "content-length": "2", [name]: value },
    bodyBytes: 2,
  });
});

test("reads how long the body is", () => {
  const bodyBytes = (value: string) =>
    readPlainHead(headOf(REQUEST_LINE, HOST, `content-length: ${value}`))?.bodyBytes;
  expect(["0", "0010", "9999999"].map(bodyBytes)).toEqual([0, 10, 9_999_999]);
  for (const value of ["", "10000000", "+5", "-5", "0x5", "5.0", "5e1", "5,5", "5, 5", "5 5", "five", "٥"])
    expect(bodyBytes(value), value).toBeUndefined();
});

test("reads a path as it is", () => {
  const pathOf = (path: string) => readPlainHead(headOf(`POST ${path} HTTP/1.1`, HOST, LENGTH))?.path;
  for (const path of ["/", "/a/b?c=d&e", "//a", "/%00", "/a#b"]) expect(pathOf(path)).toBe(path);
  for (const path of ["", "*", "a", "http://a/b", "/a b", "/\xe9", "/\x7f", "/\0", "/a\t", "/a\n"])
    expect(pathOf(path), path).toBeUndefined();
});

const LEFT_ALONE: Readonly<Record<string, string>> = {
  nothing: "",
  "a request line alone": REQUEST_LINE,
  "another method": headOf("PUT /a HTTP/1.1", HOST, LENGTH),
  "a method in small letters": headOf("post /a HTTP/1.1", HOST, LENGTH),
  "HTTP/1.0": headOf("POST /a HTTP/1.0", HOST, LENGTH),
  "HTTP/1.10": headOf("POST /a HTTP/1.10", HOST, LENGTH),
  "a version in small letters": headOf("POST /a http/1.1", HOST, LENGTH),
  "a tab in the request line": headOf("POST\t/a HTTP/1.1", HOST, LENGTH),
  "two spaces in the request line": headOf("POST  /a HTTP/1.1", HOST, LENGTH),
  "a space after the request line": headOf("POST /a HTTP/1.1 ", HOST, LENGTH),
  "an empty line before the request": headOf("", REQUEST_LINE, HOST, LENGTH),
  "no host": headOf(REQUEST_LINE, LENGTH),
  "an empty host": headOf(REQUEST_LINE, "host:", LENGTH),
  "two hosts": headWith("host: a"),
  "no length": headOf(REQUEST_LINE, HOST),
  "the same length twice": headWith(LENGTH),
  "two lengths": headWith("Content-Length: 3"),
  "any other name twice": headWith("x-a: 1", "X-A: 1"),
  "an empty value and another": headWith("x-a:", "x-a: 1"),
  "a body in chunks": headOf(REQUEST_LINE, HOST, "transfer-encoding: chunked"),
  "a body in chunks that has a length": headWith("Transfer-Encoding: chunked"),
  "a transfer encoding of no name": headWith("transfer-encoding:"),
  "what has to be answered first": headWith("expect: 100-continue"),
  "another protocol": headWith("upgrade: h2c"),
  "settings of another protocol": headWith("http2-settings: AAMAAABkAAQAAP__"),
  trailers: headWith("trailer: x-a"),
  "the last of a connection": headWith("connection: close"),
  "the last of a connection, said twice": headWith("connection: keep-alive, close"),
  "fields of the connection": headWith("connection: keep-alive, x-a"),
  "a connection that becomes another": headWith("connection: upgrade", "upgrade: websocket"),
  "nothing of the connection": headWith("connection:"),
  "the last of a connection, as old proxies say it": headWith("proxy-connection: close"),
  "a line that goes on": headWith("x-a: 1", " 2"),
  "a line that goes on after a tab": headWith("x-a: 1", "\t2"),
  "a line that begins with a space": headOf(REQUEST_LINE, ` ${HOST}`, LENGTH),
  "a space before the colon": headWith("x-a : 1"),
  "a length with a space before its colon": headWith("content-length : 3"),
  "a tab after a value": headWith("x-a: 1\t"),
  "a tab after a length": headOf(REQUEST_LINE, HOST, `${LENGTH}\t`),
  "no colon": headWith("x-a"),
  "no name": headWith(": 1"),
  "a name of other bytes": headWith("x\xe9: 1"),
  "a name with a slash": headWith("x/a: 1"),
  "a name with NUL": headWith("x\0a: 1"),
  "NUL in a value": headWith("x-a: \0"),
  "DEL in a value": headWith("x-a: 1\x7f2"),
  "a vertical tab around a length": headOf(REQUEST_LINE, HOST, "content-length: 2\v"),
  "a bare LF in a value": headWith("x-a: 1\ncontent-length: 3"),
  "a bare CR in a value": headWith("x-a: 1\rcontent-length: 3"),
  "lines that end with LF": headWith().replaceAll("\r\n", "\n"),
  "lines that end with CR": headWith().replaceAll("\r\n", "\r"),
  "a LF at its end": `${headWith()}\n`,
  "a CR at its end": `${headWith()}\r`,
  "an empty line": headWith("", "x-a: 1"),
  "more than fifty fields": headWith(...Array.from({ length: 49 }, (_, i) => `x-${i}: 1`)),
};

test.each(Object.entries(LEFT_ALONE))("leaves alone %s", (_, head) => {
  expect(readPlainHead(head)).toBeUndefined();
});

test("reads as many as fifty fields", () => {
  const head = headWith(...Array.from({ length: 48 }, (_, i) => `x-${i}: 1`));
  expect(Object.keys(readPlainHead(head)?.headers ?? {})).toHaveLength(50);
});

test("is not held up by lines of spaces", () => {
  const spaces = " ".repeat(4_000);
  // Where each of these is tried at every one of its spaces, this does not come to its end before the test's limit.
  for (const line of [`x-a:${spaces}\0`, `x-a: 1${spaces}\0`, `x-a:${" 1".repeat(2_000)}\0`]) {
    for (let i = 0; i < 1_000; i++) expect(readPlainHead(headWith(line))).toBeUndefined();
  }
});

/** A request as Node's server reads it. */
interface NodeRead {
  readonly method: string | undefined;
  readonly url: string | undefined;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
}

const http1 = createHttp1(DEFAULT_LIMITS, 1_000);
afterAll(() => http1.close());

/** All that Node's server reads on one connection. */
async function readByNode(bytes: Buffer): Promise<readonly NodeRead[]> {
  const reads: NodeRead[] = [];
  const socket = new Duplex({ read() {}, write: (_, __, done) => done() });
  // Node closes a connection in its own ways.
  socket.on("error", () => {});
  http1.removeAllListeners("request");
  http1.on("request", (request, response) => {
    let body = "";
    request.setEncoding("latin1");
    request.on("data", (text: string) => {
      body += text;
    });
    request.once("end", () => {
      const { method, url } = request;
      reads.push({ method, url, headers: textsOf(request.headers), body });
      response.end();
    });
  });
  http1.emit("connection", socket);
  socket.push(bytes);
  socket.push(null);
  await once(socket, "close");
  return reads;
}

function textsOf(headers: IncomingHttpHeaders): Readonly<Record<string, string | undefined>> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, textOf(value)]));
}

/** Followed by its body and by another request. */
async function expectSameOfNode(head: string, read: PlainHead): Promise<void> {
  const { path, headers, bodyBytes } = read;
  const body = "GET / HTTP/1.1\r\n".repeat(Math.ceil(bodyBytes / 16)).slice(0, bodyBytes);
  const next = "GET /next HTTP/1.1\r\nhost: b\r\n\r\n";
  const reads = await readByNode(Buffer.from(`${head}\r\n\r\n${body}${next}`, "latin1"));
  expect(reads, JSON.stringify(head)).toEqual([
    { method: "POST", url: path, headers: { ...headers }, body },
    { method: "GET", url: "/next", headers: { host: "b" }, body: "" },
  ]);
}

test("of lines with spaces and tabs anywhere, it reads what Node's server reads", async () => {
  const spaces = ["", " ", "\t", "  ", " \t", "\t ", "\t\t"];
  let count = 0;
  for (const line of ["content-length: 2", "connection: keep-alive", "x-a: b", "x-a:", "te: a, b"]) {
    for (const [before, after] of spaces.flatMap((one) => spaces.map((other) => [one, other]))) {
      const [name = "", value = ""] = line.split(/: ?/);
      const lines = name === "content-length" ? [] : [LENGTH];
      const head = headOf(REQUEST_LINE, HOST, ...lines, `${name}:${before}${value}${after}`);
      const read = readPlainHead(head);
      if (read === undefined) continue;
      count += 1;
      await expectSameOfNode(head, read);
    }
  }
  expect(count).toBeGreaterThan(100);
});

test("whatever it reads, Node's server reads the same", async () => {
  const requestLine = fc.constantFrom(
    ...Array.from({ length: 6 }, () => REQUEST_LINE),
    "POST /a?b#c HTTP/1.1",
    "POST http://a/b HTTP/1.1",
    "POST /a HTTP/1.0",
  );
  const usual = "x-a X-B x_c te keep-alive accept-encoding content-encoding cookie set-cookie date from age";
  const unusual =
    "connection proxy-connection upgrade transfer-encoding content-length expect trailer http2-settings";
  const name = fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...usual.split(" ")) },
    fc.constantFrom(...unusual.split(" ")),
  );
  const values =
    "1,5,+5,0x5,keep-alive,Keep-Alive,close,upgrade,chunked,trailers,100-continue,h2c,identity,gzip";
  const value = fc.oneof(
    fc.constantFrom("", "keep-alive, close", "a\tb", "\xe9\xff", ...values.split(",")),
    fc.string({ maxLength: 5 }),
  );
  const space = fc.constantFrom("", " ", " ", " ", " ", "  ", "\t");
  const field = fc
    .tuple(name, space, value, space)
    .map(([n, before, v, after]) => `${n}:${before}${v}${after}`);
  const head = fc
    .tuple(requestLine, fc.nat(20), fc.array(field, { maxLength: 4 }), fc.nat(6))
    .map(([line, length, fields, at]) =>
      headOf(line, ...[HOST, ...fields].toSpliced(at, 0, `content-length: ${length}`)),
    );
  const harms = fc.oneof(fc.constant([]), someHarm({ harmsMax: 2, lengthMax: 3 }));
  const counts = { whole: 0, damaged: 0 };
  await fc.assert(
    fc.asyncProperty(head, harms, async (text, done) => {
      const damaged = Buffer.from(damage(Buffer.from(text, "latin1"), done)).toString("latin1");
      const read = damaged.includes("\r\n\r\n") ? undefined : readPlainHead(damaged);
      if (read === undefined) return;
      counts[damaged === text ? "whole" : "damaged"] += 1;
      await expectSameOfNode(damaged, read);
    }),
    { numRuns: 20_000 },
  );
  // Of both kinds enough that this says something.
  expect(counts.whole).toBeGreaterThan(100);
  expect(counts.damaged).toBeGreaterThan(100);
}, 60_000);
