import { chmod, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { type DaemonOptions, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { ordinaryUid } from "../support/ordinary-user.ts";
import { PlainEvaluator } from "../support/plain-evaluator.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { proxyArgs } from "../support/proxies.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import { answersTo, openScene, type Scene, SOON, serveArgs, through } from "./scene.ts";

// What the folder for restarts may be like: it is told, and it never costs an answer.

/** However long a writing took, the next waits twenty times as long. */
const WRITING = { timeoutMs: 40_000 };

let database: TestDatabase;
let scene: Scene;
let proxy: TcpProxy;
let stateDir: string;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  proxy = await openTcpProxy(Number(new URL(database.url).port));
  // For those who are not root.
  await chmod(dirname(scene.descriptors), 0o755);
});

afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "pbflagd-state-"));
});

afterEach(async () => {
  proxy.restore();
  await rm(stateDir, { recursive: true });
});

async function start(options: Partial<DaemonOptions> = {}): Promise<TestDaemon> {
  const args = [
    ...serveArgs(through(proxy, database.url), scene),
    ...["--state-dir", stateDir, "--health-interval", "100ms"],
  ];
  return startDaemon({ args, ...options });
}

async function snapshots(daemon: TestDaemon): Promise<{ readonly written: number; readonly failed: number }> {
  const counts = await daemon.metric("pbflags_snapshot_writes_total");
  return { written: counts['result="written"'] ?? 0, failed: counts['result="failed"'] ?? 0 };
}

/** What the check of the folder says: the reason where it is not well, and undefined where it is. */
async function trouble(daemon: TestDaemon): Promise<string | null | undefined> {
  const { status, checks } = await daemon.readiness();
  expect(status, "it never costs readiness").toBe(200);
  const { healthy = null, message } = checks["state_dir"] ?? {};
  return healthy === null ? null : healthy ? undefined : message;
}

function reasons(daemon: TestDaemon, event: string): readonly string[] {
  const lines = daemon.log.filter((line) => line.event === event);
  for (const { level } of lines) expect(level).toBe("warn");
  return lines.map(({ reason }) => String(reason));
}

/** Kills a flag, sees it arrive, and gives it back. */
async function seeKillArrive(daemon: TestDaemon): Promise<void> {
  const source = async () => (await daemon.evaluate("shop/3")).source;
  await scene.operate((store) => store.kill("shop/3"));
  await expect.poll(source, SOON).toBe("EVALUATION_SOURCE_KILLED");
  await scene.operate((store) => store.revive("shop/3"));
  await expect.poll(source, SOON).toBe("EVALUATION_SOURCE_GLOBAL");
}

/** What it knew when it stopped holds after a start without a store. */
async function seeItKept(daemon: TestDaemon): Promise<void> {
  await scene.operate((store) => store.kill("shop/3"));
  await expect.poll(async () => (await daemon.evaluate("shop/3")).source, SOON).toContain("KILLED");
  expect(await daemon.stop()).toBe(0);
  proxy.cut();
  await using next = await start();
  expect(await answersTo(next, "")()).toMatchObject({ "shop/3": '{"int64Value":"5"} KILLED' });
  await scene.operate((store) => store.revive("shop/3"));
}

test("a disk that is full is told, costs no answer, and is written to again when there is room", async () => {
  await using daemon = await start({ fileKilobytesMax: 256 });
  await daemon.whenReady();
  await eventually(async () => (await snapshots(daemon)).written > 0, WRITING);
  expect((await daemon.metric("pbflags_snapshot_bytes"))[""]).toBeGreaterThan(0);
  await eventually(async () => (await trouble(daemon)) === undefined);

  // More than fits on it.
  await scene.operate((store) => store.setValue("shop/1", "x".repeat(600_000)));
  await eventually(async () => (await snapshots(daemon)).failed > 0, WRITING);
  const reason = /^Cannot keep a snapshot in \S+: it must be writable, got EFBIG/;
  expect(reasons(daemon, "snapshot_not_written")).toEqual([expect.stringMatching(reason)]);
  await expect.poll(() => trouble(daemon), SOON).toMatch(reason);
  const { written } = await snapshots(daemon);
  await seeKillArrive(daemon);
  expect((await snapshots(daemon)).written).toBe(written);
  expect((await readdir(stateDir)).toSorted()).toEqual(["snapshot", "snapshot.lock"]);

  await scene.operate((store) => store.setValue("shop/1", "weekly"));
  await eventually(async () => (await snapshots(daemon)).written > written, WRITING);
  await eventually(async () => (await trouble(daemon)) === undefined);
  await seeItKept(daemon);
});

