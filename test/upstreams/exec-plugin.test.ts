import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { beforeAll, expect, inject, test } from "vitest";
import {
  EvaluationSource,
  EvaluatorStatus,
  FlagEvaluatorService,
} from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { State } from "../../src/gen/pbflags/v1/types_pb.ts";
import { systemClock } from "../../src/system/clock.ts";
import type { ExecEvent } from "../../src/upstream/exec/exec-event.ts";
import type { ExecOptions } from "../../src/upstream/exec/exec-transport.ts";
import { withDeadline } from "../../src/upstream/transport/deadline.ts";
import { openTransport } from "../../src/upstream/transport/open-transport.ts";
import type { Transport, UnaryMethod } from "../../src/upstream/transport/transport.ts";
import { bundleScript, linkPackages } from "../support/bundle.ts";
import { eventually } from "../support/eventually.ts";
import { isAlive } from "../support/process-tree.ts";
import type { ExecOwnerOrders } from "./exec-owner.ts";
import { ANNOUNCE, ExecScene, SERVE } from "./exec-scene.ts";

const { health, getFlagState, getKilledFlags, getOverrides, evaluate, bulkEvaluate } =
  FlagEvaluatorService.method;
const example = new URL("../../examples/plugin/flags-from-yaml.mjs", import.meta.url).pathname;
const generated = new URL("../../dist/gen/pbflags/v1/evaluator_pb.js", import.meta.url).href;

/** Real connections, in real time. */
const REAL: Partial<ExecOptions> = {
  connect: (settings) => openTransport({ settings, clock: systemClock }),
  clock: systemClock,
};

/** One call that has ten seconds. */
function call<I extends DescMessage, O extends DescMessage>(
  transport: Transport,
  method: UnaryMethod<I, O>,
  request: MessageInitShape<I>,
): Promise<MessageShape<O>> {
  return withDeadline({ timeoutMs: 10_000, clock: systemClock }, (deadline) =>
    transport.call(method, request, deadline),
  );
}

const FLAGS = `
flags:
  checkout/1: { state: killed }
  notifications/1: { value: true, overrides: { user-1: { state: killed }, user-2: { value: false } } }
  notifications/2: { value: weekly, overrides: { user-2: { value: never }, user-3: { state: default } } }
  notifications/4: { value: [8, 18] }
  search/1: { value: 1.0 }
  search/2: { state: default }
`;

async function startExample(scene: ExecScene, flags: string) {
  const file = join(scene.folder, "flags.yaml");
  writeFileSync(file, flags);
  return { file, plugin: scene.start(example, { args: [file] }, REAL) };
}

test("the example serves what a YAML file says", async () => {
  await using scene = await ExecScene.open();
  const { plugin } = await startExample(scene, FLAGS);
  expect(await call(plugin, health, {})).toMatchObject({
    status: EvaluatorStatus.SERVING,
    cachedFlagCount: 6,
  });
  expect(await call(plugin, getFlagState, { flagId: "notifications/4" })).toMatchObject({
    flag: {
      flagId: "notifications/4",
      state: State.ENABLED,
      value: { value: { case: "int64ListValue", value: { values: [8n, 18n] } } },
    },
    archived: false,
  });
  const { flag: double } = await call(plugin, getFlagState, { flagId: "search/1" });
  expect(double?.value?.value).toEqual({ case: "doubleValue", value: 1 });
  const { flag: unset } = await call(plugin, getFlagState, { flagId: "search/2" });
  expect([unset?.state, unset?.value]).toEqual([State.DEFAULT, undefined]);
  await expect(call(plugin, getFlagState, { flagId: "nobody/1" })).rejects.toMatchObject({
    code: "not_found",
    answered: true,
  });
  expect(await call(plugin, getKilledFlags, {})).toMatchObject({
    flagIds: ["checkout/1"],
    killedOverrides: [{ flagId: "notifications/1", entityId: "user-1" }],
  });
  const { overrides } = await call(plugin, getOverrides, { entityId: "user-2" });
  expect(overrides.map(({ flagId, entityId, value }) => [flagId, entityId, value?.value.value])).toEqual([
    ["notifications/1", "user-2", false],
    ["notifications/2", "user-2", "never"],
  ]);
  const some = await call(plugin, getOverrides, { entityId: "user-2", flagIds: ["notifications/2"] });
  expect(some.overrides).toHaveLength(1);
});

