import { expect, test } from "vitest";
import { formatAddress, parseAddress } from "./address.ts";

test.each([
  [":9201", { kind: "tcp", host: "", port: 9201 }],
  ["localhost:9201", { kind: "tcp", host: "localhost", port: 9201 }],
  ["0.0.0.0:0", { kind: "tcp", host: "0.0.0.0", port: 0 }],
  [
    "pbflagd.prod_1.svc.cluster.local.:65535",
    { kind: "tcp", host: "pbflagd.prod_1.svc.cluster.local.", port: 65_535 },
  ],
  ["[::1]:9201", { kind: "tcp", host: "::1", port: 9201 }],
  ["[fe80::1%eth0]:1", { kind: "tcp", host: "fe80::1%eth0", port: 1 }],
  ["unix:///run/pbflagd.sock", { kind: "unix", path: "/run/pbflagd.sock" }],
])("parseAddress() reads %s, and formatAddress() writes it", (text, address) => {
  expect(parseAddress(text)).toEqual(address);
  expect(formatAddress(parseAddress(text) ?? { kind: "unix", path: "" })).toBe(text);
});

test.each([
  "",
  "9201",
  "localhost",
  "localhost:",
  "localhost:http",
  "localhost:65536",
  "localhost:-1",
  "::1:9201",
  "[localhost]:9201",
  "[]:9201",
  "http://localhost:9201",
  "local host:9201",
  "-host:1",
  "a/b:1",
  "unix:/run/x.sock",
  "unix://run/x.sock",
  "unix:///",
  "unix:///run/",
  `unix:///${"x".repeat(103)}`,
  `${"x".repeat(254)}:1`,
])("parseAddress() refuses %j", (text) => {
  expect(parseAddress(text)).toBeUndefined();
});
