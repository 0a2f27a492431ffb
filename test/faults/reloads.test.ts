import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { observe } from "../../src/daemon/observe.ts";
import { reportPool } from "../../src/daemon/report-pool.ts";
import { fromWireVersion } from "../../src/evaluation/wire-version.ts";
import { StateService } from "../../src/gen/pbflagd/v1/state_pb.ts";
import { systemClock as clock } from "../../src/system/clock.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { openUpstreamPool } from "../../src/upstream/pool/pool.ts";
import type { UpstreamPool } from "../../src/upstream/pool/upstream-pool.ts";
import { withDeadline } from "../../src/upstream/transport/deadline.ts";
import { openTransport } from "../../src/upstream/transport/open-transport.ts";
import type { Transport } from "../../src/upstream/transport/transport.ts";
import type { PoolSettings, ReloadStrategy, Strategy } from "../../src/upstream/upstream-settings.ts";
import { eventually } from "../support/eventually.ts";
import { poolSettings, upstreamSettings } from "../support/fake-upstream.ts";
import { size } from "../support/size.ts";
import { type Served, serveMemory } from "../wire/serve-memory.ts";

const RELOADS = size(300, 10_000);
/** As many as can be asked again at once: there is a budget for that. */
const CALLERS = 4;
/** The pool that is left in the end. */
const LAST = "http";

let folder: string;
let served: readonly Served[];
/** By name: every transport there is, to two servers over TCP and one over a socket. */
let urls: Readonly<Record<string, string>>;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pbflagd-reloads-"));
  const path = join(folder, "root.sock");
  const [one, other, local] = await Promise.all([
    serveMemory(),
    serveMemory(),
    serveMemory({ address: { kind: "unix", path } }),
  ]);
  served = [one, other, local];
  urls = {
    http: `http://127.0.0.1:${one.port}`,
    grpc: `grpc://127.0.0.1:${one.port}`,
    "http-2": `http://127.0.0.1:${other.port}`,
    "grpc-2": `grpc://127.0.0.1:${other.port}`,
    unix: `unix://${path}`,
    "grpc-unix": `grpc+unix://${path}`,
  };
});