test("the example decides as pbflagd does, for those who ask it", async () => {
  await using scene = await ExecScene.open();
  const { plugin } = await startExample(scene, FLAGS);
  const decide = async (flagId: string, entityId: string) => {
    const { value, source } = await call(plugin, evaluate, { flagId, entityId });
    return [EvaluationSource[source], value?.value.value];
  };
  expect(await decide("checkout/1", "")).toEqual(["KILLED", undefined]);
  expect(await decide("notifications/1", "user-1")).toEqual(["KILLED", undefined]);
  expect(await decide("notifications/1", "user-2")).toEqual(["OVERRIDE", false]);
  expect(await decide("notifications/2", "user-3")).toEqual(["DEFAULT", undefined]);
  expect(await decide("notifications/2", "user-4")).toEqual(["GLOBAL", "weekly"]);
  expect(await decide("search/2", "")).toEqual(["DEFAULT", undefined]);
  expect(await decide("nobody/1", "")).toEqual(["DEFAULT", undefined]);
  const { evaluations } = await call(plugin, bulkEvaluate, {});
  expect(evaluations).toHaveLength(6);
});

test("the example follows its file, and a mistake in it changes nothing", async () => {
  await using scene = await ExecScene.open();
  const { file, plugin } = await startExample(scene, FLAGS);
  const count = async () => (await call(plugin, health, {})).cachedFlagCount;
  const replace = (flags: string) => {
    writeFileSync(`${file}.new`, flags);
    renameSync(`${file}.new`, file);
  };
  expect(await count()).toBe(6);
  replace("flags: { search/1: { value: 2.5 }, search/2: { value: [1, two] } }");
  await eventually(() => scene.lines.some((line) => line.includes("search/2: value must be a bool")));
  expect(await count()).toBe(6);

  replace("flags: { search/1: { value: 2.5 } }");
  await eventually(async () => (await count()) === 1);
  await eventually(() => scene.lines.some((line) => line.includes("serves 1 flags")));
});

test("the example comes back after a crash, and ends when it is closed", async () => {
  await using scene = await ExecScene.open();
  const { plugin } = await startExample(scene, FLAGS);
  await call(plugin, health, {});
  process.kill((await scene.seen("started")).pid, "SIGKILL");
  await scene.seen("announced", 2);
  expect(await call(plugin, health, {})).toMatchObject({ cachedFlagCount: 6 });
  const { pid } = await scene.seen("started", 2);
  await plugin[Symbol.asyncDispose]();
  expect(await isAlive(pid)).toBe(false);
  expect(await scene.files()).toEqual([]);
});

test("the example says what is wrong with its file instead of serving nothing", async () => {
  await using scene = await ExecScene.open();
  await startExample(scene, "flags: { search/1: { state: off } }");
  expect(await scene.seen("failed")).toMatchObject({ reason: "the program ended with exit code 1" });
  expect(scene.lines.join("\n")).toContain("search/1: state must be enabled, default or killed, got off");
});

test("a plug-in may speak gRPC", async () => {
  await using scene = await ExecScene.open();
  await linkPackages(scene.folder);
  const program = join(scene.folder, "grpc.mjs");
  writeFileSync(
    program,
    `#!${process.execPath}
    import { createServer } from "node:http2";
    import { connectNodeAdapter } from "@connectrpc/connect-node";
    import { FlagEvaluatorService } from "${generated}";
    const getKilledFlags = () => ({ flagIds: ["a/1"] });
    const routes = (router) => router.service(FlagEvaluatorService, { getKilledFlags });
    const address = process.env.PBFLAGD_PLUGIN_ADDRESS;
    createServer(connectNodeAdapter({ routes })).listen(address.slice("unix://".length), () => {
      console.log("pbflagd-plugin 1 grpc " + address);
    });
    process.stdin.resume().on("end", () => process.exit());
    `,
    { mode: 0o755 },
  );
  const plugin = scene.start(program, {}, REAL);
  expect(await call(plugin, getKilledFlags, {})).toMatchObject({ flagIds: ["a/1"] });
  expect(await scene.seen("announced")).toMatchObject({ protocol: "grpc" });
});

