import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { FakeClock, settle } from "../../../test/support/fake-clock.ts";
import { upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { isAlive } from "../../../test/support/process-tree.ts";
import { ANNOUNCE, ask, ExecScene, SERVE } from "../../../test/upstreams/exec-scene.ts";
import { openExecTransport } from "./exec-transport.ts";

test("calls wait until the program has announced itself, and go where it said", async () => {
  await using scene = await ExecScene.open();
  const gate = join(scene.folder, "gate");
  const program = scene.script(`while [ ! -e "$1" ]; do sleep 0.02; done; ${ANNOUNCE}; ${SERVE}`);
  const transport = scene.start(program, { args: [gate] });
  const answered: unknown[] = [];
  const answer = ask(transport).then((health) => answered.push(health));
  await scene.seen("started");
  await settle();
  expect(answered).toEqual([]);

  writeFileSync(gate, "");
  await answer;
  const socket = (await scene.files()).find((name) => name.endsWith(".sock") || name.endsWith(".pid"));
  const url = `unix://${scene.plugins}/${socket?.replace(/\.pid$/, ".sock")}`;
  expect(scene.connected).toEqual([url]);
  expect(transport.target).toBe(`exec:${program}`);
  expect(await scene.seen("announced")).toEqual({ kind: "announced", protocol: "connect", address: url });
});

test("the program gets the address, what its settings name, and nothing secret of ours", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script("console.log(JSON.stringify(process.env))", process.execPath);
  scene.start(
    program,
    { env: { STORE_TOKEN: "its own", TZ: "Asia/Tokyo", PBFLAGD_PLUGIN_PROTOCOL: "9" } },
    { env: { PATH: "/bin", HOME: "/root", LANG: "C", TZ: "UTC", PBFLAGS_DATABASE: "secret" } },
  );
  await scene.seen("failed");
  const env = JSON.parse(scene.lines[0] ?? "") as Record<string, string>;
  expect(Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("__")))).toEqual({
    PATH: "/bin",
    HOME: "/root",
    LANG: "C",
    TZ: "Asia/Tokyo",
    STORE_TOKEN: "its own",
    PBFLAGD_PLUGIN_PROTOCOL: "1",
    PBFLAGD_PLUGIN_ADDRESS: expect.stringMatching(`^unix://${scene.plugins}/plug-[0-9a-f]{8}\\.sock$`),
  });
});

test("what it writes before and after its announcement is output, of both streams", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script(`echo hello; echo oops >&2; ${ANNOUNCE}; ${ANNOUNCE}; ${SERVE}`);
  scene.start(program);
  await scene.seen("announced");
  await eventually(() => scene.lines.length === 3);
  const again = expect.stringMatching("^pbflagd-plugin 1 connect unix:///");
  expect(scene.lines.toSorted()).toEqual(["hello", "oops", again]);
});

test("a program that announces what we do not know is refused, ended, and tried again", async () => {
  await using scene = await ExecScene.open();
  const transport = scene.start(scene.script(`echo "pbflagd-plugin 2 connect unix:///x"; ${SERVE}`));
  const reason =
    'Cannot use its announcement: the version must be 1, got "pbflagd-plugin 2 connect unix:///x"';
  await expect(ask(transport)).rejects.toMatchObject({
    name: "UpstreamError",
    code: "connection",
    message: `Cannot call plug at ${transport.target}: ${reason}; it is started again`,
  });
  const { pid } = await scene.seen("started");
  await scene.seen("restarting");
  expect(scene.events.map(({ kind }) => kind)).toEqual(["started", "refused", "restarting"]);
  expect(await isAlive(pid)).toBe(false);
  expect(await scene.files()).toEqual([]);
  await scene.clock.advance(100);
  await scene.seen("refused", 2);
});

test("a program that never announces itself is ended when its time is over", async () => {
  await using scene = await ExecScene.open();
  const transport = scene.start(scene.script(SERVE), { startTimeoutMs: 2_000 });
  const answer = ask(transport);
  answer.catch(() => {});
  await scene.seen("started");
  await scene.clock.advance(1_999);
  expect(scene.events).toHaveLength(1);
  await scene.clock.advance(1);
  await expect(answer).rejects.toThrow("must come within 2000 ms, got none");
  await scene.seen("restarting");
});

