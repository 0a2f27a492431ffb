import fc from "fast-check";
import { expect, test } from "vitest";
import { versionOf } from "./prelude.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

test("HTTP/2 is known by its whole preface, and by nothing less", () => {
  for (let length = 0; length < PREFACE.length; length++) {
    expect(versionOf(Buffer.from(PREFACE.slice(0, length)))).toBeUndefined();
  }
  expect(versionOf(Buffer.from(PREFACE))).toBe("http2");
  expect(versionOf(Buffer.from(`${PREFACE}\0\0\0\x04`))).toBe("http2");
});

test("anything else is HTTP/1 as soon as it differs", () => {
  for (const start of [
    "G",
    "PO",
    "PRO",
    "PRI * HTTP/1",
    "\r\n",
    "\x16\x03\x01",
    "PRI * HTTP/2.0\r\n\r\nXX",
  ]) {
    expect(versionOf(Buffer.from(start)), JSON.stringify(start)).toBe("http1");
  }
});

test("more bytes never change the answer", () => {
  const parts = fc.nat(PREFACE.length).map((length) => PREFACE.slice(0, length));
  const changes = fc.property(fc.oneof(fc.string(), parts), fc.string(), (start, more) => {
    const early = versionOf(Buffer.from(start));
    return early === undefined || versionOf(Buffer.from(start + more)) === early;
  });
  expect(fc.check(changes).failed).toBe(false);
});
