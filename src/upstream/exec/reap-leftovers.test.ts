import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { isAlive } from "../../../test/support/process-tree.ts";
import { identifyProcess } from "../../system/process-identity.ts";
import { loadPidFile, type PidFile, writePidFile } from "./pid-file.ts";
import { reapLeftovers } from "./reap-leftovers.ts";

let folder: string;
let children: ChildProcess[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "pbflagd-reap-"));
  children = [];
});
afterEach(async () => {
  for (const child of children) child.kill("SIGKILL");
  for (const child of children) await eventually(() => child.exitCode !== null || child.signalCode !== null);
  rmSync(folder, { recursive: true });
});

/** A process with a group of its own that does not care for its stdin. Resolves when it runs. */
async function startStubborn(script: string): Promise<number> {
  const child = spawn("/bin/sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"], detached: true });
  children.push(child);
  await once(child.stdout ?? child, "data");
  return child.pid ?? missing("it has been started");
}

function missing(why: string): never {
  throw new Error(`Cannot be undefined: ${why}`);
}

/** Leaves the files of a plug-in, as a daemon that has died would. */
async function leave(plugin: number, change: Partial<PidFile> = {}): Promise<void> {
  const path = join(folder, "plug-1.pid");
  await writePidFile(path, process.pid, plugin);
  const file = (await loadPidFile(path)) ?? missing("it has been written");
  const owner = { pid: file.owner.pid, startedAt: "earlier" };
  writeFileSync(path, JSON.stringify({ ...file, owner, ...change }));
  writeFileSync(join(folder, "plug-1.sock"), "");
}

/** Turns the clock until it is done. */
async function reap(stopTimeoutMs = 1_000) {
  const clock = new FakeClock();
  const reaped: number[] = [];
  let isDone = false;
  const { signal } = new AbortController();
  const done = reapLeftovers({ folder, stopTimeoutMs, clock, signal, onReaped: (pid) => reaped.push(pid) });
  void done.finally(() => {
    isDone = true;
  });
  await eventually(async () => {
    if (!isDone) await clock.advance(20);
    return isDone;
  });
  await done;
  return { reaped, tookMs: clock.now() };
}

const IMPOLITE = 'trap "" TERM; echo; while :; do sleep 1000; done';

test("a plug-in of a daemon that died is ended, and its files removed", async () => {
  const pid = await startStubborn("echo; exec sleep 1000");
  await leave(pid);
  expect((await reap()).reaped).toEqual([pid]);
  expect(await isAlive(pid)).toBe(false);
  expect(children[0]?.signalCode).toBe("SIGTERM");
  expect(readdirSync(folder)).toEqual([]);
});

test("one that does not heed SIGTERM is killed when its time is over", async () => {
  const pid = await startStubborn(IMPOLITE);
  await leave(pid);
  const { reaped, tookMs } = await reap(400);
  expect(reaped).toEqual([pid]);
  expect(tookMs).toBeGreaterThanOrEqual(400);
  expect(await isAlive(pid)).toBe(false);
});

test("a process that was given the number of a plug-in is left alone", async () => {
  const pid = await startStubborn("echo; exec sleep 1000");
  await leave(pid, { plugin: { pid, startedAt: "earlier" } });
  expect((await reap()).reaped).toEqual([]);
  expect(await isAlive(pid)).toBe(true);
  expect(readdirSync(folder)).toEqual([]);
});

test("a plug-in of a daemon that runs is left alone", async () => {
  const pid = await startStubborn("echo; exec sleep 1000");
  const owner = (await identifyProcess(process.pid)) ?? missing("that is us");
  await leave(pid, { owner });
  expect((await reap()).reaped).toEqual([]);
  expect(await isAlive(pid)).toBe(true);
  expect(readdirSync(folder)).toHaveLength(2);
});

test("of another container or start of the machine, files go that nobody answers at, and no process", async () => {
  const pid = await startStubborn("echo; exec sleep 1000");
  await leave(pid, { place: "elsewhere" });
  rmSync(join(folder, "plug-1.sock"));
  const server = createServer((socket) => socket.end()).listen(join(folder, "plug-1.sock"));
  await once(server, "listening");
  await reap();
  expect(readdirSync(folder)).toHaveLength(2);

  server.close();
  await once(server, "close");
  expect((await reap()).reaped).toEqual([]);
  expect(readdirSync(folder)).toEqual([]);
  expect(await isAlive(pid)).toBe(true);
});

test.each(["", "{", "null", '{"place": 1}', '{"place": "", "owner": {"pid": 1}, "plugin": {"pid": -1}}'])(
  "the file %j is none of ours",
  async (text) => {
    writeFileSync(join(folder, "other.pid"), text);
    await reap();
    expect(readdirSync(folder)).toEqual(["other.pid"]);
  },
);

test("of two who start at the same time, one says that it ended a leftover", async () => {
  const pid = await startStubborn("echo; exec sleep 1000");
  await leave(pid);
  const results = await Promise.all([reap(), reap()]);
  expect(results.flatMap(({ reaped }) => reaped)).toEqual([pid]);
});

test("a process is the same one for as long as it runs, and none afterwards", async () => {
  const pid = await startStubborn("echo; exec sleep 1000");
  const first = await identifyProcess(pid);
  expect(first?.pid).toBe(pid);
  expect(await identifyProcess(pid)).toEqual(first);
  process.kill(pid, "SIGKILL");
  await eventually(async () => (await identifyProcess(pid)) === undefined);
});