describe("a folder that is not to be written to", () => {
  test("is told while it lasts, costs no answer, and is written to again when it may be", async () => {
    await chmod(stateDir, 0o777);
    await using daemon = await start({ uid: ordinaryUid });
    await daemon.whenReady();
    await eventually(async () => (await snapshots(daemon)).written > 0, WRITING);

    await chmod(stateDir, 0o555);
    await seeKillArrive(daemon);
    await eventually(async () => (await snapshots(daemon)).failed > 0, WRITING);
    await expect.poll(() => trouble(daemon), SOON).toContain("EACCES");
    const { written } = await snapshots(daemon);
    await seeKillArrive(daemon);
    for (const reason of reasons(daemon, "snapshot_not_written")) {
      expect(reason).toMatch(/^Cannot keep a snapshot in \S+: it must be writable, got EACCES/);
    }

    await chmod(stateDir, 0o777);
    await seeKillArrive(daemon);
    await eventually(async () => (await snapshots(daemon)).written > written, WRITING);
    await eventually(async () => (await trouble(daemon)) === undefined);
    await seeItKept(daemon);
  });

  test("from the start on, is told at once, and the start succeeds", async () => {
    await chmod(stateDir, 0o555);
    await using daemon = await start({ uid: ordinaryUid });
    await daemon.whenReady();
    await eventually(async () => (await snapshots(daemon)).failed > 0, WRITING);
    expect(reasons(daemon, "snapshot_not_written")[0]).toContain("EACCES");
    await expect.poll(() => trouble(daemon), SOON).toContain("EACCES");
    await seeKillArrive(daemon);
    expect((await snapshots(daemon)).written).toBe(0);
    expect(await daemon.stop()).toBe(0);
    expect(await readdir(stateDir)).toEqual([]);
    await chmod(stateDir, 0o755);
  });
});

test("a snapshot that cannot be used is told, set aside and written anew, and the start succeeds", async () => {
  await writeFile(join(stateDir, "snapshot"), "of somebody else");
  await using daemon = await start();
  await daemon.whenReady();
  expect(reasons(daemon, "snapshot_unusable")).toEqual([
    expect.stringMatching(
      /^Cannot use \S+: .* bytes that do not fit their checksum; it is \S+\.unusable now$/,
    ),
  ]);
  expect((await snapshots(daemon)).failed).toBe(1);
  await eventually(async () => (await snapshots(daemon)).written > 0, WRITING);
  expect((await readdir(stateDir)).toSorted()).toEqual(["snapshot", "snapshot.lock", "snapshot.unusable"]);
  expect(await answersTo(daemon, "ann")()).toMatchObject({ "shop/1": '{"stringValue":"never"} OVERRIDE' });
  await eventually(async () => (await trouble(daemon)) === undefined);
  await seeItKept(daemon);
});

test("what was learnt of another store without versions is told, counted, and not served", async () => {
  await using one = await PlainEvaluator.open("http");
  await using other = await PlainEvaluator.open("http");
  one.rows.set("shop/3", { state: State.KILLED });
  const argsOf = ({ url }: PlainEvaluator) => [...proxyArgs(url, scene), "--state-dir", stateDir];
  await using first = await startDaemon({ args: argsOf(one) });
  await first.whenReady();
  expect(await first.evaluate("shop/3")).toMatchObject({ source: "EVALUATION_SOURCE_KILLED" });
  expect(await first.stop()).toBe(0);

  await using second = await startDaemon({ args: argsOf(other) });
  await second.whenReady();
  expect(await second.evaluate("shop/3")).toMatchObject({ source: "EVALUATION_SOURCE_DEFAULT" });
  expect(reasons(second, "snapshot_unusable")).toEqual([
    expect.stringMatching(/it must be of this store and these descriptors, got one of others; it is /),
  ]);
  expect(second.log.filter(({ event }) => event === "snapshot_loaded")).toEqual([]);
  expect((await snapshots(second)).failed).toBe(1);
});

test("a second daemon on one folder says whose it is, serves, and takes over when the first has ended", async () => {
  await using first = await start();
  await first.whenReady();
  await eventually(async () => (await snapshots(first)).written > 0, WRITING);
  await using second = await start();
  await second.whenReady();
  await expect.poll(() => trouble(second), SOON).toContain(`another daemon, process ${first.pid}`);
  expect(await trouble(first)).toBeUndefined();
  await seeKillArrive(second);
  expect(await snapshots(second)).toMatchObject({ written: 0 });

  // It has no time to let go of anything.
  first.kill("SIGKILL");
  await first.exited;
  await eventually(async () => (await snapshots(second)).written > 0, WRITING);
  await eventually(async () => (await trouble(second)) === undefined);
  await seeItKept(second);
});