/** A process of ours that runs a plug-in, and the events it tells. */
class Owner implements AsyncDisposable {
  readonly events: ExecEvent[] = [];
  readonly #child: ChildProcessByStdio<null, Readable, null>;
  readonly #ended: Promise<unknown>;

  constructor(script: string, orders: ExecOwnerOrders) {
    this.#child = spawn(process.execPath, [script, JSON.stringify(orders)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const lines = createInterface(this.#child.stdout);
    lines.on("line", (line) => this.events.push(JSON.parse(line) as ExecEvent));
    this.#ended = once(this.#child, "close");
  }

  /** The pid of the plug-in, once it has announced itself. */
  async plugin(): Promise<number> {
    await eventually(() => this.events.some(({ kind }) => kind === "announced"), {
      what: "the plug-in has announced itself",
    });
    const started = this.events.find((event) => event.kind === "started");
    if (started === undefined) throw new Error("Cannot tell the plug-in's pid: it has not been started");
    return started.pid;
  }

  /** As a crash would. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

async function bundleOwner(): Promise<string> {
  const folder = join(inject("runFolder"), "exec-owner");
  const script = await bundleScript(new URL("./exec-owner.ts", import.meta.url), folder);
  await linkPackages(folder);
  return script;
}

let ownerScript: string;
beforeAll(async () => {
  ownerScript = await bundleOwner();
});

test("a plug-in ends when the daemon crashes, and the next start removes what is left of it", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script(`${ANNOUNCE}; ${SERVE}`);
  let crashed: number;
  {
    await using owner = new Owner(ownerScript, { program, folder: scene.plugins });
    crashed = await owner.plugin();
    expect(await isAlive(crashed)).toBe(true);
  }
  await eventually(async () => !(await isAlive(crashed)));
  const left = await scene.files();
  expect(left).toEqual([expect.stringMatching(/\.pid$/)]);

  scene.start(program);
  await scene.seen("announced");
  expect(scene.events.map(({ kind }) => kind)).toEqual(["started", "announced"]);
  expect(await scene.files()).not.toEqual(left);
  expect(await scene.files()).toHaveLength(1);
});

test("a plug-in that outlives the daemon's crash is ended before the next start", async () => {
  await using scene = await ExecScene.open();
  // It heeds neither its stdin nor SIGTERM.
  const stubborn = scene.script(`trap "" TERM; ${ANNOUNCE}; while :; do sleep 0.1; done`);
  let survivor: number;
  {
    await using owner = new Owner(ownerScript, { program: stubborn, folder: scene.plugins });
    survivor = await owner.plugin();
  }
  expect(await isAlive(survivor)).toBe(true);

  const program = scene.script(`${ANNOUNCE}; ${SERVE}`);
  scene.start(program, { stopTimeoutMs: 100 }, { clock: systemClock });
  await scene.seen("announced");
  expect(await isAlive(survivor)).toBe(false);
  expect(scene.events.map(({ kind }) => kind)).toEqual(["reaped", "started", "announced"]);
  expect(scene.events[0]).toEqual({ kind: "reaped", pid: survivor });
});

test("a plug-in of another daemon that runs is left alone", async () => {
  await using scene = await ExecScene.open();
  const program = scene.script(`${ANNOUNCE}; ${SERVE}`);
  await using owner = new Owner(ownerScript, { program, folder: scene.plugins });
  const other = await owner.plugin();
  scene.start(program);
  await scene.seen("announced");
  expect(await isAlive(other)).toBe(true);
  expect(await scene.files()).toHaveLength(2);
});
