import { expect, test } from "vitest";
import { settle } from "../../../test/support/fake-clock.ts";
import { poolSettings, upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { FETCH_TIMEOUT_MS, openPoolScene, type PoolScene } from "../../../test/support/pool-scene.ts";
import { StateService } from "../../gen/pbflagd/v1/state_pb.ts";
import { EvaluatorStatus } from "../../gen/pbflags/v1/evaluator_pb.ts";
import type { PoolCall } from "./upstream-pool.ts";

const { retry } = upstreamSettings({ name: "a" });
const NO_RETRY = { ...retry, maxRetries: 0 };

/** Who answers so many calls. */
async function answerers(scene: PoolScene, calls: number): Promise<ReadonlySet<string>> {
  return new Set(await Promise.all(Array.from({ length: calls }, () => scene.ask())));
}

test.each(["pbflagd", "pbflags"] as const)(
  "upstreams that turn from something else into %s one after the other are followed when the last has turned",
  async (next) => {
    const scene = openPoolScene([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
      for (const name of ["a", "b"]) at(name).kind = next === "pbflagd" ? "pbflags" : "pbflagd";
    });
    await scene.clock.advance(3_000);
    const turn = async (name: string) => {
      // A restart: for a moment nobody is there.
      scene.at(name).behaviour = "fails";
      await scene.clock.advance(2_000);
      scene.at(name).behaviour = "answers";
      scene.at(name).kind = next;
      await scene.clock.advance(5_000);
    };
    await turn("a");
    expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["refused", "up"]);
    await turn("b");
    await scene.clock.advance(2_000);
    expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["up", "up"]);
    expect(scene.pool.kind).toBe(next);
  },
);

test("an answer without a version does not take a pool along that knows its database", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(2_000);
  const run = async ({ name }: { readonly name: string }) => name;
  const versionOf = (name: string) => (name === "a" ? undefined : scene.at(name).version);
  const asked = await Promise.all(Array.from({ length: 6 }, () => scene.ask({ run, versionOf })));
  expect([...new Set(asked)]).toEqual(["b"]);
  expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["refused", "up"]);
  await scene.clock.advance(1_100);
  expect(scene.stateOf("a"), "its next check says which database it reads").toBe("up");
});

test("only checks that set out after the breaker opened close it, two of them", async () => {
  const scene = openPoolScene([{ name: "a", retry: NO_RETRY }], {
    score: { initial: 1, min: -3, max: 50, success: 20, failure: -1 },
  });
  await scene.clock.advance(10_000);
  for (let i = 0; i < 5; i += 1) {
    await expect(scene.ask({ run: () => Promise.reject(new Error("garbage")) })).rejects.toThrow("garbage");
  }
  expect(scene.pool.upstreams[0]?.breaker).toBe("open");
  await scene.clock.advance(1_100);
  expect(scene.pool.upstreams[0]?.breaker).toBe("open");
  await scene.clock.advance(1_100);
  expect(scene.pool.upstreams[0]?.breaker).toBe("closed");
});

test("the second try has as long as the first", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await settle();
  for (const name of ["a", "b"]) scene.at(name).behaviour = "hangs";
  let ended = false;
  void scene.ask().catch(() => {
    ended = true;
  });
  await scene.clock.advance(FETCH_TIMEOUT_MS - 30);
  expect(ended).toBe(false);
  await scene.clock.advance(30);
  expect(ended).toBe(true);
});

test("least-latency comes back to an upstream that was slow, when its checks are fast again", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }], { strategy: "least-latency" });
  await settle();
  const slow = scene.ask({
    run: async (upstream) => {
      await scene.clock.sleep(200);
      return upstream.name;
    },
  });
  await settle();
  await scene.clock.advance(200);
  const slowOne = await slow;
  const other = slowOne === "a" ? "b" : "a";
  expect(await answerers(scene, 10)).toEqual(new Set([other]));
  await scene.clock.advance(60_000);
  const latencies = scene.pool.upstreams.map(({ latencyMs = 0 }) => latencyMs);
  expect(Math.max(...latencies)).toBeLessThan(1);
});

