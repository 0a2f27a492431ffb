import { expect, test } from "vitest";
import { parseTarget } from "../upstream/transport/parse-target.ts";
import { hasTls, parseEvaluatorUrl } from "./evaluator-url.ts";

test.each([
  ["http://root:9201", { scheme: "http", name: "root:9201", credentials: false }],
  ["https://root/flags/", { scheme: "https", name: "root", credentials: false }],
  ["http://me:hunter2@[::1]:9201", { scheme: "http", name: "[::1]:9201", credentials: true }],
  ["https://token@root", { scheme: "https", name: "root", credentials: true }],
  ["grpc://10.0.0.1:9201", { scheme: "grpc", name: "10.0.0.1:9201", credentials: false }],
  ["grpcs://root.internal:443", { scheme: "grpcs", name: "root.internal", credentials: false }],
  ["unix:///run/pbflagd.sock", { scheme: "unix", name: "pbflagd.sock", credentials: false }],
  ["unix:///tmp/a#b.sock", { scheme: "unix", name: "a_b.sock", credentials: false }],
  ["unix:///tmp/a?b%20c%zz", { scheme: "unix", name: "a_b_20c_zz", credentials: false }],
  ["exec:/usr/lib/my flags", { scheme: "exec", name: "my_flags", credentials: false }],
  ["exec:./flags.mjs", { scheme: "exec", name: "flags.mjs", credentials: false }],
  ["exec:flags-from-yaml", { scheme: "exec", name: "flags-from-yaml", credentials: false }],
])("parseEvaluatorUrl() reads %s", (text, url) => {
  expect(parseEvaluatorUrl(text)).toEqual(url);
});

test.each([
  "",
  "root:9201",
  "http:/root",
  "http://",
  "http://:9201",
  "http://root:65536",
  "http://root:0",
  "grpcs://root:00",
  "http://ro ot",
  "http://ro\not",
  "http://root?x=1",
  "http://root#x",
  "http://%ff@root",
  "HTTP://root",
  "ftp://root",
  "grpc:root",
  "grpc://ro%20ot",
  "grpc://root:65536",
  "grpc:///root",
  "unix:/run/x.sock",
  "unix:///",
  "unix:///run/folder/",
  "unix://host/run/x.sock",
  "grpc+unix:///run/x.sock",
  `unix:///${"x".repeat(103)}`,
  "exec:",
  "exec:/",
  "exec:/usr/bin/",
  "exec:a\0b",
  `http://root/${"x".repeat(4_096)}`,
])("parseEvaluatorUrl() refuses %j", (text) => {
  expect(parseEvaluatorUrl(text)).toBeUndefined();
});

test.each([
  ["http://root", "http://root"],
  ["grpcs://me:hunter2@root:1/a/", "grpcs://root:1/a"],
  ["unix:///tmp/a#b?c d%20e%zz", "unix:///tmp/a#b?c d%20e%zz"],
])("%s is called where it says", (text, target) => {
  expect(parseEvaluatorUrl(text)).toBeDefined();
  expect(parseTarget({ name: "a", url: text }).name).toBe(target);
});

test("https and grpcs have TLS, the others have not", () => {
  const secure = ["http://a", "https://a", "grpc://a", "grpcs://a", "unix:///a", "exec:a"].filter((text) => {
    const url = parseEvaluatorUrl(text);
    return url !== undefined && hasTls(url);
  });
  expect(secure).toEqual(["https://a", "grpcs://a"]);
});
