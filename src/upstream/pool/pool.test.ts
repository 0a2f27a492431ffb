import * as fc from "fast-check";
import { expect, test } from "vitest";
import { settle } from "../../../test/support/fake-clock.ts";
import { poolSettings, upstreamSettings } from "../../../test/support/fake-upstream.ts";
import { FETCH_TIMEOUT_MS, openPoolScene, PoolScene } from "../../../test/support/pool-scene.ts";
import type { Version } from "../../evaluation/version.ts";
import { StateService } from "../../gen/pbflagd/v1/state_pb.ts";
import { EvaluatorStatus } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { UpstreamError } from "../upstream-error.ts";

test("takes turns, and asks another upstream when one fails", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await settle();
  expect(new Set([await scene.ask(), await scene.ask()])).toEqual(new Set(["a", "b"]));

  scene.at("a").behaviour = "fails";
  const answers = [scene.ask(), scene.ask()];
  await settle();
  await scene.clock.advance(50);
  expect(await Promise.all(answers)).toEqual(["b", "b"]);
  expect(scene.said).toContain("retry at b");
});

test("a call without anything to hope for fails fast, and says why of each upstream", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
    for (const name of ["a", "b"]) at(name).behaviour = "fails";
  });
  await scene.clock.advance(5_000);
  const trial = scene.ask().catch(String);
  await scene.clock.advance(1_000);
  expect(await trial).toContain("unavailable");

  await expect(scene.ask()).rejects.toThrow(
    "Cannot ask any upstream: a is down: http://a:9201 answered unavailable; b is down",
  );
});

test("one that hangs is given up in time for another to answer", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }], { strategy: "least-connections" });
  await settle();
  scene.at("a").behaviour = "hangs";
  const answers = [scene.ask(), scene.ask()];
  await scene.clock.advance(FETCH_TIMEOUT_MS);
  expect(await Promise.all(answers)).toEqual(["b", "b"]);
});

test("a frozen upstream leaves within 4 health checks and is back within 5, its breaker notwithstanding", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(5_000);
  scene.at("a").behaviour = "hangs";
  const asking = Promise.allSettled(Array.from({ length: 12 }, () => scene.ask()));
  await scene.clock.advance(4_000);
  expect(scene.stateOf("a")).toBe("down");
  expect((await asking).filter(({ status }) => status === "fulfilled").length).toBeGreaterThanOrEqual(6);

  scene.at("a").behaviour = "answers";
  await scene.clock.advance(5_000);
  expect(scene.stateOf("a")).toBe("up");
  const answers = await Promise.all(Array.from({ length: 4 }, () => scene.ask()));
  expect(answers).toContain("a");
});

/** A pool of one whose breaker is open, for the second time within a minute: checks do not close it, it would flap. */
async function openCutOff() {
  const retry = { ...upstreamSettings({ name: "a" }).retry, maxRetries: 0 };
  const scene = openPoolScene([{ name: "a", retry }]);
  await scene.clock.advance(3_000);
  await comeAndGo(scene);
  expect(await scene.ask()).toBe("a");
  await comeAndGo(scene);
  await expect(scene.ask()).rejects.toThrow("a has its breaker open");
  return scene;
}

/** It is away until it counts as down, and then back until it counts as up. */
async function comeAndGo(scene: PoolScene): Promise<void> {
  scene.at("a").behaviour = "fails";
  for (let i = 0; i < 5; i += 1) {
    void scene.ask().catch(() => {});
    void scene.ask({ bypassesBreaker: true }).catch(() => {});
  }
  await scene.clock.advance(4_000);
  expect(scene.stateOf("a")).toBe("down");
  await expect(scene.ask({ bypassesBreaker: true })).rejects.toThrow("a is down");
  scene.at("a").behaviour = "answers";
  await scene.clock.advance(5_000);
  expect(scene.stateOf("a")).toBe("up");
}

