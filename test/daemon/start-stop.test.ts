import { once } from "node:events";
import { chmod, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadSnapshot } from "../../src/kills/snapshot/load-snapshot.ts";
import { type DaemonOptions, failToStart, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { listen } from "../support/listen.ts";
import { openOtlpCollector } from "../support/otlp-collector.ts";
import { createTestDatabase, type TestDatabase } from "../support/postgres.ts";
import { openTcpProxy } from "../support/tcp-proxy.ts";
import { openScene, type Scene, serveArgs, shop, through } from "./scene.ts";

let database: TestDatabase;
let scene: Scene;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase();
  scene = await openScene(database);
  folder = await mkdtemp(join(tmpdir(), "pbflagd-start-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
  await scene[Symbol.asyncDispose]();
  await database[Symbol.asyncDispose]();
});

/** What is under way ends no sooner than the test fails, unless something else ends it. */
const NEVER_BY_ITSELF = ["--cache-fetch-timeout", "1m", "--shutdown-timeout", "1m"];

function start(options: Partial<DaemonOptions> = {}): Promise<TestDaemon> {
  return startDaemon({ args: serveArgs(database.url, scene), ...options });
}

test("SIGTERM and SIGINT end it with exit code 0 and log lines that are one JSON object each", async () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    await using daemon = await start();
    await daemon.whenReady();
    await daemon.evaluate("shop/1");
    await eventually(() => daemon.log.some(({ event }) => event === "feed_connected"));
    daemon.kill(signal);
    expect(await daemon.exited).toEqual({ code: 0, signal: null });
    expect(daemon.log.map(({ event }) => event).toSorted()).toEqual([
      "descriptors_loaded",
      "feed_connected",
      "kill_set_changed",
      "serving",
      "stopping",
    ]);
    for (const line of daemon.log) {
      expect(line).toMatchObject({ level: "info", msg: expect.any(String), time: expect.any(String) });
    }
  }
});

test("until its first answer it loads nothing of Node that it can do without, and sets up no generated message", async () => {
  const [hook, coverage] = [join(folder, "loaded.cjs"), join(folder, "coverage")];
  await writeFile(hook, 'process.on("SIGUSR2", () => console.log(process.moduleLoadList.join()));');
  await using daemon = await start({
    env: { NODE_OPTIONS: `--require=${hook}`, NODE_V8_COVERAGE: coverage },
  });
  await daemon.whenReady();
  expect(await daemon.evaluate("shop/1", "ann")).toMatchObject({ source: "EVALUATION_SOURCE_OVERRIDE" });
  daemon.kill("SIGUSR2");
  await eventually(() => daemon.log.some(({ event }) => event === "stdout"));
  const modules = String(daemon.log.find(({ event }) => event === "stdout")?.["line"]).split(",");
  expect(modules).toContain("NativeModule net");
  for (const module of ["http2", "tls", "zlib", "internal/crypto/webcrypto", "internal/fs/promises"])
    expect(modules).not.toContain(`NativeModule ${module}`);

  await daemon.stop();
  const [report = ""] = await readdir(coverage);
  const { result } = JSON.parse(await readFile(join(coverage, report), "utf8")) as Coverage;
  const functions = result.find(({ url }) => url.endsWith("bundle/pbflagd.cjs"))?.functions ?? [];
  const isCalled = (name: string) =>
    functions.some(({ functionName, ranges }) => functionName === name && (ranges[0]?.count ?? 0) > 0);
  expect(isCalled("openDaemon")).toBe(true);
  expect(isCalled("fileDesc"), "what sets up the messages of a .proto file").toBe(false);
});

/** What NODE_V8_COVERAGE has a process write when it ends. */
interface Coverage {
  readonly result: readonly {
    readonly url: string;
    readonly functions: readonly {
      readonly functionName: string;
      readonly ranges: readonly { readonly count: number }[];
    }[];
  }[];
}

test("a second signal ends it at once, whatever still runs", async () => {
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  const args = [...serveArgs(through(proxy, database.url), scene), ...NEVER_BY_ITSELF];
  await using daemon = await start({ args });
  await daemon.whenReady();
  proxy.drop();
  const unanswered = daemon.evaluate("shop/1", "stranger").catch((error: unknown) => error);
  await eventually(() => proxy.connectionCount > 0);
  await setTimeout(100);
  daemon.kill("SIGTERM");
  await eventually(() => daemon.log.some(({ event }) => event === "stopping"));
  // So soon after, it is the same Ctrl-C once more.
  daemon.kill("SIGTERM");
  await setTimeout(500);
  daemon.kill("SIGTERM");
  expect(await daemon.exited).toEqual({ code: 143, signal: null });
  expect(await unanswered).toBeInstanceOf(Error);
});

