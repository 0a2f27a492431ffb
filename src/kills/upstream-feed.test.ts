import { create } from "@bufbuild/protobuf";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import { type FakeStream, poolSettings } from "../../test/support/fake-upstream.ts";
import { stateOf } from "../../test/support/flag-builders.ts";
import { type Named, openPoolScene, type PoolScene } from "../../test/support/pool-scene.ts";
import { silentPoolEvents } from "../../test/support/silent-events.ts";
import { openTcpProxy } from "../../test/support/tcp-proxy.ts";
import { WatchScene } from "../../test/support/watch-scene.ts";
import { formatVersion } from "../evaluation/version.ts";
import { WatchResponseSchema } from "../gen/pbflagd/v1/watch_pb.ts";
import { EvaluatorStatus } from "../gen/pbflags/v1/evaluator_pb.ts";
import { openUpstreamPool } from "../upstream/pool/pool.ts";
import { openTransport } from "../upstream/transport/open-transport.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import type { PoolSettings } from "../upstream/upstream-settings.ts";
import type { ChangeFeed } from "./change-feed.ts";
import { openUpstreamFeed, returnDelayMs, type UpstreamFeedOptions } from "./upstream-feed.ts";

type Event = "resync" | "changed" | "heartbeat";

/** What an upstream says on a stream. */
function say(stream: FakeStream | undefined, event: Event, revision?: number, heartbeatIntervalMs = 0): void {
  const version = revision === undefined ? {} : { version: { epoch: "one", revision: BigInt(revision) } };
  stream?.say(
    create(WatchResponseSchema, {
      ...version,
      heartbeatIntervalMs: BigInt(heartbeatIntervalMs),
      event: { case: event, value: {} },
    }),
  );
}

/** Follows a pool, and notes what it hears. */
function follow({ pool, clock, random }: Pick<UpstreamFeedOptions, "pool" | "clock" | "random">) {
  const heard: string[] = [];
  const feed = openUpstreamFeed({
    pool,
    clock,
    random,
    onNotice: ({ version }) => heard.push(`notice ${version === undefined ? "" : formatVersion(version)}`),
    onStateChange: (state) => heard.push("reason" in state ? `${state.kind}: ${state.reason}` : state.kind),
  });
  feeds.push(feed);
  return { feed, heard };
}

const feeds: ChangeFeed[] = [];

// Before the pools are looked at for what they leave behind.
afterEach(async () => {
  for (const feed of feeds.splice(0)) await feed[Symbol.asyncDispose]();
});

/** Lets everything be heard that was said, and then time pass. */
async function pass(scene: PoolScene, ms: number): Promise<void> {
  await settle();
  await scene.clock.advance(ms);
}

/** Lets time pass until an upstream is asked for a stream, for so long at most. */
async function whenFollowed(scene: PoolScene, name: string, withinMs: number): Promise<void> {
  for (let ms = 0; scene.at(name).streams.size === 0; ms += 50) {
    expect(ms, `${name} is followed within ${withinMs} ms`).toBeLessThan(withinMs);
    await pass(scene, 50);
  }
}

/** A feed over played upstreams, the first of which has been asked for a stream. */
async function setUp(
  named: readonly Named[],
  settings: Partial<PoolSettings> = {},
  prepare?: (scene: PoolScene) => void,
): Promise<{ readonly scene: PoolScene; readonly feed: ChangeFeed; readonly heard: string[] }> {
  const scene = openPoolScene(named, settings, prepare);
  await settle();
  const { feed, heard } = follow({ pool: scene.pool, clock: scene.clock, random: () => scene.chance });
  await settle();
  return { scene, feed, heard };
}

/** The stream that an upstream has open. */
function streamOf(scene: PoolScene, name: string): FakeStream | undefined {
  return [...scene.at(name).streams][0];
}

function requestOf(stream: FakeStream | undefined): unknown {
  return stream?.request;
}

test("tells what there is to be seen, at first and whenever something has changed, and with each heartbeat", async () => {
  const { scene, feed, heard } = await setUp([{ name: "a" }]);
  expect(feed.state).toEqual({ kind: "connecting" });
  const stream = streamOf(scene, "a");
  expect(requestOf(stream)).toEqual({ omitKills: true });
  say(stream, "resync", 4, 2_000);
  await settle();
  expect(feed.state).toEqual({ kind: "connected", since: scene.clock.now() });
  say(stream, "heartbeat", 4);
  say(stream, "changed", 5);
  say(stream, "resync", 9);
  await settle();
  expect(heard).toEqual(["connected", "notice one:4", "notice one:4", "notice one:5", "notice one:9"]);
});