test("what may not wait goes past the breaker of one that is well again, past no other, and others may follow it", async () => {
  const scene = await openCutOff();
  expect(await scene.ask({ bypassesBreaker: true })).toBe("a");
  expect(await Promise.all([scene.ask(), scene.ask(), scene.ask()])).toEqual(["a", "a", "a"]);
  expect(scene.pool.upstreams[0]?.breaker, "it does not flap").toBe("open");

  scene.at("a").behaviour = "fails";
  await expect(scene.ask()).rejects.toThrow("answered unavailable");
  await expect(scene.ask()).rejects.toThrow("a has its breaker open");
  scene.at("a").behaviour = "answers";
  await scene.clock.advance(1_000);
  await expect(scene.ask()).rejects.toThrow("a has its breaker open");
  expect(await scene.ask({ bypassesBreaker: true })).toBe("a");
  expect(await scene.ask()).toBe("a");
});

test("one that answers nothing but checks and polls is called about as rarely as its breaker would", async () => {
  const scene = await openCutOff();
  const minutes = 5;
  let failures = 0;
  const run = async () => {
    failures += 1;
    throw new UpstreamError("answer", "garbage");
  };
  for (let ms = 0; ms < minutes * 60_000; ms += 100) {
    await scene.ask({ bypassesBreaker: true });
    await scene.ask({ run }).catch(() => {});
    await scene.clock.advance(100);
  }
  expect(failures).toBeGreaterThan(5);
  // In a minute five before the breaker opens, which checks close as often, and its trials; after polls the fewer the longer.
  expect(failures).toBeLessThanOrEqual(minutes * 10 + 5);
});

test("polls that fail now and then, with others answered between them, do not open the breaker", async () => {
  const retry = { ...upstreamSettings({ name: "a" }).retry, maxRetries: 0 };
  const scene = openPoolScene([{ name: "a", retry }]);
  await settle();
  const poll = (behaviour: "answers" | "fails") => {
    scene.at("a").behaviour = behaviour;
    return scene.ask({ bypassesBreaker: true });
  };
  for (let i = 0; i < 10; i += 1) {
    await expect(poll("fails")).rejects.toThrow("answered unavailable");
    for (let n = 0; n < 10; n += 1) expect(await poll("answers")).toBe("a");
  }
  expect(scene.pool.upstreams[0]?.breaker).toBe("closed");
  expect(scene.said).not.toContain("breaker of a open");
});

test("an upstream of another database is refused, and is taken in when it reads the right one", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
    at("b").version = { epoch: "two", revision: 9 };
  });

  await settle();
  expect(scene.stateOf("b")).toBe("refused");
  expect(scene.pool.upstreams[1]?.lastError?.message).toContain("another database");
  expect(await Promise.all([scene.ask(), scene.ask(), scene.ask()])).toEqual(["a", "a", "a"]);

  scene.at("a").behaviour = "fails";
  await scene.clock.advance(10_000);
  const asked = scene.ask().catch(String);
  await scene.clock.advance(1_000);
  expect(await asked).toContain("a");

  scene.at("b").version = { epoch: "one", revision: 9 };
  await scene.clock.advance(2_000);
  expect(await scene.ask()).toBe("b");
});

test("a restored database is followed by the pool, and who stays behind is left out until it follows", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(2_000);
  scene.at("a").version = { epoch: "restored", revision: 1 };
  await scene.clock.advance(1_100);
  expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["up", "refused"]);
  scene.at("b").version = { epoch: "restored", revision: 2 };
  await scene.clock.advance(1_100);
  expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["up", "up"]);
});

test("who goes back to a database that the pool has left takes nobody along, unless all do", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(2_000);
  for (const name of ["a", "b"]) scene.at(name).version = { epoch: "restored", revision: 1 };
  await scene.clock.advance(2_000);
  scene.at("a").version = { epoch: "one", revision: 9 };
  await scene.clock.advance(2_000);
  expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["refused", "up"]);
  scene.at("b").version = { epoch: "one", revision: 9 };
  await scene.clock.advance(2_000);
  expect([scene.stateOf("a"), scene.stateOf("b")]).toEqual(["up", "up"]);
});