test("a program that ends is started again, after ever longer waits until it has served for a while", async () => {
  await using scene = await ExecScene.open();
  const well = join(scene.folder, "well");
  const transport = scene.start(scene.script(`[ -e "$1" ] || exit 3; rm "$1"; ${ANNOUNCE}; ${SERVE}`), {
    args: [well],
  });
  const waits: number[] = [];
  for (let i = 1; i <= 10; i++) {
    const { inMs } = await scene.seen("restarting", i);
    waits.push(inMs);
    if (i < 10) await scene.clock.advance(inMs);
  }
  expect(waits).toEqual([100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000]);
  await expect(ask(transport)).rejects.toThrow(
    "the program ended with exit code 3; it is started again in 30000 ms",
  );

  // Too short to count.
  writeFileSync(well, "");
  await scene.clock.advance(30_000);
  await scene.seen("announced");
  await scene.clock.advance(9_999);
  process.kill((await scene.seen("started", 11)).pid);
  expect(await scene.seen("restarting", 11)).toEqual({ kind: "restarting", inMs: 30_000 });

  writeFileSync(well, "");
  await scene.clock.advance(30_000);
  await scene.seen("announced", 2);
  await scene.clock.advance(10_000);
  process.kill((await scene.seen("started", 12)).pid);
  expect(await scene.seen("restarting", 12)).toEqual({ kind: "restarting", inMs: 100 });
});

test("a program that is killed takes its children and connections with it, and comes back", async () => {
  await using scene = await ExecScene.open();
  const child = '(trap "" TERM; exec sleep 1000) & echo "$!"';
  const transport = scene.start(scene.script(`${child}; ${ANNOUNCE}; ${SERVE}`));
  await ask(transport);
  const { pid } = await scene.seen("started");
  await eventually(() => scene.lines.length === 1);
  process.kill(pid, "SIGKILL");

  expect(await scene.seen("failed")).toEqual({
    kind: "failed",
    reason: "the program ended with signal SIGKILL",
  });
  expect(scene.connected).toEqual([]);
  await expect(ask(transport)).rejects.toThrow("the program ended with signal SIGKILL");
  await eventually(async () => !(await isAlive(Number(scene.lines[0]))));

  await scene.seen("restarting");
  await scene.clock.advance(100);
  await scene.seen("started", 2);
  await ask(transport);
});

test("closing asks it to end, and leaves nothing behind", async () => {
  await using scene = await ExecScene.open();
  const body = `
    process.on("SIGTERM", () => { console.log("bye"); process.exit(); }).stdin.resume();
    console.log("pbflagd-plugin 1 connect " + process.env.PBFLAGD_PLUGIN_ADDRESS);`;
  const program = scene.script(body, process.execPath);
  const transport = scene.start(program);
  await ask(transport);
  const { pid } = await scene.seen("started");
  expect(await scene.files()).toEqual([expect.stringMatching(/^plug-[0-9a-f]{8}\.pid$/)]);

  await transport[Symbol.asyncDispose]();
  expect(scene.lines).toEqual(["bye"]);
  expect(scene.events.map(({ kind }) => kind)).toEqual(["started", "announced", "stopped"]);
  expect(await isAlive(pid)).toBe(false);
  expect(await scene.files()).toEqual([]);
  expect(scene.connected).toEqual([]);
  expect(scene.clock.sleeperCount).toBe(0);
  await expect(ask(transport)).rejects.toThrow(`Cannot call plug at ${transport.target}: it is closed`);
});

test("closing kills one that heeds nothing, and what it started, when its time is over", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script(`trap "" TERM; sleep 1000 & echo "$!"; ${ANNOUNCE}; while :; do wait; done`);
  const transport = scene.start(program, { stopTimeoutMs: 3_000 });
  await ask(transport);
  const { pid } = await scene.seen("started");
  await eventually(() => scene.lines.length === 1);
  const closed = transport[Symbol.asyncDispose]();
  await eventually(() => scene.clock.sleeperCount === 1);
  await scene.clock.advance(2_999);
  expect(await isAlive(pid)).toBe(true);

  await scene.clock.advance(1);
  await closed;
  expect(scene.events).toContainEqual({ kind: "killed", pid, afterMs: 3_000 });
  expect(await isAlive(pid)).toBe(false);
  await eventually(async () => !(await isAlive(Number(scene.lines[0]))));
});

test("closing while it starts, and while it waits for the next start, ends that", async () => {
  await using scene = await ExecScene.open();
  const starting = scene.start(scene.script(SERVE));
  const answer = ask(starting);
  answer.catch(() => {});
  const { pid } = await scene.seen("started");
  await starting[Symbol.asyncDispose]();
  await expect(answer).rejects.toThrow("it is closed");
  expect(await isAlive(pid)).toBe(false);

  const waiting = scene.start(scene.script("exit 1"));
  await scene.seen("restarting");
  await waiting[Symbol.asyncDispose]();
  expect(scene.clock.sleeperCount).toBe(0);

  await scene.start(scene.script(SERVE))[Symbol.asyncDispose]();
  expect(await scene.files()).toEqual([]);
});

