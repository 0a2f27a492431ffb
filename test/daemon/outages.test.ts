import { setTimeout } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { eventually } from "../support/eventually.ts";
import { describeLatencies, http1Sender, type Reply, startLoad } from "../support/load.ts";
import { createTestDatabase, openTestPostgres, type TestPostgres } from "../support/postgres.ts";
import { size } from "../support/size.ts";
import { openTcpProxy, type TcpProxy } from "../support/tcp-proxy.ts";
import {
  answersTo,
  few,
  IMPATIENTLY,
  mixed,
  NONE,
  openScene,
  type Scene,
  SOON,
  serveArgs,
  through,
  wrongReplies,
} from "./scene.ts";

/** A daemon whose way to its database leads through a proxy. */
interface World extends AsyncDisposable {
  readonly scene: Scene;
  readonly proxy: TcpProxy;
  readonly daemon: TestDaemon;
}

async function openWorld(database: { readonly url: string }, args: readonly string[] = []): Promise<World> {
  const scene = await openScene(database);
  const proxy = await openTcpProxy(Number(new URL(database.url).port));
  const daemon = await startDaemon({
    args: [...serveArgs(through(proxy, database.url), scene), ...IMPATIENTLY, ...args],
  });
  await daemon.whenReady();
  return {
    scene,
    proxy,
    daemon,
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      await proxy[Symbol.asyncDispose]();
      await scene[Symbol.asyncDispose]();
    },
  };
}

/** Seldom enough that recovery cannot wait for the next poll. */
const HARDLY_POLLS = ["--cache-kill-ttl", "60s"];

describe("while the store", () => {
  /** The operator cannot get at it either before it is mended. */
  const servers: Readonly<
    Record<string, Record<"fail" | "mend", (postgres: TestPostgres) => Promise<void>>>
  > = {
    "is stopped": { fail: (postgres) => postgres.stop(), mend: (postgres) => postgres.start() },
    "is frozen": { fail: (postgres) => postgres.freeze(), mend: (postgres) => postgres.thaw() },
  };
  test.each(Object.entries(servers))("%s, every request is answered", async (what, { fail, mend }) => {
    await using postgres = await openTestPostgres();
    await using world = await openWorld(postgres, HARDLY_POLLS);
    const replies = await surviveOutage(world, {
      what,
      begin: () => fail(postgres),
      async admitOperator() {
        world.proxy.cut();
        await mend(postgres);
      },
    });
    expect(few(replies.filter(({ status }) => status !== 200))).toEqual(NONE);
  });

  const networks: Readonly<Record<string, (proxy: TcpProxy) => void>> = {
    "is cut off": (proxy) => proxy.cut(),
    "is lost without a word": (proxy) => proxy.drop(),
    "answers too late": (proxy) => proxy.slow(1_100),
    "answers with garbage": (proxy) => proxy.garble(),
  };
  test.each(Object.entries(networks))("%s, every request is answered", async (what, fail) => {
    await using database = await createTestDatabase();
    await using world = await openWorld(database, HARDLY_POLLS);
    const begin = () => fail(world.proxy);
    const replies = await surviveOutage(world, { what, begin, admitOperator: () => {} });
    expect(few(replies.filter(({ status }) => status !== 200))).toEqual(NONE);
  });
});

interface Outage {
  readonly what: string;
  readonly begin: () => Promise<void> | void;
  /** Lets the operator through to the database again, but not the daemon. */
  readonly admitOperator: () => Promise<void> | void;
}

/** The whole story: all is well, the store fails, an operator changes things meanwhile, the store is back. */
async function surviveOutage({ scene, proxy, daemon }: World, outage: Outage): Promise<readonly Reply[]> {
  const load = startLoad({
    requestsPerSecond: size(100, 250),
    ask: mixed,
    sender: http1Sender(daemon.port),
  });
  try {
    await eventually(() => load.replies.length > 50);
    expect(wrongReplies(load.replies)).toEqual(NONE);

    await outage.begin();
    await eventually(() => breakerKnows(daemon), { what: "the breaker knows" });
    // Longer than the breaker rests, so that there is a trial in it.
    const before = load.replies.length;
    await setTimeout(2_050);
    expect(load.replies.length).toBeGreaterThan(before);
    expect(wrongReplies(load.replies)).toEqual(NONE);
    expect(await daemon.readiness()).toMatchObject({ status: 200, word: "ready" });

    await outage.admitOperator();
    await scene.operate((store) => store.kill("shop/3"));
    await scene.operate((store) => store.revive("shop/4"));
    await scene.operate((store) => store.setValue("shop/6", "11"));
    await scene.operate((store) => store.setOverride("shop/2", "carl", "false"));
    expect(wrongReplies(load.replies)).toEqual(NONE);

    proxy.restore();
    const backAt = performance.now();
    await expect.poll(answersTo(daemon, "carl"), SOON).toMatchObject({
      "shop/3": '{"int64Value":"5"} KILLED',
      "shop/4": '{"doubleValue":0.9} GLOBAL',
      "shop/6": '{"int64Value":"11"} GLOBAL',
      "shop/2": '{"boolValue":false} OVERRIDE',
    });
    const tookMs = performance.now() - backAt;
    const replies = await load.stop();
    expect(await daemon.call("Health", {})).toMatchObject({ answer: { status: "EVALUATOR_STATUS_SERVING" } });
    console.log(
      `${outage.what}: ${describeLatencies(replies)}; changes in force after ${tookMs.toFixed(0)} ms`,
    );
    return replies;
  } finally {
    await load.stop();
  }
}

test("an outage that only one caller noticed ends as soon as any other", async () => {
  await using database = await createTestDatabase();
  // Nothing but that caller makes it look at its store.
  const rarely = [...HARDLY_POLLS, "--cache-flag-ttl", "5m", "--cache-override-ttl", "5m"];
  await using world = await openWorld(database, rarely);
  const { daemon, scene, proxy } = world;
  proxy.cut();
  for (let i = 0; i < 6; i++) await daemon.evaluate("shop/1", `nobody-${i}`);
  expect(await breakerKnows(daemon)).toBe(true);
  await scene.operate((store) => store.kill("shop/3"));
  proxy.restore();
  await expect.poll(answersTo(daemon, "carl"), SOON).toMatchObject({ "shop/3": '{"int64Value":"5"} KILLED' });
});

test("a long outage that nobody noticed but the polls ends as soon as any other", async () => {
  await using database = await createTestDatabase();
  await using world = await openWorld(database);
  const { daemon, scene, proxy } = world;
  proxy.drop();
  const failures = async () => (await daemon.metric("pbflags_health_consecutive_failures"))[""] ?? 0;
  const enough = size(4, 14);
  await eventually(async () => (await failures()) >= enough, { timeoutMs: 40_000 });
  await scene.operate((store) => store.kill("shop/3"));
  // The worst moment: a try has just failed.
  const before = await failures();
  await eventually(async () => (await failures()) > before);
  proxy.restore();
  await expect.poll(answersTo(daemon, "carl"), SOON).toMatchObject({ "shop/3": '{"int64Value":"5"} KILLED' });
});

async function breakerKnows(daemon: TestDaemon): Promise<boolean> {
  return (await daemon.metric("pbflags_breaker_state"))['state="closed"'] === 0;
}