test("stopped while the store says nothing, it ends in the time it is given", async () => {
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  const args = [
    ...serveArgs(through(proxy, database.url), scene),
    ...[...NEVER_BY_ITSELF, "--shutdown-timeout", "1s", "--database-pool", "1"],
  ];
  await using daemon = await start({ args });
  await daemon.whenReady();
  proxy.drop();
  const unanswered = daemon.evaluate("shop/1", "stranger").catch((error: unknown) => error);
  // The next poll is under way as well.
  await setTimeout(1_500);
  expect(await daemon.stop()).toBe(0);
  expect(await unanswered).toBeInstanceOf(Error);
});

test("stopped before it has heard from its store, it ends cleanly", async () => {
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  proxy.drop();
  await using daemon = await start({ args: serveArgs(through(proxy, database.url), scene) });
  expect((await fetch(`${daemon.url}/healthz`)).status).toBe(200);
  expect(await daemon.stop()).toBe(0);
});

test("at its start it asks for all flags once, though its feed connects meanwhile", async () => {
  await using proxy = await openTcpProxy(Number(new URL(database.url).port));
  proxy.slow(50);
  const settings = {
    database: through(proxy, database.url),
    // It is connected before the first answer comes the long way.
    "database-listen": database.url,
    descriptors: scene.descriptors,
    "cache-fetch-timeout": "10s",
  };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  await using daemon = await start({ args });
  await daemon.whenReady();
  await eventually(() => daemon.log.some(({ event }) => event === "feed_connected"));
  const calls = async (operation: string) => {
    const counts = await daemon.metric("pbflags_fetch_duration_seconds_count");
    return Object.entries(counts).find(([labels]) => labels.includes(`"${operation}"`))?.[1] ?? 0;
  };
  // A change of something else, so that whatever the start has begun is over.
  const polls = await calls("killed_flags");
  await scene.operate((store) => store.setOverride("shop/1", "somebody", "never"));
  await eventually(async () => (await calls("killed_flags")) > Math.max(polls, 2));
  expect(await calls("flag_state")).toBe(1);
});

test("SIGHUP reads the descriptors again, and survives what it finds", async () => {
  const path = join(folder, "hangup.pb");
  await scene.describe(shop);
  await rename(scene.descriptors, path);
  await scene.describe(shop);
  await using daemon = await start({ args: serveArgs(database.url, { descriptors: path }) });
  await daemon.whenReady();
  const reloads = async (result: string) =>
    (await daemon.metric("pbflags_descriptor_reloads_total"))[`result="${result}"`] ?? 0;
  const flagIds = async () => (await daemon.bulkEvaluate([])).map(({ flagId }) => flagId);
  const all = ["shop/1", "shop/2", "shop/3", "shop/4", "shop/5", "shop/6"];
  // The watch reports once by itself; from then on only changes, or who asks.
  await eventually(async () => (await reloads("unchanged")) === 1);
  daemon.kill("SIGHUP");
  await eventually(async () => (await reloads("unchanged")) === 2);

  await rm(path);
  daemon.kill("SIGHUP");
  await eventually(async () => (await reloads("rejected")) > 0);
  expect(await flagIds()).toEqual(all);
  expect((await daemon.readiness()).status).toBe(200);

  const [feature] = shop;
  if (feature === undefined) throw new Error("Cannot happen");
  await scene.describe([{ ...feature, flags: feature.flags.slice(0, 4) }]);
  await rename(scene.descriptors, path);
  daemon.kill("SIGHUP");
  await eventually(async () => (await flagIds()).length === 4);
  await scene.describe(shop);
});

test("a port that is taken is one line, and leaves no process", async () => {
  const server = createServer();
  const port = await listen(server);
  const args = [...serveArgs(database.url, scene), "--listen", `127.0.0.1:${port}`];
  const { code, log } = await failToStart({ args });
  server.close();
  await once(server, "close");
  expect(code).toBe(1);
  expect(errorsOf(log)).toEqual([expect.stringMatching(new RegExp(`^error: Cannot listen on .*${port}`))]);
});

test("descriptors that cannot be used are named with what is wrong, and exit code 2", async () => {
  const broken = join(folder, "broken.pb");
  await writeFile(broken, "no descriptor set");
  const empty = join(folder, "empty.pb");
  await writeFile(empty, "");
  for (const path of [broken, empty, join(folder, "missing.pb"), folder]) {
    const { code, log } = await failToStart({ args: serveArgs(database.url, { descriptors: path }) });
    expect(code).toBe(2);
    const errors = errorsOf(log);
    expect(errors.at(-1)).toContain(path);
    expect(errors.length).toBeLessThan(3);
    expect(log.filter(({ event }) => event === "serving" || event === "stdout")).toEqual([]);
  }
});

