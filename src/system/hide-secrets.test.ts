import { expect, test } from "vitest";
import { hideSecrets } from "./hide-secrets.ts";

const BASIC = Buffer.from("bob:p@ss/wörd").toString("base64");

/** As many characters as are kept. */
const MAX = 500;

test.each([
  ["a key", { "x-api-key": "k3y" }, "no such key: k3y!", "no such key: ***!"],
  ["a token with its scheme", { authorization: "Bearer t0ken" }, "got Bearer t0ken", "got ***"],
  ["a token alone", { authorization: "Bearer t0ken" }, "t0ken is t0ken", "*** is ***"],
  ["in other case", { authorization: "Bearer t0Ken" }, "TOKEN, not T0KEN", "TOKEN, not ***"],
  ["a header of one's own", { "x-tenant": "a b+c" }, "for a b+c", "for ***"],
  ["what stands behind any scheme", { authorization: "Secret s.3" }, "not s.3 but sx3", "not *** but sx3"],
  ["basic authentication", { authorization: `Basic ${BASIC}` }, `Basic ${BASIC}`, "***"],
  ["its value", { authorization: `Basic ${BASIC}` }, `<${BASIC}>`, "<***>"],
  ["its value without padding", { authorization: `Basic ${BASIC}` }, BASIC.replace(/=+$/, ""), "***"],
  ["its user and password", { authorization: `Basic ${BASIC}` }, "bob, p@ss/wörd", "***, ***"],
  ["percent-encoded", { authorization: `Basic ${BASIC}` }, "pass=p%40ss%2fw%c3%b6rd", "pass=***"],
  ["in a URL", { authorization: `Basic ${BASIC}` }, "/p@ss/w%C3%B6rd", "/***"],
  ["escaped for JSON", { "x-tenant": 'a"b\\c' }, String.raw`{"x-tenant":"a\"b\\c"}`, '{"x-tenant":"***"}'],
  [
    "escaped for JSON within JSON",
    { "x-tenant": 'a"b\\c' },
    JSON.stringify({ said: JSON.stringify({ tenant: 'a"b\\c' }) }),
    JSON.stringify({ said: JSON.stringify({ tenant: "***" }) }),
  ],
  ["one that is part of another", { "x-a": "abc", "x-b": "abcdef" }, "abcdef abc", "*** ***"],
  ["nothing", {}, "k3y", "k3y"],
])("%s is not repeated", (_, headers, said, shown) => {
  expect(hideSecrets({ headers: Object.values(headers), credentials: undefined }, MAX)(said)).toBe(shown);
});

test.each([
  ["bob:hunter2", "no: bob:hunter2", "no: ***"],
  ["bob:hun:ter2", "hun:ter2 is bob's", "*** is ***'s"],
  ["t0ken:", "t0ken", "***"],
  ["t0ken", "t0ken", "***"],
])("the URL's credentials %s are not repeated", (credentials, said, shown) => {
  expect(hideSecrets({ headers: [], credentials }, MAX)(said)).toBe(shown);
});

test("at no place where words are cut is half a secret left", () => {
  const token = "0123456789".repeat(20);
  const words = hideSecrets({ headers: [`Bearer ${token}`], credentials: undefined }, MAX);
  for (const end of ["", "x".repeat(9_999), ` ${token}`.repeat(99)])
    for (let at = 0; at <= 1_100; at += 1) {
      const shown = words(`${".".repeat(at)}${token}${end}`);
      expect(shown.length).toBeLessThanOrEqual(MAX);
      expect(shown.replace(/^\.*/, "")).not.toMatch(/\d/);
    }
});

test("of long words as many are shown as help", () => {
  expect(hideSecrets({ headers: ["k3y"], credentials: undefined }, MAX)("x".repeat(9_999))).toHaveLength(MAX);
  expect(hideSecrets({ headers: [], credentials: undefined }, MAX)("x".repeat(9_999))).toHaveLength(MAX);
});