test("an answer of another database is thrown away even before a check has found it out", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(2_000);
  // It has not learnt anything yet when it is checked.
  scene.at("c").version = undefined;
  await scene.pool.reload(poolSettings([{ name: "a" }, { name: "c" }]));
  const versionOf = (name: string): Version => ({ epoch: name === "c" ? "two" : "one", revision: 5 });
  const answers = await Promise.all([1, 2, 3, 4].map(() => scene.ask({ versionOf })));
  expect(answers).toEqual(["a", "a", "a", "a"]);
  expect(scene.said).toContain("c rejected: refused");
  expect(scene.stateOf("c")).toBe("refused");
});

test("pbflagd and plain pbflags do not mix", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }], {}, ({ at }) => {
    at("b").kind = "pbflags";
  });

  await settle();
  expect(scene.stateOf("b")).toBe("refused");
  expect(scene.pool.upstreams[1]?.lastError?.message).toBe(
    "it is a plain pbflags evaluator and the others are pbflagd: a pool must be of one kind",
  );
  expect(() =>
    openPoolScene([
      { name: "a", kind: "pbflagd" },
      { name: "b", kind: "pbflags" },
    ]),
  ).toThrow("one kind");
});

test("what is older than the caller knows is taken only if nobody has anything newer", async () => {
  const scene = openPoolScene(
    [
      { name: "near", priority: 2 },
      { name: "far", priority: 1 },
    ],
    { strategy: "priority" },
    ({ at }) => {
      at("near").version = { epoch: "one", revision: 3 };
      at("far").version = { epoch: "one", revision: 7 };
    },
  );
  await settle();
  expect(await scene.ask()).toBe("near");
  expect(await scene.ask({ atLeast: { epoch: "one", revision: 5 } })).toBe("far");
  expect(await scene.ask({ atLeast: { epoch: "one", revision: 9 } })).toBe("far");
  expect(await scene.ask({ atLeast: { epoch: "other", revision: 9 } })).toBe("near");
});

test("one that is degraded itself is asked only if there is no other", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  scene.at("a").status = EvaluatorStatus.DEGRADED;
  await scene.clock.advance(1_100);

  expect(await Promise.all([scene.ask(), scene.ask(), scene.ask()])).toEqual(["b", "b", "b"]);
  scene.at("b").behaviour = "fails";
  await scene.clock.advance(5_000);
  expect(await scene.ask()).toBe("a");
});

test("a rate limit sends calls elsewhere, and fails them when there is no elsewhere", async () => {
  const rateLimit = { requestsPerSecond: 1, burstSize: 1 };
  const scene = openPoolScene([
    { name: "a", rateLimit },
    { name: "b", rateLimit },
  ]);
  await settle();
  expect(new Set([await scene.ask(), await scene.ask()])).toEqual(new Set(["a", "b"]));
  await expect(scene.ask()).rejects.toThrow("a is at its rate limit; b is at its rate limit");
  await scene.clock.advance(1_000);
  expect(["a", "b"]).toContain(await scene.ask());
});

test("descriptors that change are told, once each", async () => {
  const scene = openPoolScene([{ name: "a" }], {}, ({ at }) => {
    at("a").descriptorHash = "1";
  });

  await scene.clock.advance(3_000);
  scene.at("a").descriptorHash = "2";
  await scene.clock.advance(3_000);
  expect(scene.said.filter((line) => line.startsWith("descriptors"))).toEqual([
    "descriptors 1",
    "descriptors 2",
  ]);
});

test("is told when an upstream can be asked again", async () => {
  const scene = openPoolScene([{ name: "a" }], {}, ({ at }) => {
    at("a").behaviour = "fails";
  });

  await scene.clock.advance(3_000);
  expect(scene.said).not.toContain("usable");
  scene.at("a").behaviour = "answers";
  await scene.clock.advance(5_000);
  expect(scene.said.filter((line) => line === "usable")).toHaveLength(1);
});

test("reset closes a breaker, and knows no other names", async () => {
  const retry = { ...upstreamSettings({ name: "a" }).retry, maxRetries: 0 };
  const scene = openPoolScene([{ name: "a", retry }], {
    score: { initial: 1, min: -3, max: 50, success: 20, failure: -1 },
  });
  await scene.clock.advance(3_000);
  for (let i = 0; i < 5; i += 1) {
    await expect(scene.ask({ run: () => Promise.reject(new Error("garbage")) })).rejects.toThrow("garbage");
  }
  expect(scene.pool.upstreams[0]).toMatchObject({ breaker: "open", lastError: { message: "garbage" } });
  expect(scene.pool.reset("b")).toBe(false);
  expect(scene.pool.reset("a")).toBe(true);
  expect(scene.pool.upstreams[0]).toMatchObject({ breaker: "closed", lastError: undefined });
  expect(await scene.ask()).toBe("a");
});