test("goes on where it was, and tells what there is to be seen there, be it known or not", async () => {
  const { scene, heard } = await setUp([{ name: "a" }]);
  say(streamOf(scene, "a"), "resync", 4);
  say(streamOf(scene, "a"), "changed", 5);
  await settle();
  streamOf(scene, "a")?.end();
  await settle();
  expect(heard.at(-1)).toBe("broken: Cannot follow a: it has ended the stream");
  heard.length = 0;
  await pass(scene, 5_000);
  expect(requestOf(streamOf(scene, "a"))).toMatchObject({ since: { epoch: "one", revision: 5n } });
  say(streamOf(scene, "a"), "changed", 5);
  await settle();
  expect(heard).toEqual(["connected", "notice one:5"]);

  streamOf(scene, "a")?.fail(new UpstreamError("connection", "Cannot reach a: reset"));
  await pass(scene, 5_000);
  say(streamOf(scene, "a"), "changed", 7);
  await settle();
  expect(heard.slice(2)).toEqual(["broken: Cannot reach a: reset", "connected", "notice one:7"]);
});

test("what an upstream cannot tell any more has to be looked at", async () => {
  const { scene, heard } = await setUp([{ name: "a" }]);
  say(streamOf(scene, "a"), "resync", 4);
  await settle();
  streamOf(scene, "a")?.end();
  await pass(scene, 5_000);
  heard.length = 0;
  say(streamOf(scene, "a"), "resync", 9);
  await settle();
  expect(heard).toEqual(["connected", "notice one:9"]);
});

test("one of a store without versions is looked at after each connection", async () => {
  const { scene, heard } = await setUp([{ name: "a" }]);
  for (const _ of ["first", "again"]) {
    heard.length = 0;
    say(streamOf(scene, "a"), "resync");
    await settle();
    expect(heard).toEqual(["connected", "notice "]);
    streamOf(scene, "a")?.end();
    await pass(scene, 5_000);
  }
});

test("an upstream that has learnt nothing yet is connected to, and tells when it has", async () => {
  const { scene, heard } = await setUp([{ name: "a" }]);
  say(streamOf(scene, "a"), "heartbeat", undefined, 2_000);
  await settle();
  expect(heard).toEqual(["connected"]);
  say(streamOf(scene, "a"), "resync", 1);
  await settle();
  expect(heard).toEqual(["connected", "notice one:1"]);
});

test("silence of two heartbeats is a broken stream, and another upstream is followed next", async () => {
  const { scene, feed, heard } = await setUp([{ name: "a" }, { name: "b" }]);
  const first = scene.at("a").streams.size === 1 ? "a" : "b";
  const second = first === "a" ? "b" : "a";
  say(streamOf(scene, first), "resync", 4, 500);
  await pass(scene, 999);
  say(streamOf(scene, first), "heartbeat", 4);
  await pass(scene, 999);
  expect(feed.state.kind).toBe("connected");
  await pass(scene, 1);
  expect(heard.at(-1)).toBe(`broken: Cannot follow ${first}: it has said nothing for 1000 ms`);
  expect(scene.at(first).streams.size).toBe(0);
  await whenFollowed(scene, second, 200);
  expect(requestOf(streamOf(scene, second))).toMatchObject({ since: { epoch: "one", revision: 4n } });
});

test("where another upstream is there it is followed at once, by chance within 0.2 s", async () => {
  const { scene } = await setUp([{ name: "a" }, { name: "b" }]);
  const first = scene.at("a").streams.size === 1 ? "a" : "b";
  const second = first === "a" ? "b" : "a";
  say(streamOf(scene, first), "resync", 4);
  await settle();
  scene.chance = 0.995;
  streamOf(scene, first)?.end();
  await pass(scene, 198);
  expect(scene.at(second).streams.size).toBe(0);
  await pass(scene, 1);
  expect(scene.at(second).streams.size).toBe(1);
  // One that has held is lost: the other one, whatever happened there before, may be well again.
  say(streamOf(scene, second), "changed", 4, 2_000);
  await pass(scene, 2_000);
  say(streamOf(scene, second), "heartbeat", 4);
  await settle();
  streamOf(scene, second)?.end();
  await pass(scene, 200);
  expect(scene.at(first).streams.size).toBe(1);
});

