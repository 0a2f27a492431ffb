import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { choosePrivateSocket } from "./private-socket.ts";

let folder: string;
let servers: Server[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-sock-"));
  servers = [];
});

afterEach(async () => {
  for (const server of servers.filter(({ listening }) => listening)) {
    server.close();
    await once(server, "close");
  }
  await rm(folder, { recursive: true });
});

function choose(stateDir: string | undefined, pid = 42): Promise<string> {
  return choosePrivateSocket({ stateDir, runtimeFolder: join(folder, "run"), pid, random: () => 0.5 });
}

async function listenAt(path: string): Promise<Server> {
  const server = createServer();
  servers.push(server);
  server.listen(path);
  await once(server, "listening");
  return server;
}

test("it lies in a folder that is closed to others, below state_dir where there is one", async () => {
  const path = await choose(join(folder, "state"));
  expect(path).toBe(join(folder, "state", "workers", "workers-42-500000.sock"));
  expect((await stat(join(folder, "state", "workers"))).mode & 0o777).toBe(0o700);
  expect(await choose(undefined)).toBe(join(folder, "run", "workers-42-500000.sock"));
});

test("where the path below state_dir would be too long for a socket, it lies elsewhere", async () => {
  const path = await choose(join(folder, "s".repeat(100)));
  expect(path).toBe(join(folder, "run", "workers-42-500000.sock"));
});

test("what somebody left who was killed is removed, and what is in use is not", async () => {
  const run = join(folder, "run");
  await choose(undefined);
  await listenAt(join(run, "workers-1-1.sock"));
  // Node removes the file of a socket that it closes. One that was renamed stays, as after a crash.
  const crashed = await listenAt(join(run, "crashed.sock"));
  await rename(join(run, "crashed.sock"), join(run, "workers-2-2.sock"));
  crashed.close();
  await once(crashed, "close");
  expect(await readdir(run)).toHaveLength(2);
  await choose(undefined);
  expect(await readdir(run)).toEqual(["workers-1-1.sock"]);
});

test("a folder that is open to others is refused", async () => {
  await mkdir(join(folder, "run"), { mode: 0o755 });
  await expect(choose(undefined)).rejects.toThrow("must be a folder of this user with mode 700");
});