afterAll(async () => {
  for (const each of served) await each[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const STRATEGIES: readonly Strategy[] = [
  "round-robin",
  "random",
  "least-connections",
  "least-latency",
  "weighted-random",
  "consistent-hash",
  "priority",
];
/** Reloads until the strategies of reloading come round again. */
const ROUND = 10;

/** The pool after so many reloads: who is there, how they are reached and what they are set to changes all the time. */
function settingsAfter(reload: number): PoolSettings {
  const names = Object.keys(urls);
  const there = names.filter((_, n) => ((reload * 2_654_435_761) >>> n) % 3 !== 0);
  const upstreams = (there.length === 0 ? names.slice(0, 1) : there).map((name, n) => ({
    name,
    // Now and then somebody moves.
    url: urls[reload % 5 === 0 ? (names[n] ?? name) : name] ?? "",
    weight: n === reload % 4 ? 1 + (reload % 3) : 1,
    priority: n,
    retry: { ...upstreamSettings({ name }).retry, maxRetries: 5, initialIntervalMs: 1, budget: 1 },
    connection: { ...upstreamSettings({ name }).connection, connectTimeoutMs: 5_000 },
  }));
  return poolSettings(upstreams, {
    strategy: STRATEGIES[reload % STRATEGIES.length] ?? "round-robin",
    reloadStrategy: reloadStrategyOf(reload),
    healthCheck: { intervalMs: 1_000, timeoutMs: 1_000, jitter: 0.2 },
  });
}

/** "recreate" cuts off what is under way, which has to be asked again: it comes when that can be afforded. */
function reloadStrategyOf(reload: number): ReloadStrategy {
  const turn = reload % ROUND;
  if (turn === 1) return "recreate";
  return turn % 3 === 0 ? "rolling" : "graceful";
}

function lastSettings(): PoolSettings {
  return poolSettings([{ name: LAST, url: urls[LAST] ?? "" }]);
}

/** Asks until it is told to stop; what went wrong, and how often it went well. */
function keepAsking(pool: UpstreamPool) {
  const failures: unknown[] = [];
  let answered = 0;
  const stop = new AbortController();
  async function ask(caller: number): Promise<void> {
    for (let n = 0; !stop.signal.aborted; n += 1) {
      try {
        await withDeadline({ timeoutMs: 10_000, clock }, (deadline) =>
          pool.call({
            operation: "flag_state",
            deadline,
            key: `${caller}:${n}`,
            run: (upstream) =>
              upstream.call(StateService.method.getFlagStates, { flagIds: ["notifications/1"] }),
            versionOf: ({ version }) => fromWireVersion(version),
          }),
        );
        answered += 1;
      } catch (error) {
        failures.push(error);
      }
    }
  }
  const asking = Array.from({ length: CALLERS }, (_, caller) => ask(caller));
  return {
    get answered() {
      return answered;
    },
    async stop() {
      stop.abort();
      await Promise.all(asking);
      return { answered, failures };
    },
  };
}

/** What keeps this process running, by kind. */
function resources(): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1;
  const { Timeout = 0, TCPSocketWrap = 0, PipeWrap = 0, TCPServerWrap = 0 } = counts;
  return { Timeout, TCPSocketWrap, PipeWrap, TCPServerWrap };
}

function openConnections(): readonly number[] {
  return served.map(({ server }) => server.connectionCount);
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test(`${RELOADS} reloads of a changing pool fail no call, and leave no socket, timer, breaker or series behind`, async () => {
  expect(openConnections()).toEqual([0, 0, 0]);
  const before = resources();
  const transports: WeakRef<Transport>[] = [];
  const alive = () => transports.filter((transport) => transport.deref() !== undefined).length;
  const metrics = createMetrics({ version: "test", procedures: [] });
  const logger = createLogger({ level: "error", format: "json", destination: { write() {} }, clock });
  const pool = openUpstreamPool({
    settings: settingsAfter(0),
    openTransport(settings) {
      const transport = openTransport({ settings, clock });
      transports.push(new WeakRef(transport));
      return transport;
    },
    clock,
    random: Math.random,
    events: { ...reportPool({ metrics, logger }), onUsable() {}, onDescriptorHash() {} },
  });
  const [first] = served;
  if (first !== undefined) observe(metrics, { namespace: first.namespace, pool, feed: undefined, clock });
  const asking = keepAsking(pool);
  const kinds = { added: 0, updated: 0, removed: 0, unchanged: 0 };
  for (let reload = 1; reload <= RELOADS; reload += 1) {
    const change = await pool.reload(settingsAfter(reload));
    for (const kind of ["added", "updated", "removed", "unchanged"] as const)
      kinds[kind] += change[kind].length;
    if (reload % ROUND !== 0) continue;
    // Otherwise one reload might follow the other without anybody asking anything.
    const { answered } = asking;
    await eventually(() => asking.answered > answered + 3 * CALLERS);
  }
  await pool.reload(lastSettings());
  const { answered, failures } = await asking.stop();

  expect({ count: failures.length, first: failures.slice(0, 3) }).toEqual({ count: 0, first: [] });
  expect(answered).toBeGreaterThan(RELOADS);
  expect(Math.min(...Object.values(kinds))).toBeGreaterThan(RELOADS / 2);
  expect(transports.length).toBeGreaterThan(RELOADS);

  // The pool is still open: what has left it must be gone all the same.
  expect(pool.upstreams.map(({ name }) => name)).toEqual([LAST]);
  await eventually(() => openConnections().slice(1).join() === "0,0");
  // Those of the last change may still be held by what has just ended.
  await eventually(
    () => {
      collectGarbage();
      return alive() <= Object.keys(urls).length;
    },
    { what: "the transports of those who left are forgotten" },
  );
  const { body } = await metrics.render();
  const named = [...body.matchAll(/^pbflags_upstream_\w+\{.*upstream="([^"]+)"/gm)].map(([, name]) => name);
  expect([...new Set(named)]).toEqual([LAST]);

  await pool[Symbol.asyncDispose]();
  metrics[Symbol.dispose]();
  await eventually(() => openConnections().every((count) => count === 0));
  await expect.poll(resources, { timeout: 10_000 }).toEqual(before);
}, 600_000);