test.each<[string, number]>([
  ["at once", 0],
  ["after a few messages", 3],
])(
  "where all that are there break their streams %s, each is tried once without delay, and then as if there were one",
  async (_, messages) => {
    const { scene, feed } = await setUp([{ name: "a" }, { name: "b" }, { name: "c" }]);
    const names = ["a", "b", "c"];
    const delays: number[] = [];
    const tried: (string | undefined)[] = [];
    scene.chance = 0.5;
    for (let i = 0; i < 9; i++) {
      const open = names.find((name) => scene.at(name).streams.size === 1);
      tried.push(open);
      if (open === undefined) break;
      for (let n = 0; n < messages; n += 1) say(streamOf(scene, open), n === 0 ? "resync" : "changed", 4 + n);
      await settle();
      streamOf(scene, open)?.end();
      await settle();
      const delayMs = feed.state.kind === "broken" ? feed.state.retryAt - scene.clock.now() : Number.NaN;
      delays.push(delayMs);
      await pass(scene, delayMs);
    }
    expect(delays).toEqual([100, 100, 2_550, 100, 2_550, 100, 2_550, 100, 2_550]);
    for (const name of names) expect(tried.slice(0, 3)).toContain(name);
    expect(tried).not.toContain(undefined);
    expect(tried.filter((name, i) => name === tried[i - 1])).toEqual([]);
  },
);

test("where the upstream of the highest priority ends its stream, the next is followed before it is known to be down", async () => {
  const { scene, heard } = await setUp([{ name: "a", priority: 1 }, { name: "b" }], { strategy: "priority" });
  say(streamOf(scene, "a"), "resync", 4);
  await settle();
  streamOf(scene, "a")?.end();
  await pass(scene, 200);
  expect(scene.stateOf("a")).toBe("up");
  say(streamOf(scene, "b"), "changed", 4);
  await settle();
  expect(heard.slice(-2)).toEqual(["connected", "notice one:4"]);
});

test("an upstream that accepts a stream and says nothing on it is given up", async () => {
  const { scene, heard } = await setUp([{ name: "a" }]);
  await pass(scene, 4_000);
  expect(heard).toEqual(["broken: Cannot follow a: it has said nothing for 4000 ms"]);
});

test("leaves an upstream that is down, and one that has left the pool", async () => {
  const { scene, heard } = await setUp([{ name: "a" }, { name: "b" }]);
  const first = scene.at("a").streams.size === 1 ? "a" : "b";
  const second = first === "a" ? "b" : "a";
  say(streamOf(scene, first), "resync", 4, 60_000);
  scene.at(first).behaviour = "fails";
  await whenFollowed(scene, second, 5_000);
  expect(heard).toContain(`broken: Cannot follow ${first}: it is down`);
  say(streamOf(scene, second), "changed", 4, 60_000);
  await settle();
  expect(heard.slice(-2)).toEqual(["connected", "notice one:4"]);

  scene.at(first).behaviour = "answers";
  await pass(scene, 10_000);
  expect(scene.at(second).streams.size).toBe(1);
  await scene.pool.reload(poolSettings([{ name: first }]));
  await settle();
  expect(heard.at(-1)).toBe(`broken: Cannot follow ${second}: it has left the pool`);
  await pass(scene, 5_000);
  expect(scene.at(first).streams.size).toBe(1);
});

test("leaves an upstream whose own store is away for one whose store is well", async () => {
  const { scene, heard } = await setUp([{ name: "a" }, { name: "b" }]);
  const first = scene.at("a").streams.size === 1 ? "a" : "b";
  say(streamOf(scene, first), "resync", 4, 60_000);
  scene.at(first).status = EvaluatorStatus.DEGRADED;
  await pass(scene, 2_000);
  expect(heard.at(-1)).toBe(`broken: Cannot follow ${first}: another one is better`);
  expect(scene.at(first === "a" ? "b" : "a").streams.size).toBe(1);
});

test("follows the upstream of the highest priority, and comes back to it", async () => {
  const { scene } = await setUp([{ name: "a", priority: 1 }, { name: "b" }], { strategy: "priority" });
  say(streamOf(scene, "a"), "resync", 4, 60_000);
  scene.at("a").behaviour = "fails";
  await whenFollowed(scene, "b", 8_000);
  say(streamOf(scene, "b"), "changed", 4, 60_000);
  await pass(scene, 1_000);
  expect([scene.at("a").streams.size, scene.at("b").streams.size]).toEqual([0, 1]);
  scene.at("a").behaviour = "answers";
  await whenFollowed(scene, "a", 8_000);
  expect([scene.at("a").streams.size, scene.at("b").streams.size]).toEqual([1, 0]);
});

test("what is of another database is not followed, also where the stream is the first to say so", async () => {
  const { scene, heard } = await setUp([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
    for (const name of ["a", "b"]) at(name).version = undefined;
  });
  const first = scene.at("a").streams.size === 1 ? "a" : "b";
  const second = first === "a" ? "b" : "a";
  scene.at(first).version = { epoch: "two", revision: 3 };
  await pass(scene, 1_000);
  // The pool is of epoch "two" now.
  say(streamOf(scene, first), "resync", undefined, 60_000);
  streamOf(scene, first)?.end();
  await whenFollowed(scene, second, 200);
  say(streamOf(scene, second), "resync", 4);
  await settle();
  expect(heard.at(-1)).toMatch(new RegExp(`^broken: Cannot follow ${second}: it reads another database`));
  await whenFollowed(scene, first, 5_000);
  expect([scene.at(first).streams.size, scene.at(second).streams.size]).toEqual([1, 0]);
});

