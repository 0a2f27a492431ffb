import { expect, test } from "vitest";
import { isAnnouncement, parseAnnouncement } from "./announcement.ts";

test.each([
  ["connect unix:///run/a.sock", "unix:///run/a.sock"],
  ["grpc unix:///run/a.sock", "grpc+unix:///run/a.sock"],
  ["connect unix:///run/my 100%#1.sock", "unix:///run/my 100%#1.sock"],
  ["connect http://127.0.0.1:8080", "http://127.0.0.1:8080"],
  ["connect http://localhost:80/", "http://localhost:80"],
  ["grpc http://[::1]:8080", "grpc://[::1]:8080"],
])("takes %j", (said, url) => {
  const [protocol = "", ...address] = said.split(" ");
  const line = `pbflagd-plugin 1 ${said}`;
  expect(isAnnouncement(line)).toBe(true);
  expect(parseAnnouncement(line)).toEqual({ kind: "usable", protocol, address: address.join(" "), url });
});

test.each([
  ["2 connect unix:///run/a.sock", "the version must be 1"],
  ["1 http unix:///run/a.sock", "the protocol must be connect or grpc"],
  ["1 connect unix://run/a.sock", "the socket's path must be absolute"],
  [`1 connect unix:///${"p".repeat(103)}`, "the socket's path must have at most 103 bytes"],
  ["1 connect http://10.0.0.1:8080", "the address must be unix:///path or http://127.0.0.1:port"],
  ["1 connect http://localhost.example:80", "the address must be unix:///path or http://127.0.0.1:port"],
  ["1 connect http://127.0.0.1:65536", "the address must be unix:///path or http://127.0.0.1:port"],
  ["1 connect http://127.0.0.1:0", "the address must be unix:///path or http://127.0.0.1:port"],
  ["1 connect http://a:b@127.0.0.1:80", "the address must be unix:///path or http://127.0.0.1:port"],
  ["1 connect https://127.0.0.1:80", "the address must be unix:///path or http://127.0.0.1:port"],
  ["1 connect http://127.0.0.999:80", "the address must be one that can be called"],
  ["1 connect unix:///run/folder/", "the address must be one that can be called"],
  ["1 connect", "must be a version, a protocol and an address"],
])("refuses %j", (said, must) => {
  const line = `pbflagd-plugin ${said}`;
  expect(isAnnouncement(line)).toBe(true);
  expect(parseAnnouncement(line)).toEqual({
    kind: "refused",
    reason: `Cannot use its announcement: ${must}, got ${JSON.stringify(line)}`,
  });
});

test("shows no more of a refused line than helps", () => {
  const announcement = parseAnnouncement(`pbflagd-plugin ${"x".repeat(5_000)}`);
  expect(announcement.kind === "refused" && announcement.reason.length).toBeLessThan(300);
});

test.each(["", "listening", "pbflagd-plugin", "pbflagd-plugins 1 connect x"])("%j is output", (line) => {
  expect(isAnnouncement(line)).toBe(false);
});
