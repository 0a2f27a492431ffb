import { describe, expect, test } from "vitest";
import { readRequestHead } from "./request-head.ts";

const GET = [":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/p?q=1"];

/** Of a request that is right but for this. */
const withHeaders = (...fields: readonly string[]) => readRequestHead([...GET, ...fields]);
const withPseudo = (name: string, value: string | undefined) =>
  readRequestHead([
    ...GET.flatMap((field, i) => (i % 2 === 0 && field !== name ? [field, GET[i + 1] ?? ""] : [])),
    ...(value === undefined ? [] : [name, value]),
  ]);

describe("a request's head", () => {
  test("has method, path and headers", () => {
    expect(withHeaders("content-type", "text/plain", "x-a", "")).toEqual({
      method: "GET",
      path: "/p?q=1",
      headers: { "content-type": "text/plain", "x-a": "" },
      bodyBytes: undefined,
    });
  });

  test("says how long the body is", () => {
    expect(withHeaders("content-length", "0")?.bodyBytes).toBe(0);
    expect(withHeaders("content-length", "0123")?.bodyBytes).toBe(123);
    expect(withHeaders("content-length", "9".repeat(15))?.bodyBytes).toBe(999_999_999_999_999);
  });

  test("has several values of a name as one text", () => {
    expect(
      withHeaders("x-a", "1", "x-b", "2", "x-a", "3", "cookie", "a=1", "cookie", "b=2")?.headers,
    ).toEqual({ "x-a": "1, 3", "x-b": "2", cookie: "a=1; b=2" });
  });

  test("has no headers but those that came, whatever their names", () => {
    const headers = withHeaders("__proto__", "1", "constructor", "2")?.headers ?? {};
    expect(Object.entries(headers)).toEqual([
      ["__proto__", "1"],
      ["constructor", "2"],
    ]);
    expect(withHeaders()?.headers["toString"]).toBeUndefined();
  });

  test.each([
    ["no authority", withPseudo(":authority", undefined)],
    ["a path of *", withPseudo(":path", "*")],
    ["a path with bytes past ASCII", withPseudo(":path", "/\xe4")],
    ["another scheme", withPseudo(":scheme", "https")],
    ["another method", withPseudo(":method", "M-SEARCH")],
    ["a value with spaces and tabs in it", withHeaders("x-a", "a \tb")],
    ["a value with bytes past ASCII", withHeaders("x-a", "\x80\xff")],
    ["every kind of byte in a name", withHeaders("!#$%&'*+.^_`|~09az-", "1")],
    ["te: trailers", withHeaders("te", "trailers")],
    ["a header named as a pseudo-header is", withHeaders("method", "1")],
  ])("may have %s", (_, head) => {
    expect(head).toBeDefined();
  });
});

describe("a request is malformed that has", () => {
  test.each([
    ["no fields", readRequestHead([])],
    ["no method", withPseudo(":method", undefined)],
    ["no scheme", withPseudo(":scheme", undefined)],
    ["no path", withPseudo(":path", undefined)],
    ["an empty method", withPseudo(":method", "")],
    ["a method that is no token", withPseudo(":method", "G T")],
    ["an empty path", withPseudo(":path", "")],
    ["a path that does not begin with /", withPseudo(":path", "p")],
    ["a path with a space", withPseudo(":path", "/a b")],
    ["a path that begins with *", withPseudo(":path", "*/")],
    ["a pseudo-header twice", readRequestHead([...GET, ":path", "/other"])],
    ["an empty pseudo-header twice", readRequestHead([":authority", "", ":authority", "", ...GET])],
    ["a pseudo-header after a header", readRequestHead([...GET.slice(2), "x-a", "1", ...GET.slice(0, 2)])],
    ["a pseudo-header of responses", readRequestHead([":status", "200", ...GET])],
    ["a pseudo-header that nobody knows", readRequestHead([":protocol", "websocket", ...GET])],
    ["a header without a name", withHeaders("", "1")],
    ["a name in upper case", withHeaders("X-a", "1")],
    ["a name with a space", withHeaders("x a", "1")],
    ["a name with a colon in it", withHeaders("x:a", "1")],
    ["a name with a control character", withHeaders("x\n", "1")],
    ["a name past ASCII", withHeaders("x\xe4", "1")],
    ["a value that begins with a space", withHeaders("x-a", " 1")],
    ["a value that ends with a tab", withHeaders("x-a", "1\t")],
    ["a value of a space", withHeaders("x-a", " ")],
    ["a line feed in a value", withHeaders("x-a", "1\n2")],
    ["a line feed at the end of a value", withHeaders("x-a", "1\n")],
    ["a carriage return in a value", withHeaders("x-a", "1\r2")],
    ["a zero in a value", withHeaders("x-a", "1\x002")],
    ["a DEL in a value", withHeaders("x-a", "1\x7f")],
    ["a line feed in a pseudo-header", withPseudo(":authority", "a\nb")],
    ["connection", withHeaders("connection", "close")],
    ["keep-alive", withHeaders("keep-alive", "1")],
    ["proxy-connection", withHeaders("proxy-connection", "close")],
    ["transfer-encoding", withHeaders("transfer-encoding", "chunked")],
    ["upgrade", withHeaders("upgrade", "h2c")],
    ["te with more than trailers", withHeaders("te", "trailers, gzip")],
    ["te twice", withHeaders("te", "trailers", "te", "gzip")],
    ["an empty length", withHeaders("content-length", "")],
    ["a negative length", withHeaders("content-length", "-1")],
    ["a length in another form", withHeaders("content-length", "1e3")],
    ["two lengths", withHeaders("content-length", "1", "content-length", "1")],
    ["a length past all numbers", withHeaders("content-length", "9".repeat(16))],
  ])("%s", (_, head) => {
    expect(head).toBeUndefined();
  });
});