test("a reload says what it does, and leaves alone what stays", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }, { name: "c" }]);
  await scene.clock.advance(3_000);
  const { breaker, retry } = upstreamSettings({ name: "b" });
  const change = await scene.pool.reload(
    poolSettings(
      [
        { name: "a" },
        {
          name: "b",
          weight: 5,
          auth: { method: "bearer", token: "s3cret" },
          breaker: { ...breaker, openMs: 9 },
          retry: { ...retry, jitter: 0 },
        },
        { name: "d" },
      ],
      { strategy: "random", healthCheck: { intervalMs: 2_000, timeoutMs: 100, jitter: 0 } },
    ),
  );
  expect(change).toEqual({
    added: ["d"],
    updated: [{ name: "b", keys: ["auth", "breaker.open", "retry.jitter_percent", "weight"] }],
    removed: ["c"],
    unchanged: ["a"],
    settings: ["health_check.interval", "strategy"],
  });
  expect(scene.pool.upstreams.map(({ name }) => name)).toEqual(["a", "b", "d"]);
  expect(scene.pool.upstreams[0]?.score).toBe(3);
  expect(scene.pool.upstreams[1]?.score).toBeGreaterThan(1);
  expect([...scene.upstreams].map(([name, { open }]) => [name, open])).toEqual([
    ["a", 1],
    ["b", 1],
    ["c", 0],
    ["d", 1],
  ]);
});

test.each([
  { reloadStrategy: "graceful", meanwhile: "draining", by: "a" },
  { reloadStrategy: "recreate", meanwhile: undefined, by: "b" },
] as const)(
  "with a reload that is $reloadStrategy, a call under way is answered by $by",
  async (expected) => {
    const { reloadStrategy, meanwhile, by } = expected;
    const scene = openPoolScene([{ name: "a" }]);
    await settle();
    let answer = (_said: string) => {};
    const answered = new Promise<string>((resolve) => {
      answer = resolve;
    });
    const asked = scene.ask({
      run: async (upstream) => {
        if (upstream.name !== "a") return upstream.name;
        scene.at("a").behaviour = "hangs";
        const hanging = upstream.call(StateService.method.getFlagStates, {});
        scene.at("a").behaviour = "answers";
        return Promise.race([answered, hanging.then(() => "never")]);
      },
    });
    await settle();
    const reloading = scene.pool.reload(poolSettings([{ name: "b" }], { reloadStrategy }));
    await settle();
    expect(scene.stateOf("a")).toBe(meanwhile);
    answer("a");
    await reloading;
    expect(await asked).toBe(by);
    expect(scene.pool.upstreams.map(({ name }) => name)).toEqual(["b"]);
    // What we cut off ourselves is no failure, and needs no leave to be asked again.
    expect(scene.said.filter((line) => line.includes("retry"))).toEqual([]);
  },
);

test("a rolling reload goes on only when each new upstream is healthy, and is rolled back whole otherwise", async () => {
  const scene = openPoolScene([{ name: "a" }]);
  await scene.clock.advance(2_000);
  const next = poolSettings([{ name: "b" }, { name: "c" }], { reloadStrategy: "rolling" });
  scene.at("c").behaviour = "fails";
  const failing = scene.pool.reload(next).catch(String);
  await scene.clock.advance(10_000);
  expect(await failing).toContain(
    "Cannot reload upstreams: c must be healthy, got http://c:9201 answered unavailable",
  );
  expect(scene.pool.upstreams.map(({ name }) => name)).toEqual(["a"]);
  expect([scene.at("b").open, scene.at("c").open]).toEqual([0, 0]);
  expect(await scene.ask()).toBe("a");

  scene.at("c").behaviour = "answers";
  await scene.pool.reload(next);
  expect(scene.pool.upstreams.map(({ name }) => name)).toEqual(["b", "c"]);
});

