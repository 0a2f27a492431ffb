import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { identifyPlace, identifyProcess, type ProcessIdentity } from "../../system/process-identity.ts";
import { findHolder, openSnapshotLock } from "./snapshot-lock.ts";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-lock-"));
  path = join(folder, "snapshot.lock");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("one holds it, as long as it likes, and another is told who", async () => {
  await using first = openSnapshotLock(folder);
  await using second = openSnapshotLock(folder);
  expect(await findHolder(folder)).toBeUndefined();
  expect(await first.hold()).toEqual({ kind: "held" });
  expect(await findHolder(folder)).toBe(`another daemon, process ${process.pid}`);
  const taken = { kind: "taken", holder: `another daemon, process ${process.pid}` };
  expect(await second.hold()).toEqual(taken);
  expect(await first.hold()).toEqual({ kind: "held" });
  await second[Symbol.asyncDispose]();
  expect(await first.hold(), "who never held it lets nothing go").toEqual({ kind: "held" });
  expect(await second.hold()).toEqual(taken);
});

test("once it is let go another has it, and nothing is left in the end", async () => {
  const first = openSnapshotLock(join(folder, "new"));
  await first.hold();
  await first[Symbol.asyncDispose]();
  const second = openSnapshotLock(join(folder, "new"));
  expect(await second.hold()).toEqual({ kind: "held" });
  await second[Symbol.asyncDispose]();
  expect(await readdir(join(folder, "new"))).toEqual([]);
});

test("what a process left that has ended is taken over", async () => {
  const child = spawn("sleep", ["60"], { stdio: "ignore" });
  const owner = await identifyProcess(child.pid ?? 0);
  await leave({ owner });
  await using lock = openSnapshotLock(folder);
  expect(await lock.hold()).toEqual({ kind: "taken", holder: `another daemon, process ${child.pid}` });
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await findHolder(folder)).toBeUndefined();
  expect(await lock.hold()).toEqual({ kind: "held" });
  expect(await lock.hold()).toEqual({ kind: "held" });
});

test("a process that was given the number of one that has ended does not hold it", async () => {
  await leave({ owner: { pid: process.pid, startedAt: "another time" } });
  await using lock = openSnapshotLock(folder);
  expect(await lock.hold()).toEqual({ kind: "held" });
});

test("what was left by another container, or before the machine started, is taken over", async () => {
  await leave({ place: "elsewhere", owner: await identifyProcess(process.pid) });
  expect(await findHolder(folder)).toBeUndefined();
  await using lock = openSnapshotLock(folder);
  expect(await lock.hold()).toEqual({ kind: "held" });
});

test("whoever was taken over from elsewhere does not take it back", async () => {
  await using lock = openSnapshotLock(folder);
  await lock.hold();
  await leave({ place: "elsewhere", owner: { pid: 7, startedAt: "then" } });
  expect(await lock.hold()).toEqual({ kind: "taken", holder: "another daemon, process 7" });
  await lock[Symbol.asyncDispose]();
  expect(await readFile(path, "utf8"), "nor does it remove the other's").toContain("elsewhere");
});

test("of many who try at once, one holds it from the second call on", async () => {
  for (let round = 0; round < 20; round++) {
    const locks = Array.from({ length: 5 }, () => openSnapshotLock(folder));
    await Promise.allSettled(locks.map((lock) => lock.hold()));
    const holds = await Promise.all(locks.map((lock) => lock.hold()));
    expect(holds.filter(({ kind }) => kind === "held")).toHaveLength(1);
    await Promise.all(locks.map((lock) => lock[Symbol.asyncDispose]()));
    expect(await readdir(folder)).toEqual([]);
  }
});

test.for(["", "{", "[]", "null", '{"place":1}', '{"place":"here","token":"a","owner":{"pid":-1}}'])(
  "a lock file that says %j says nothing",
  async (text) => {
    await writeFile(path, text);
    expect(await findHolder(folder)).toBeUndefined();
    await using lock = openSnapshotLock(folder);
    expect(await lock.hold()).toEqual({ kind: "held" });
  },
);

/** As another daemon would have left it. */
async function leave({
  place,
  owner,
}: {
  readonly place?: string;
  readonly owner: ProcessIdentity | undefined;
}): Promise<void> {
  await writeFile(
    path,
    JSON.stringify({ place: place ?? (await identifyPlace()), owner, token: "another's" }),
  );
}
