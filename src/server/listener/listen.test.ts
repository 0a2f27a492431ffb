import { once } from "node:events";
import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ListenError, listen } from "./listen.ts";

let folder: string;
let servers: Server[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-listen-"));
  servers = [];
});

afterEach(async () => {
  for (const server of servers.filter((one) => one.listening)) {
    server.close();
    await once(server, "close");
  }
  await rm(folder, { recursive: true });
});

function newServer(): Server {
  const server = createServer();
  servers.push(server);
  return server;
}

async function failureOf(listening: Promise<unknown>): Promise<string> {
  const error = await listening.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ListenError);
  return error instanceof Error ? error.message : "";
}

test("a port of 0 becomes a real one", async () => {
  const address = await listen(newServer(), { kind: "tcp", host: "127.0.0.1", port: 0 });
  if (address.kind !== "tcp") throw new Error("expected a TCP address");
  expect(address.host).toBe("127.0.0.1");
  expect(address.port).toBeGreaterThan(0);
});

test("an empty host is every interface", async () => {
  const address = await listen(newServer(), { kind: "tcp", host: "", port: 0 });
  if (address.kind !== "tcp") throw new Error("expected a TCP address");
  expect(address.port).toBeGreaterThan(0);
  const socket = new Socket().connect(address.port, "127.0.0.1");
  await once(socket, "connect");
  socket.destroy();
});

test("a taken port is named in one line", async () => {
  const address = await listen(newServer(), { kind: "tcp", host: "127.0.0.1", port: 0 });
  if (address.kind !== "tcp") throw new Error("expected a TCP address");
  expect(await failureOf(listen(newServer(), address))).toBe(
    `Cannot listen on 127.0.0.1:${address.port}: the address is in use (EADDRINUSE)`,
  );
});

test("an address of another machine is named in one line", async () => {
  expect(await failureOf(listen(newServer(), { kind: "tcp", host: "192.0.2.1", port: 0 }))).toBe(
    "Cannot listen on 192.0.2.1:0: this machine does not have the address (EADDRNOTAVAIL)",
  );
});

test("a Unix socket is there while we listen and gone afterwards", async () => {
  const server = newServer();
  await listen(server, { kind: "unix", path: join(folder, "a.sock") });
  expect(await readdir(folder)).toEqual(["a.sock"]);
  server.close();
  await once(server, "close");
  expect(await readdir(folder)).toEqual([]);
});

test("a Unix socket that somebody listens on is left to him", async () => {
  const path = join(folder, "a.sock");
  await listen(newServer(), { kind: "unix", path });
  expect(await failureOf(listen(newServer(), { kind: "unix", path }))).toBe(
    `Cannot listen on unix://${path}: the address is in use (EADDRINUSE)`,
  );
  expect(await readdir(folder)).toEqual(["a.sock"]);
});

test("a Unix socket that a dead process left is replaced", async () => {
  const path = join(folder, "a.sock");
  const { execFileSync } = await import("node:child_process");
  // Exits without closing, as a killed process does.
  execFileSync(process.execPath, [
    "-e",
    `require("net").createServer().listen(${JSON.stringify(path)}, () => process.reallyExit(0))`,
  ]);
  expect(await readdir(folder)).toEqual(["a.sock"]);
  await listen(newServer(), { kind: "unix", path });
  const socket = new Socket().connect(path);
  await once(socket, "connect");
  socket.destroy();
});

test("a file that is no socket is never removed", async () => {
  const path = join(folder, "precious");
  await writeFile(path, "data");
  await chmod(path, 0o600);
  expect(await failureOf(listen(newServer(), { kind: "unix", path }))).toContain("the address is in use");
  expect(await readdir(folder)).toEqual(["precious"]);
});

test("a folder that does not exist is named in one line", async () => {
  const path = join(folder, "missing", "a.sock");
  expect(await failureOf(listen(newServer(), { kind: "unix", path }))).toMatch(
    /^Cannot listen on unix:\/\/.*a\.sock: (its folder does not exist \(ENOENT\)|no permission \(EACCES\))$/,
  );
});