test("an upstream that is another one under the same name begins with a score of its own", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  scene.at("a").behaviour = "fails";
  await scene.clock.advance(5_000);
  expect(scene.pool.upstreams.map(({ score }) => score)).toEqual([-3, 3]);
  scene.at("a").behaviour = "answers";
  await scene.pool.reload(poolSettings([{ name: "a", url: "http://elsewhere:9201" }, { name: "b" }]));
  await settle();
  // The first check of the new one has raised the initial score.
  expect(scene.pool.upstreams.map(({ score }) => score)).toEqual([2, 3]);
});

test("a rejection is counted for those that were in question, under the reason that holds", async () => {
  const scene = openPoolScene(
    [
      { name: "a", retry: NO_RETRY },
      { name: "b", retry: NO_RETRY },
    ],
    {
      score: { initial: 1, min: -3, max: 50, success: 20, failure: -1 },
    },
  );
  await scene.clock.advance(2_000);
  const rejections = () => scene.said.filter((line) => line.includes("rejected"));
  const breakOne = (name: string) => async () => {
    for (let i = 0; i < 12; i += 1) {
      const run = ({ name: asked }: { readonly name: string }) =>
        asked === name ? Promise.reject(new Error("garbage")) : Promise.resolve(asked);
      await scene.ask({ run }).catch(() => {});
    }
  };
  await breakOne("a")();
  expect(scene.pool.upstreams.map(({ breaker }) => breaker)).toEqual(["open", "closed"]);
  expect(rejections(), "others answer").toEqual([]);
  await breakOne("b")();
  scene.said.length = 0;
  await expect(scene.ask()).rejects.toThrow("a has its breaker open");
  expect(rejections()).toEqual(["a rejected: breaker", "b rejected: breaker"]);
});

test("for a version that nobody has, not everybody is asked without end", async () => {
  const names = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const scene = openPoolScene(names.map((name) => ({ name })));
  await scene.clock.advance(2_000);
  const calls = () => names.reduce((sum, name) => sum + scene.at(name).calls, 0);
  const before = calls();
  for (let i = 0; i < 100; i += 1) await scene.ask({ atLeast: { epoch: "one", revision: 99 } });
  // Two each, and a tenth more.
  expect(calls() - before).toBeLessThanOrEqual(215);
  expect(calls() - before).toBeGreaterThanOrEqual(200);
});

test.each([
  { kind: "pbflagd", expected: ["b"] },
  { kind: "pbflags", expected: ["a", "b"] },
] as const)(
  "one that says it is connecting ranks for $kind as resilience demands",
  async ({ kind, expected }) => {
    const scene = openPoolScene([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
      for (const name of ["a", "b"]) at(name).kind = kind;
      at("a").status = EvaluatorStatus.CONNECTING;
    });
    await scene.clock.advance(2_000);
    const run = async ({ name }: { readonly name: string }) => name;
    const versionOf = (name: string) => (kind === "pbflags" ? undefined : scene.at(name).version);
    const asked = await Promise.all(Array.from({ length: 10 }, () => scene.ask({ run, versionOf })));
    expect([...new Set(asked)].toSorted()).toEqual(expected);
  },
);

test("a reload that recreates and fails gives back the scores, and those upstreams that can still be opened", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }, { name: "c" }]);
  scene.at("b").behaviour = "fails";
  await scene.clock.advance(5_000);
  for (const name of ["c", "d"]) scene.unusable.add(name);
  const next = poolSettings([{ name: "a", weight: 2 }, { name: "d" }], { reloadStrategy: "recreate" });
  await expect(scene.pool.reload(next)).rejects.toThrow("Cannot use upstream d");
  expect(scene.pool.upstreams.map(({ name, score, weight }) => [name, score, weight])).toEqual([
    ["a", 3, 1],
    ["b", -3, 1],
  ]);
  // What could not be opened again is opened by the next reload.
  scene.unusable.clear();
  await scene.pool.reload(poolSettings([{ name: "a" }, { name: "b" }, { name: "c" }]));
  expect(scene.pool.upstreams.map(({ name }) => name)).toEqual(["a", "b", "c"]);
});