test("a configuration that is wrong is told whole, and exit code 2", async () => {
  const args = ["--listen", "nowhere", "--cache-kill-ttl", "soon", "--descriptors", scene.descriptors];
  const { code, log } = await failToStart({ args });
  expect(code).toBe(2);
  const told = errorsOf(log).join("\n");
  for (const name of ["--listen", "--cache-kill-ttl", "database"]) expect(told).toContain(name);
});

test.each([
  ["throws", "setImmediate(() => { throw new Error('nobody expected this'); })"],
  ["is a promise that nobody awaits", "void Promise.reject(new Error('nobody expected this'))"],
])("an unexpected exception that %s is logged with its stack, and ends it", async (_, statement) => {
  // Code of somebody else in the same process: the only bug that a test can bring about without planting one.
  const script = join(folder, "bug.mjs");
  await writeFile(script, `process.once("SIGUSR2", () => { ${statement}; });`);
  await chmod(script, 0o644);
  await using daemon = await start({ env: { NODE_OPTIONS: `--import=${script}` } });
  await daemon.whenReady();
  daemon.kill("SIGUSR2");
  expect(await daemon.exited).toEqual({ code: 70, signal: null });
  const last = daemon.log.at(-1);
  expect(last).toMatchObject({ event: "unexpected_exception", level: "error" });
  expect(JSON.stringify(last)).toContain("nobody expected this");
  expect(JSON.stringify(last)).toContain("bug.mjs");
  expect(daemon.log.filter(({ event }) => event === "stdout" || event === "stderr")).toEqual([]);
});

test.each([
  ["", "throw new Error('nobody expected this')", 1, ["ann"]],
  [
    ", unless another one follows at once, which ends it at once",
    "setImmediate(() => { throw new Error('nor this'); }); throw new Error('nobody expected this')",
    2,
    [],
  ],
])(
  "what was learnt last is kept when an unexpected exception ends it%s",
  async (_, statement, count, kept) => {
    const [script, stateDir] = [join(folder, "bug.mjs"), await mkdtemp(join(folder, "state-"))];
    await writeFile(script, `process.once("SIGUSR2", () => { ${statement}; });`);
    await using daemon = await start({
      args: [...serveArgs(database.url, scene), "--state-dir", stateDir],
      env: { NODE_OPTIONS: `--import=${script}` },
    });
    await daemon.whenReady();
    await eventually(async () => (await daemon.metric("pbflags_snapshot_bytes"))[""] !== 0);
    // That more is remembered of entities is written within a minute only.
    await daemon.evaluate("shop/1", "ann");
    daemon.kill("SIGUSR2");
    expect(await daemon.exited).toEqual({ code: 70, signal: null });
    expect(daemon.log.filter(({ event }) => event === "unexpected_exception")).toHaveLength(count);
    const problems: string[] = [];
    const content = await loadSnapshot(stateDir, {
      store: "",
      onProblem: (problem) => problems.push(problem),
    });
    expect(problems).toEqual([]);
    expect(content?.entities.map(({ id }) => id)).toEqual(kept);
  },
);

test.each([1, 2])(
  "a collector of traces that hangs does not hold up its end, of workers: %i",
  async (workers) => {
    await using collector = await openOtlpCollector({ silent: true });
    await using daemon = await start({
      args: [...serveArgs(database.url, scene), "--workers", String(workers)],
      env: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        // As long as OpenTelemetry's SDK would wait.
        OTEL_EXPORTER_OTLP_TIMEOUT: "600000",
      },
    });
    await daemon.whenReady();
    await daemon.evaluate("shop/1");
    expect(await daemon.stop()).toBe(0);
    const events = daemon.log.map(({ event }) => event);
    expect(events).toContain("tracing_failed");
    expect(events).not.toContain("worker_killed");
  },
);

test.each([1, 2])(
  "a collector of traces that there cannot be does not keep it from serving, of workers: %i",
  async (workers) => {
    await using daemon = await start({
      args: [...serveArgs(database.url, scene), "--workers", String(workers)],
      env: { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:99999" },
    });
    await daemon.whenReady();
    expect(await daemon.evaluate("shop/1", "ann")).toMatchObject({ source: "EVALUATION_SOURCE_OVERRIDE" });
    expect(daemon.log).toContainEqual(
      expect.objectContaining({ event: "tracing_failed", msg: expect.stringContaining("Cannot trace") }),
    );
  },
);

test("whoever stops reading its log does not stop it", async () => {
  await using daemon = await start({ args: [...serveArgs(database.url, scene), "--log-level", "debug"] });
  await daemon.whenReady();
  daemon.closeOutput();
  for (let i = 0; i < 300; i++) await daemon.evaluate("shop/1", `reader-${i}`);
  expect(await daemon.stop()).toBe(0);
});

function errorsOf(log: TestDaemon["log"]): readonly string[] {
  return log.filter(({ event }) => event === "stderr").map(({ line }) => String(line));
}