test("a rolling reload replaces one at a time, and the old ones come back if a later one fails", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await scene.clock.advance(2_000);
  const next = poolSettings(
    [
      { name: "a", weight: 2 },
      { name: "b", weight: 2, url: "http://c:9201" },
    ],
    { reloadStrategy: "rolling", strategy: "random" },
  );
  scene.at("b").behaviour = "fails";
  const failing = scene.pool.reload(next).catch(String);
  await settle();
  // The first has taken its place; the one it replaced is still open, in case it has to come back.
  expect(scene.pool.upstreams.map(({ name, state, weight }) => [name, state, weight])).toEqual([
    ["b", "up", 1],
    ["a", "up", 2],
    ["a", "draining", 1],
  ]);
  await scene.clock.advance(10_000);
  expect(await failing).toContain("b must be healthy");
  expect(scene.pool.upstreams.map(({ name, weight }) => [name, weight])).toEqual([
    ["a", 1],
    ["b", 1],
  ]);
  expect([scene.at("a").open, scene.at("b").open, scene.pool.strategy]).toEqual([1, 1, "round-robin"]);
});

test("a reload that recreates closes the old ones before it opens the new ones", async () => {
  const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
  await settle();
  scene.said.length = 0;
  const next = [{ name: "a", weight: 2 }, { name: "b" }, { name: "c" }];
  await scene.pool.reload(poolSettings(next, { reloadStrategy: "recreate" }));
  expect(scene.said.filter((line) => line.includes("opened"))).toEqual([
    "a opened, beside 1",
    "c opened, beside 2",
  ]);
});

test.each(["graceful", "recreate", "rolling"] as const)(
  "a reload (%s) with an upstream that cannot be opened is rolled back whole",
  async (reloadStrategy) => {
    const scene = openPoolScene([{ name: "a" }, { name: "b" }]);
    await settle();
    scene.unusable.add("c");
    const next = [{ name: "a", weight: 2 }, { name: "c" }];
    await expect(scene.pool.reload(poolSettings(next, { reloadStrategy }))).rejects.toThrow(
      "Cannot reload upstreams: Cannot use upstream c: no such program",
    );
    await settle();
    expect(scene.pool.upstreams.map(({ name, weight, state }) => [name, weight, state])).toEqual([
      ["a", 1, "up"],
      ["b", 1, "up"],
    ]);
    expect([scene.at("a").open, scene.at("b").open]).toEqual([1, 1]);
    expect(["a", "b"]).toContain(await scene.ask());
  },
);

test.each([
  [
    "scores that contradict each other",
    poolSettings([{ name: "b" }], { score: { initial: 1, min: 0, max: 3, success: 1, failure: -1 } }),
  ],
  [
    "kinds that do not mix",
    poolSettings([
      { name: "b", kind: "pbflagd" },
      { name: "c", kind: "pbflags" },
    ]),
  ],
])("a reload with %s changes nothing", async (_, next) => {
  const scene = openPoolScene([{ name: "a" }]);
  await settle();
  await expect(scene.pool.reload(next)).rejects.toThrow("Cannot reload upstreams: ");
  expect(scene.pool.upstreams.map(({ name }) => name)).toEqual(["a"]);
  expect(await scene.ask()).toBe("a");
});

test("whatever happens, a call has ended by its deadline", async () => {
  const behaviours = fc.constantFrom("answers" as const, "fails" as const, "hangs" as const);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(behaviours, behaviours, fc.integer({ min: 0, max: 700 })), { maxLength: 12 }),
      async (steps) => {
        const scene = new PoolScene([{ name: "a" }, { name: "b" }]);
        for (const [a, b, ms] of steps) {
          scene.at("a").behaviour = a;
          scene.at("b").behaviour = b;
          let ended = false;
          void scene.ask().then(
            () => (ended = true),
            () => (ended = true),
          );
          await scene.clock.advance(FETCH_TIMEOUT_MS);
          expect(ended).toBe(true);
          await scene.clock.advance(ms);
        }
        await scene.pool[Symbol.asyncDispose]();
      },
    ),
    { numRuns: 40 },
  );
});