test("a program that is replaced goes on until the new one answers", async () => {
  const scene = openPoolScene([{ name: "a", url: "exec:/one" }]);
  await scene.clock.advance(2_000);
  const old = scene.at("a");
  scene.upstreams.delete("a");
  scene.at("a").behaviour = "fails";
  const reloading = scene.pool.reload(poolSettings([{ name: "a", url: "exec:/two" }]));
  await scene.clock.advance(3_000);
  expect(scene.pool.upstreams).toMatchObject([{ target: "exec:/one", state: "up" }]);
  expect(await scene.ask({ run: async (upstream) => upstream.name })).toBe("a");
  scene.at("a").behaviour = "answers";
  await scene.clock.advance(2_000);
  await reloading;
  expect(scene.pool.upstreams).toMatchObject([{ target: "exec:/two", state: "up" }]);
  expect(old.open).toBe(0);
});

test("an upstream whose own store is away is neither down nor cut off; it says so once, and once that it is over", async () => {
  const scene = openPoolScene([{ name: "a" }]);
  await scene.clock.advance(3_000);
  const upstream = scene.at("a");
  const askFor = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 50) {
      await expect(scene.ask()).rejects.toThrow("store away");
      await expect(scene.ask({ bypassesBreaker: true })).rejects.toThrow("store away");
      await scene.clock.advance(50);
    }
  };
  scene.said.length = 0;
  upstream.storeAway = true;
  await askFor(2_000);
  upstream.status = EvaluatorStatus.DEGRADED;
  await askFor(60_000);
  expect(scene.pool.upstreams).toMatchObject([{ state: "up", breaker: "closed", score: 3 }]);
  upstream.storeAway = false;
  upstream.status = EvaluatorStatus.CONNECTING;
  await scene.clock.advance(2_000);
  upstream.status = EvaluatorStatus.SERVING;
  await scene.clock.advance(2_000);
  expect(await scene.ask()).toBe("a");
  expect(scene.said).toEqual(["a degraded", "a recovered"]);
});

test("what an upstream cannot tell because its own store is away another one is asked, without a retry", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(3_000);
  scene.at("a").storeAway = true;
  scene.said.length = 0;
  expect(await answerers(scene, 20)).toEqual(new Set(["b"]));
  expect(scene.at("a").calls).toBe(10);
  expect(scene.said).toEqual([]);

  scene.at("a").status = EvaluatorStatus.DEGRADED;
  await scene.clock.advance(1_100);
  expect(await answerers(scene, 20)).toEqual(new Set(["b"]));
  expect(scene.at("a").calls, "it is spared once it has said so").toBe(10);
});

test("whoever is late with a row and says that its own store is away has not failed; with a poll it has", async () => {
  const scene = openPoolScene([{ name: "a", retry: NO_RETRY }]);
  const run: PoolCall<string>["run"] = async (upstream) => {
    // This call and no check.
    scene.at("a").behaviour = "hangs";
    const hanging = upstream.call(StateService.method.getFlagStates, {});
    scene.at("a").behaviour = "answers";
    await hanging;
    return upstream.name;
  };
  const askLate = async (bypassesBreaker: boolean) => {
    const asked = scene.ask({ run, bypassesBreaker }).catch(String);
    await scene.clock.advance(FETCH_TIMEOUT_MS);
    return asked;
  };
  scene.at("a").status = EvaluatorStatus.DEGRADED;
  await scene.clock.advance(3_000);
  const { score = 0 } = scene.pool.upstreams[0] ?? {};
  for (let i = 0; i < 10; i += 1) expect(await askLate(false)).toContain("its own store is away");
  expect(scene.pool.upstreams).toMatchObject([{ state: "up", breaker: "closed", score }]);
  expect(scene.pool.upstreams[0]?.lastError).toBeUndefined();
  expect(await askLate(true)).not.toContain("its own store");
  expect(scene.pool.upstreams[0]?.lastError?.message).toContain("no answer within");
});
