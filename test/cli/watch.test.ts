import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { describe, expect, test } from "vitest";
import { formatVersion } from "../../src/evaluation/version.ts";
import { eventually } from "../support/eventually.ts";
import { FakeClock } from "../support/fake-clock.ts";
import { overrideOf, stateOf } from "../support/flag-builders.ts";
import { listen } from "../support/listen.ts";
import { WatchScene } from "../support/watch-scene.ts";
import { type CliResult, runCli } from "./run-cli.ts";

/** The command, while it runs. */
function watch(port: number, argv: readonly string[] = [], clock = new FakeClock()) {
  const interruption = new AbortController();
  let output = "";
  const result: Promise<CliResult> = runCli(["watch", "--address", `127.0.0.1:${port}`, ...argv], {
    interrupted: interruption.signal,
    clock,
    onOutput: (text) => {
      output += text;
    },
  });
  return {
    clock,
    result,
    interrupt: () => interruption.abort(),
    /** Once there are so many. */
    async lines(count: number): Promise<readonly string[]> {
      const lines = () => output.split("\n").slice(0, -1);
      await eventually(() => lines().length >= count, { what: `${count} lines` });
      return lines();
    },
  };
}

test("prints what is in force, then what changes, and ends with 0 at Ctrl-C", async () => {
  await using scene = await WatchScene.open();
  const command = watch(scene.port);
  await command.lines(1);
  scene.store.set(stateOf("a/1", { mode: "killed" }));
  await scene.poll();
  await command.lines(2);
  scene.store.setOverride(overrideOf("a/1", "ann", { mode: "killed", value: undefined }));
  await scene.clock.advance(50);
  await scene.poll();
  await scene.clock.advance(4_000);
  expect(await command.lines(3)).toEqual([
    "2026-01-01T00:00:00.000Z  everything  2  killed: a/2",
    "2026-01-01T00:00:00.000Z  changed     3  flags: a/1; killed: a/1, a/2",
    "2026-01-01T00:00:00.000Z  changed     4  entities: ann; killed: a/1, a/2, a/1 for ann",
  ]);
  command.interrupt();
  expect(await command.result).toMatchObject({ exitCode: 0, stderr: "" });
  await eventually(() => scene.followers === 0);
});

test("--json prints one object a line, with null for what is as it was", async () => {
  await using scene = await WatchScene.open();
  const command = watch(scene.port, ["--json", "--heartbeats"]);
  await command.lines(1);
  scene.store.setOverride(overrideOf("a/1", "ann"));
  await scene.poll();
  await command.lines(2);
  await scene.clock.advance(2_000);
  const events = (await command.lines(3)).map((line): unknown => JSON.parse(line));
  command.interrupt();
  const common = { at: "2026-01-01T00:00:00.000Z", committedAgoMs: expect.toSatisfy(isNumberOrNull) };
  const version = formatVersion(scene.version);
  expect(events).toEqual([
    {
      ...common,
      event: "everything",
      version: version.replace(/\d+$/, "2"),
      ageMs: 0,
      flagIds: null,
      entityIds: null,
      kills: { flagIds: ["a/2"], overrides: [] },
    },
    { ...common, event: "changed", version, ageMs: 0, flagIds: [], entityIds: ["ann"], kills: null },
    { ...common, event: "heartbeat", version, ageMs: 2_000, flagIds: null, entityIds: null, kills: null },
  ]);
  await command.result;
});

test("--since starts with what changed after a version", async () => {
  await using scene = await WatchScene.open();
  const since = formatVersion(scene.version);
  scene.store.set(stateOf("a/1", { mode: "killed" }));
  await scene.poll();
  const command = watch(scene.port, ["--since", since]);
  const [line] = await command.lines(1);
  command.interrupt();
  expect(line).toMatch(/changed {5}3 {2}flags: a\/1; killed: a\/1, a\/2$/);
  await command.result;
});

test("--since with a version that the daemon does not know yet says once that it waits for it", async () => {
  await using scene = await WatchScene.open();
  const { epoch } = scene.version;
  const command = watch(scene.port, ["--since", `${epoch}:3`]);
  await command.lines(1);
  await scene.clock.advance(2_000);
  scene.store.set(stateOf("a/1", { mode: "killed" }));
  await scene.poll();
  const [, line] = await command.lines(2);
  expect(line).toMatch(/changed {5}3 {2}-$/);
  command.interrupt();
  expect(await command.result).toMatchObject({
    exitCode: 0,
    stderr: `notice: the daemon knows ${epoch}:2, which is older: nothing is told until it knows ${epoch}:3\n`,
  });
});

test("--since with the version in force waits without a word", async () => {
  await using scene = await WatchScene.open();
  const command = watch(scene.port, ["--since", formatVersion(scene.version), "--heartbeats"]);
  await command.lines(1);
  await scene.clock.advance(2_000);
  await command.lines(2);
  command.interrupt();
  expect(await command.result).toMatchObject({ exitCode: 0, stderr: "" });
});

describe("ends with 3", () => {
  test("when the daemon stops", async () => {
    await using scene = await WatchScene.open();
    const command = watch(scene.port);
    await command.lines(1);
    scene.stop();
    expect(await command.result).toMatchObject({
      exitCode: 3,
      stderr: `error: pbflagd at 127.0.0.1:${scene.port} has ended the stream: it is stopping\n`,
    });
  });

  test("when the daemon has not been heard for two of its heartbeats", async () => {
    await using scene = await WatchScene.open();
    const command = watch(scene.port);
    await command.lines(1);
    await command.clock.advance(3_999);
    await command.clock.advance(1);
    expect(await command.result).toMatchObject({
      exitCode: 3,
      stderr: `error: Cannot follow pbflagd at 127.0.0.1:${scene.port}: nothing heard for 4 s. Is it running there?\n`,
    });
  });

  test("when nobody is there", async () => {
    const { exitCode, stderr } = await watch(1).result;
    expect(exitCode).toBe(3);
    expect(stderr).toContain("Cannot follow pbflagd at 127.0.0.1:1: connect ECONNREFUSED");
  });

  test("when the connection breaks", async () => {
    await using server = await serve((_, response) => {
      response.writeHead(200, { "content-type": "application/connect+json" }).write("\0\0\0");
      response.destroy();
    });
    expect((await watch(server.port).result).exitCode).toBe(3);
  });
});

test("an evaluator without Watch is told from one that is not there", async () => {
  await using scene = await WatchScene.open({ withoutWatch: true });
  expect(await watch(scene.port).result).toMatchObject({
    exitCode: 1,
    stderr: `error: Cannot follow: no pbflagd that tells what changes answers at 127.0.0.1:${scene.port}, got HTTP 404\n`,
  });
});

test.each(["nonsense", "one:-1", ":4"])("--since %s is wrong usage", async (since) => {
  expect(await watch(1, ["--since", since]).result).toMatchObject({
    exitCode: 2,
    stderr: `error: --since: expected a version as epoch:revision, got "${since}"\n`,
  });
});

function isNumberOrNull(value: unknown): boolean {
  return value === null || typeof value === "number";
}

async function serve(listener: RequestListener) {
  const server = createServer(listener);
  const port = await listen(server);
  return {
    port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