test("a plain evaluator is not asked, and the feed says why and looks again every 30 s", async () => {
  const { scene, heard, feed } = await setUp([{ name: "a" }], {}, ({ at }) => {
    at("a").kind = "pbflags";
  });
  expect(heard).toEqual(["lacking: Cannot follow any upstream: a plain pbflags evaluator tells nothing"]);
  expect(feed.state).toMatchObject({ retryAt: scene.clock.now() + 30_000 });
  await pass(scene, 90_000);
  expect(scene.at("a").streamsEver).toBe(0);
  expect(heard).toHaveLength(1);
});

test("a pbflagd without Watch is asked again every 30 s, and is followed once it has it", async () => {
  const { scene, heard } = await setUp([{ name: "a" }], {}, ({ at }) => {
    at("a").hasStreams = false;
  });
  expect(heard).toEqual(["lacking: http://a:9201 answered unimplemented"]);
  await pass(scene, 29_999);
  expect(scene.at("a").streamsEver).toBe(1);
  scene.at("a").hasStreams = true;
  await pass(scene, 1);
  say(streamOf(scene, "a"), "resync", 4);
  await settle();
  expect(heard.slice(1)).toEqual(["connected", "notice one:4"]);
});

test("where only some have Watch, the others are passed over at once", async () => {
  const { scene } = await setUp([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
    at("a").hasStreams = false;
  });
  expect(scene.at("b").streams.size).toBe(1);
  streamOf(scene, "b")?.end();
  await settle();
  await whenFollowed(scene, "b", 5_000);
});

test("where nobody can be asked, the reason is told once, and it keeps trying", async () => {
  const { scene, heard } = await setUp([{ name: "a" }], {}, ({ at }) => {
    at("a").behaviour = "fails";
  });
  await pass(scene, 20_000);
  expect(heard.every((text) => text.startsWith("broken: "))).toBe(true);
  expect(heard.length).toBeLessThan(4);
  const before = scene.at("a").streamsEver;
  scene.at("a").behaviour = "answers";
  await pass(scene, 10_000);
  expect(scene.at("a").streamsEver).toBeGreaterThan(before);
});

test("of a thousand that lost their stream at once, few come back in the same second, and all within five", () => {
  const returns = Array.from({ length: 1_000 }, (_, i) => returnDelayMs(i / 999));
  const inSecond = (from: number) => returns.filter((at) => at >= from && at < from + 1_000).length;
  for (let from = 0; from < 5_000; from += 100) expect(inSecond(from)).toBeLessThan(210);
  expect([Math.min(...returns), Math.max(...returns)]).toEqual([100, 5_000]);
});

test("closing it ends its stream and its waits", async () => {
  const { scene, feed, heard } = await setUp([{ name: "a" }]);
  say(streamOf(scene, "a"), "resync", 4);
  await settle();
  await feed[Symbol.asyncDispose]();
  expect(scene.at("a").streams.size).toBe(0);
  expect(heard).toEqual(["connected", "notice one:4"]);
});

test.each(["http", "grpc"])(
  "over %s, packets that are lost are noticed, and what happened meanwhile is told",
  async (scheme) => {
    await using root = await WatchScene.open();
    await using proxy = await openTcpProxy(root.port);
    const clock = new FakeClock();
    const pool = openUpstreamPool({
      settings: poolSettings([{ name: "root", url: `${scheme}://127.0.0.1:${proxy.port}`, kind: "pbflagd" }]),
      openTransport: (settings) => openTransport({ settings, clock }),
      clock,
      random: () => 0.5,
      events: silentPoolEvents,
    });
    onTestFinished(() => pool[Symbol.asyncDispose]());
    const { heard, feed } = follow({ pool, clock, random: () => 0.5 });
    await eventually(() => heard.length === 2);
    expect(heard).toEqual(["connected", `notice ${formatVersion(root.version)}`]);

    proxy.drop();
    root.store.set(stateOf("a/1", { mode: "killed" }));
    await root.poll();
    await clock.advance(4_000);
    await eventually(() => feed.state.kind === "broken");
    proxy.restore();
    await eventually(async () => {
      await clock.advance(500);
      return heard.includes(`notice ${formatVersion(root.version)}`);
    });
    expect(feed.state.kind).toBe("connected");
  },
);