test("a call waits no longer than it may", async () => {
  await using scene = await ExecScene.open();
  const transport = scene.start(scene.script(SERVE));
  const over = new AbortController();
  const answer = ask(transport, over.signal);
  answer.catch(() => {});
  await scene.seen("started");
  over.abort(new Error("no answer within 500 ms"));
  await expect(answer).rejects.toThrow("no answer within 500 ms");
});

test("two upstreams of one name run side by side, as they do for the time of a reload", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script(`${ANNOUNCE}; ${SERVE}`);
  const old = scene.start(program, {}, { random: () => 0.1 });
  const successor = scene.start(program, {}, { random: () => 0.2 });
  await Promise.all([ask(old), ask(successor)]);
  expect(new Set(scene.connected).size).toBe(2);
  await old[Symbol.asyncDispose]();
  await ask(successor);
  expect(scene.connected).toHaveLength(1);
});

test("a program that floods its output neither fills the log nor has to wait", async () => {
  await using scene = await ExecScene.open();
  const flood = 'let lines = ""; for (let i = 0; i < 100_000; i++) lines += `line ${i}\\n`;';
  const announce = "pbflagd-plugin 1 connect ${process.env.PBFLAGD_PLUGIN_ADDRESS}";
  const write = `process.stdout.write(lines + \`${announce}\\nlast\\n\`); process.stdin.resume();`;
  const transport = scene.start(scene.script(flood + write, process.execPath));
  await ask(transport);
  await transport[Symbol.asyncDispose]();
  expect(scene.lines.slice(0, 100)).toEqual(Array.from({ length: 100 }, (_, i) => `line ${i}`));
  expect(scene.lines.slice(100)).toEqual(["… 99901 more lines, too fast to be logged"]);
});

test("a program that cannot be started says why, and shows nothing of its arguments", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script(SERVE);
  const transport = scene.start(program, { args: ["hunter2\0"] });
  expect(await scene.seen("failed")).toEqual({
    kind: "failed",
    reason: "it could not be started (ERR_INVALID_ARG_VALUE)",
  });
  await scene.seen("restarting");
  await transport[Symbol.asyncDispose]();

  scene.start(scene.script(SERVE, "/no/such/interpreter"));
  expect(await scene.seen("failed", 2)).toMatchObject({ reason: "it could not be started (ENOENT)" });
  await scene.seen("restarting", 2);
});

test("a program that has been removed is looked for again", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script("exit 0");
  const transport = scene.start(program);
  rmSync(program);
  await scene.seen("restarting");
  await expect(ask(transport)).rejects.toThrow(/could not be started \(ENOENT\)|exit code 0/);
  writeFileSync(program, `#!/bin/sh\n${ANNOUNCE}; ${SERVE}\n`, { mode: 0o755 });
  await scene.clock.advance(200);
  await scene.seen("announced");
  await ask(transport);
});

test("what the connection is refused for is told", async () => {
  await using scene = await ExecScene.open();
  const connect = () => {
    throw new Error("Cannot use upstream plug: no");
  };
  const transport = scene.start(scene.script(`${ANNOUNCE}; ${SERVE}`), {}, { connect });
  await expect(ask(transport)).rejects.toThrow("Cannot use upstream plug: no");
});

test("a folder that others have access to is not used", async () => {
  await using scene = await ExecScene.open();
  mkdirSync(scene.plugins);
  chmodSync(scene.plugins, 0o755);
  const transport = scene.start(scene.script(`${ANNOUNCE}; ${SERVE}`));
  const reason = `Cannot use the folder ${scene.plugins}: must be a folder of this user with mode 700, got mode 755`;
  await expect(ask(transport)).rejects.toThrow(reason);

  chmodSync(scene.plugins, 0o700);
  await scene.seen("restarting");
  await scene.clock.advance(100);
  await scene.seen("announced");
});

test("a folder whose path leaves no room for a socket is refused at once", () => {
  const open = (folder: string) =>
    openExecTransport({
      settings: upstreamSettings({ name: "plug", url: "exec:sh" }),
      connect: () => expect.unreachable(),
      folder,
      env: { PATH: "/bin:/usr/bin" },
      clock: new FakeClock(),
      random: () => 0,
      onOutput: () => {},
      onEvent: () => {},
    });
  const folder = `/${"f".repeat(103 - "//plug-00000000.sock".length + 1)}`;
  expect(() => open(folder)).toThrow(
    `Cannot run upstream plug: the path of its socket must have at most 103 bytes, got 104: ${folder}/plug-00000000.sock`,
  );
});
