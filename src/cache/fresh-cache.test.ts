import fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import type { Stamp, Version } from "../evaluation/version.ts";
import type { Answer } from "../store/flag-store.ts";
import { type Entry, FreshCache, type FreshCacheOptions, type HitsAndMisses } from "./fresh-cache.ts";
import { createEntityMemory } from "./memory.ts";

const TTL = 1_000;

test("an answer is fresh for its TTL, served stale for another while one refresh runs, then waited for", async () => {
  const { cache, clock, source } = createCache();
  expect(await cache.read("k")).toEqual({ kind: "fresh", value: "v1" });

  source.value = "v2";
  await clock.advance(TTL - 1);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v1" });
  expect(source.asked).toEqual([["k"]]);

  await clock.advance(1);
  expect(cache.read("k")).toEqual({ kind: "stale", value: "v1" });
  expect(cache.read("k")).toEqual({ kind: "stale", value: "v1" });
  await settle();
  expect(source.asked, "one refresh, however many reads").toHaveLength(2);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v2" });

  source.value = "v3";
  await clock.advance(2 * TTL);
  const late = cache.read("k");
  expect(late).toBeInstanceOf(Promise);
  expect(await late).toEqual({ kind: "fresh", value: "v3" });
});

test("the last answer is never thrown away while the store fails", async () => {
  const { cache, clock, source } = createCache();
  await cache.read("k");
  source.failing = true;
  await clock.advance(TTL);
  expect(cache.read("k"), "a refresh is due").toEqual({ kind: "stale", value: "v1" });
  await settle();
  expect(cache.read("k"), "the refresh failed").toEqual({ kind: "cached", value: "v1" });

  await clock.advance(1_000 * TTL);
  expect(await cache.read("k")).toEqual({ kind: "cached", value: "v1" });
  expect(await cache.read("never seen")).toEqual({ kind: "unavailable" });

  source.failing = false;
  expect(await cache.read("k")).toEqual({ kind: "fresh", value: "v1" });
});

test("while the store is cut off nothing waits and nothing is asked", async () => {
  const { cache, clock, source } = createCache();
  await cache.read("k");
  source.cut = true;
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v1" });
  await clock.advance(5 * TTL);
  expect(cache.read("k")).toEqual({ kind: "cached", value: "v1" });
  expect(cache.read("never seen")).toEqual({ kind: "unavailable" });
  expect(source.asked).toHaveLength(1);
});

test("reads in one turn share one batch, and reads of one key share one fetch", async () => {
  const { cache, source } = createCache();
  const [a, b, again] = await Promise.all([cache.read("a"), cache.read("b"), cache.read("a")]);
  expect([a, b, again].map((found) => found.kind)).toEqual(["fresh", "fresh", "fresh"]);
  expect(source.asked).toEqual([["a", "b"]]);
  await cache.readMany(["b", "c", "d"]);
  expect(source.asked[1]).toEqual(["c", "d"]);
});

test("what is read together is counted together, by what was in memory and what was not", async () => {
  const counted: HitsAndMisses[] = [];
  const { cache, source } = createCache({ onRead: (reads) => counted.push(reads) });
  await cache.read("a");
  await cache.readMany(["a", "b", "c"]);
  void cache.read("c");
  source.cut = true;
  void cache.readMany(["a", "b", "never seen"]);
  expect(counted).toEqual([
    { hits: 0, misses: 1 },
    { hits: 1, misses: 2 },
    { hits: 1, misses: 0 },
    { hits: 2, misses: 1 },
  ]);
});

test("where a store can hold nothing a read finds nothing: nobody is asked, and nothing is remembered or counted", async () => {
  const counted: HitsAndMisses[] = [];
  const { cache, source } = createCache({
    isPossible: (key) => key !== "impossible",
    onRead: (reads) => counted.push(reads),
  });
  for (const isCut of [false, true]) {
    source.cut = isCut;
    expect(cache.read("impossible")).toEqual({ kind: "fresh", value: undefined });
  }
  expect([source.asked, cache.size, counted]).toEqual([[], 0, []]);
  source.cut = false;
  expect(await cache.read("possible")).toEqual({ kind: "fresh", value: "v1" });
});

test("a batch larger than the memory still answers every key", async () => {
  const { cache } = createCache({ memory: createEntityMemory<Entry<string>>(2) });
  const found = await cache.readMany(["a", "b", "c", "d"]);
  expect(found).toEqual(Array.from({ length: 4 }, () => ({ kind: "fresh", value: "v1" })));
  expect(cache.size).toBe(2);
});

test("absence is remembered: for the TTL with versions, for the negative TTL without", async () => {
  const { cache, clock, source } = createCache();
  source.value = undefined;
  await cache.read("k");
  await clock.advance(TTL - 1);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: undefined });
  expect(source.asked).toHaveLength(1);

  source.version = undefined;
  await clock.advance(2 * TTL);
  await cache.read("k");
  await clock.advance(99);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: undefined });
  await clock.advance(1);
  expect(cache.read("k")).toEqual({ kind: "stale", value: undefined });
});

test("an older answer never replaces a newer one", async () => {
  const { cache, clock, source } = createCache();
  source.version = { epoch: "e", revision: 7 };
  await cache.read("k");
  source.version = { epoch: "e", revision: 6 };
  source.value = "older";
  await clock.advance(2 * TTL);
  expect(await cache.read("k")).toEqual({ kind: "stale", value: "v1" });

  source.version = { epoch: "restored", revision: 1 };
  await clock.advance(2 * TTL);
  expect(await cache.read("k"), "another epoch is taken at any revision").toEqual({
    kind: "fresh",
    value: "older",
  });
});

test("expire() serves the old answer while it refreshes, and asks until the answer is new enough", async () => {
  const { cache, clock, source } = createCache();
  await cache.read("k");
  await cache.read("other");
  const needed = { version: { epoch: "e", revision: 5 }, askedAt: clock.now() };

  source.value = "v2";
  source.version = { epoch: "e", revision: 4 };
  cache.expire(["k", "unknown"], needed);
  expect(cache.read("k")).toEqual({ kind: "stale", value: "v1" });
  await settle();
  expect(source.asked.slice(2), "only what is remembered is refreshed").toEqual([["k"]]);
  expect(cache.read("k"), "newer, but not as new as needed").toEqual({ kind: "stale", value: "v2" });

  source.value = "v3";
  source.version = { epoch: "e", revision: 5 };
  await clock.advance(100);
  void cache.read("k");
  await settle();
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v3" });
  expect(cache.read("other")).toEqual({ kind: "fresh", value: "v1" });
});

test("expire() with drop makes reads wait, and falls back on the old answer only if the store fails", async () => {
  const { cache, clock, source } = createCache();
  await cache.read("k");
  const needed = { version: { epoch: "e", revision: 5 }, askedAt: clock.now() };
  source.failing = true;
  cache.expire(["k"], needed, { drop: true });
  const found = cache.read("k");
  expect(found).toBeInstanceOf(Promise);
  expect(await found).toEqual({ kind: "cached", value: "v1" });
});

test("a fetch that set out before a notice does not satisfy it", async () => {
  const { cache, clock, source } = createCache();
  await cache.read("k");
  await clock.advance(TTL);
  let open = () => {};
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  void cache.read("k");
  await settle();
  await clock.advance(1);
  cache.expire(["k"], { version: { epoch: "e", revision: 5 }, askedAt: clock.now() });
  source.gate = undefined;
  source.value = "v2";
  source.version = { epoch: "e", revision: 5 };
  open();
  await settle();
  expect(source.asked).toHaveLength(3);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v2" });
});

test("a notice that arrives together with an answer is asked for again", async () => {
  let notices = 1;
  const { cache, clock, source } = createCache({
    onAnswer() {
      if (notices-- === 1) cache.expire(["k"], { version: { epoch: "e", revision: 2 }, askedAt: 1 });
    },
  });
  let open = () => {};
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  const read = cache.read("k");
  await settle();
  await clock.advance(2);
  source.gate = undefined;
  source.version = { epoch: "e", revision: 2 };
  source.value = "v2";
  open();
  await read;
  await settle();
  expect(source.asked).toHaveLength(2);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v2" });
});

test("an answer older than the kill set is served, and asked for again", async () => {
  const { cache, clock, source } = createCache();
  source.floor = { version: { epoch: "e", revision: 3 }, askedAt: 0 };
  source.version = { epoch: "e", revision: 2 };
  expect(await cache.read("k")).toEqual({ kind: "stale", value: "v1" });
  source.version = { epoch: "e", revision: 3 };
  await clock.advance(100);
  void cache.read("k");
  await settle();
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v1" });
});

test("a store that lags behind what is known is asked once for a notice, not without end", async () => {
  const { cache, clock, source } = createCache();
  source.version = { epoch: "e", revision: 7 };
  await cache.read("k");
  await clock.advance(1);
  source.version = { epoch: "e", revision: 6 };
  cache.expire(["k"], { version: { epoch: "e", revision: 9 }, askedAt: clock.now() });
  await settle();
  expect(source.asked).toHaveLength(2);
  expect(cache.read("k")).toEqual({ kind: "stale", value: "v1" });

  source.version = { epoch: "e", revision: 9 };
  source.value = "v2";
  cache.refreshOutdated();
  await settle();
  expect(cache.read("k"), "asked again when told to, whether anybody reads it or not").toEqual({
    kind: "fresh",
    value: "v2",
  });
  cache.refreshOutdated();
  await settle();
  expect(source.asked).toHaveLength(3);
});

test("an answer of the epoch before, delivered after the new one was heard of, is not fresh", async () => {
  const { cache, clock, source } = createCache();
  let open = () => {};
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  const read = cache.read("k");
  await settle();
  await clock.advance(1);
  source.floor = { version: { epoch: "restored", revision: 1 }, askedAt: clock.now() };
  source.gate = undefined;
  source.value = "restored";
  source.version = { epoch: "restored", revision: 1 };
  open();
  expect(await read).toEqual({ kind: "stale", value: "v1" });
  await settle();
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "restored" });
});

test("what is refreshed ahead is not waited for because it is absent", async () => {
  const { cache, clock, source } = createCache({ isRefreshedAhead: (key) => key === "defined" });
  source.value = undefined;
  source.version = undefined;
  await cache.readMany(["defined", "made-up"]);
  await clock.advance(200);
  expect(cache.read("defined")).toEqual({ kind: "stale", value: undefined });
  expect(cache.read("made-up")).toBeInstanceOf(Promise);
});

test("age counts from the root's read: what arrives old is not fresh for a whole TTL", async () => {
  const { cache, clock, source } = createCache();
  source.ageMs = 900;
  await cache.read("k");
  await clock.advance(99);
  expect(cache.read("k")).toEqual({ kind: "fresh", value: "v1" });
  await clock.advance(1);
  expect(cache.read("k")).toEqual({ kind: "stale", value: "v1" });
});

test("a store that keeps answering what is known to be wrong is asked twice, not without end", async () => {
  const floor = { version: { epoch: "e", revision: 3 }, askedAt: 0 };
  let asked = 0;
  const { cache, clock } = createCache({
    async fetch(keys) {
      asked += 1;
      await clock.advance(1);
      const value = new Map(keys.map((key) => [key, "killed"]));
      return { value, version: { epoch: "e", revision: 2 }, ageMs: 0 };
    },
    floor: () => floor,
    onAnswer: () => cache.withdraw("k", floor),
  });
  expect(await cache.read("k")).toEqual({ kind: "unavailable" });
  await settle();
  await settle();
  expect(asked).toBe(2);
  expect(cache.read("k"), "left alone for a while").toEqual({ kind: "unavailable" });
  expect(asked).toBe(2);
});

test("write-through asks for every read and joins only what has not set out yet", async () => {
  const { cache, source } = createCache({ ttlMs: 0 });
  await Promise.all([cache.read("k"), cache.read("k")]);
  expect(source.asked).toHaveLength(1);

  let open = () => {};
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  const first = cache.read("k");
  await settle();
  source.value = "v2";
  const second = cache.read("k");
  await settle();
  expect(source.asked).toHaveLength(3);
  open();
  expect((await second).kind).toBe("fresh");
  expect(await second).toEqual({ kind: "fresh", value: "v2" });
  await first;

  source.failing = true;
  expect(await cache.read("k")).toEqual({ kind: "cached", value: "v2" });
});

test("write-through asks for every read also after an answer that was overtaken", async () => {
  const { cache, clock, source } = createCache({ ttlMs: 0 });
  let open = () => {};
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  const overtaken = cache.read("k");
  await settle();
  await clock.advance(1);
  source.gate = undefined;
  source.version = { epoch: "e", revision: 2 };
  source.value = "v2";
  await cache.read("k");
  open();
  expect(await overtaken).toEqual({ kind: "fresh", value: "v2" });
  expect(cache.read("k")).toBeInstanceOf(Promise);
});

test("write-through calls stale what a lagging store tells although a later state is known", async () => {
  const { cache, source } = createCache({ ttlMs: 0 });
  source.floor = { version: { epoch: "e", revision: 2 }, askedAt: 0 };
  expect(await cache.read("k")).toEqual({ kind: "stale", value: "v1" });
  source.version = { epoch: "e", revision: 2 };
  expect(await cache.read("k")).toEqual({ kind: "fresh", value: "v1" });
});

test("who waits for two answers at once gets the newer one, whichever was withdrawn", async () => {
  const answers: { readonly revision: number; readonly open: () => void }[] = [];
  const { cache, clock } = createCache({
    ttlMs: 0,
    async fetch(keys) {
      const revision = answers.length + 1;
      await new Promise<void>((open) => answers.push({ revision, open }));
      const value = new Map(keys.map((key) => [key, `of ${revision}`]));
      return { value, version: { epoch: "e", revision }, ageMs: 0 };
    },
    onAnswer: (_, answer, stamp) => {
      if (answer.version?.revision === 1)
        cache.withdraw("k", { ...stamp, version: { epoch: "e", revision: 2 } });
    },
  });
  const first = cache.read("k");
  await settle();
  await clock.advance(1);
  const second = cache.read("k");
  await settle();
  for (const { open } of answers) open();
  expect(await first).toEqual({ kind: "fresh", value: "of 2" });
  expect(await second).toEqual({ kind: "fresh", value: "of 2" });
});

test("write-through calls cached what answers a question of its own that failed, whatever else arrived", async () => {
  const asked: {
    resolve: (answer: Answer<ReadonlyMap<string, string>>) => void;
    reject: (error: Error) => void;
  }[] = [];
  const { cache } = createCache({
    ttlMs: 0,
    fetch: () => new Promise((resolve, reject) => asked.push({ resolve, reject })),
  });
  const answer = (revision: number) => ({
    value: new Map([["k", `of ${revision}`]]),
    version: { epoch: "e", revision },
    ageMs: 0,
  });
  const first = cache.read("k");
  await settle();
  asked[0]?.resolve(answer(1));
  await first;

  const slow = cache.read("k");
  await settle();
  const failing = cache.read("k");
  await settle();
  asked[2]?.reject(new Error("down"));
  asked[1]?.resolve(answer(2));
  expect(await failing).toEqual({ kind: "cached", value: "of 2" });
  expect(await slow).toEqual({ kind: "fresh", value: "of 2" });
});

test("a load asks for one batch, then for as many at a time as the store likes, and again for what was left untold, as long as anything is told", async () => {
  const asked: string[][] = [];
  let patience = Infinity;
  const { cache } = createCache({
    memory: createEntityMemory<Entry<string>>(2_000),
    batchesAtOnce: 2,
    // Tells the first three hundred of those asked for, but never "k7".
    async fetch(keys) {
      asked.push([...keys]);
      if (asked.length > patience) throw new Error("down");
      const told = keys.slice(0, 300).filter((key) => key !== "k7");
      const untold = new Set(keys.filter((key) => !told.includes(key)));
      return { value: new Map(told.map((key) => [key, "v1"])), version: undefined, ageMs: 0, untold };
    },
  });
  const keys = Array.from({ length: 1_100 }, (_, i) => `k${i}`);
  expect(await cache.load(keys), "k7 is missing").toBe(false);
  expect(asked.map(({ length }) => length)).toEqual([500, 201, 1, 500, 100, 200]);
  expect(keys.filter((key) => cache.peek(key) === undefined)).toEqual(["k7"]);
  expect(await cache.load(keys.slice(500))).toBe(true);

  // A batch that fails keeps none of the others from being asked for.
  asked.length = 0;
  patience = 0;
  expect(await cache.load(keys)).toBe(false);
  expect(asked.map(({ length }) => length)).toEqual([500, 500, 100]);
});

test("what has changed is asked for in two batches at a time, but for what was read meanwhile", async () => {
  const { cache, source } = createCache({ memory: createEntityMemory<Entry<string>>(3_000) });
  const keys = Array.from({ length: 2_100 }, (_, i) => `k${i}`);
  await cache.load(keys);
  source.asked.length = 0;
  let open = () => {};
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  source.version = { epoch: "e", revision: 2 };
  source.value = "v2";
  cache.expire(keys, { version: source.version, askedAt: 0 });
  cache.expire(["k1"], { version: source.version, askedAt: 0 });
  await settle();
  expect(source.asked.map(({ length }) => length)).toEqual([500, 500]);
  expect(cache.read("k2050")).toEqual({ kind: "stale", value: "v1" });
  await settle();
  expect(source.asked[2]).toEqual(["k2050"]);
  open();
  await settle();
  expect(source.asked.map(({ length }) => length)).toEqual([500, 500, 1, 500, 500, 99]);
  expect(keys.every((key) => cache.peek(key)?.value === "v2" && !cache.isOutdated(key))).toBe(true);
});

test("what is withdrawn is asked for again, and is not served where the store fails", async () => {
  const { cache, source } = createCache();
  await cache.read("k");
  const needed = { version: { epoch: "e", revision: 2 }, askedAt: 0 };
  cache.withdraw(["k", "unknown"], needed);
  expect(await cache.read("k"), "asked again, and told the same").toEqual({ kind: "stale", value: "v1" });
  cache.withdraw(["k"], needed);
  source.failing = true;
  expect(await cache.current(["k", "unknown"])).toEqual([undefined, undefined]);
  source.cut = true;
  expect(cache.read("k")).toEqual({ kind: "unavailable" });
  expect(cache.isOutdated("unknown")).toBe(false);
});

test("TTLs are spread by jitter", async () => {
  for (const [random, ttlMs] of [
    [0, 800],
    [0.5, 1_000],
    [1, 1_200],
  ] as const) {
    const { cache, clock } = createCache({ jitter: 0.2, random: () => random });
    await cache.read("k");
    await clock.advance(ttlMs - 1);
    expect(cache.read("k")).toMatchObject({ kind: "fresh" });
    await clock.advance(1);
    expect(cache.read("k")).toMatchObject({ kind: "stale" });
  }
});

test("what is remembered is fresh until its time to live is over, or it is known to be outdated", async () => {
  const { cache, clock, source } = createCache({ memory: createEntityMemory<Entry<string>>(3) });
  const freshUntil = (key: string) => cache.fresh(key, clock.now())?.freshUntil;
  expect(freshUntil("a"), "unknown").toBeUndefined();
  await cache.read("a");
  await clock.advance(100);
  await cache.read("b");
  expect([freshUntil("a"), freshUntil("b")]).toEqual([TTL, TTL + 100]);
  expect(cache.fresh("a", TTL - 1)).toMatchObject({ value: "v1" });
  expect(cache.fresh("a", TTL)).toBeUndefined();

  source.failing = true;
  cache.expire(["b"], { version: { epoch: "e", revision: 2 }, askedAt: clock.now() });
  expect(freshUntil("b"), "outdated").toBeUndefined();
  source.failing = false;
  source.version = { epoch: "e", revision: 2 };
  await clock.advance(TTL - 100);
  await cache.readMany(["c", "d"]);
  expect([freshUntil("c"), freshUntil("d")]).toEqual([2 * TTL, 2 * TTL]);
  cache.withdraw(["c"], { version: { epoch: "e", revision: 3 }, askedAt: clock.now() });
  expect(freshUntil("c"), "withdrawn").toBeUndefined();

  const { cache: writeThrough } = createCache({ ttlMs: 0 });
  await writeThrough.read("a");
  expect(writeThrough.fresh("a", 0)).toBeUndefined();
});

test("whatever changes what is remembered, or what it is worth, makes another revision; reading does not", async () => {
  const { cache, clock, source } = createCache();
  let last = cache.revision;
  const isOther = () => last !== (last = cache.revision);
  await cache.read("a");
  expect(isOther(), "learnt").toBe(true);
  await cache.readMany(["a", "a"]);
  await cache.current(["a"]);
  cache.expire(["a"], { version: { epoch: "e", revision: 1 }, askedAt: 0 });
  cache.expire(["unknown"], { version: { epoch: "e", revision: 2 }, askedAt: 0 });
  cache.withdraw(["unknown"], { version: { epoch: "e", revision: 2 }, askedAt: 0 });
  expect(isOther(), "read, and told what is known").toBe(false);

  source.failing = true;
  cache.expire(["a"], { version: { epoch: "e", revision: 2 }, askedAt: 0 });
  expect(isOther(), "outdated").toBe(true);
  await settle();
  expect(isOther(), "a refresh that failed").toBe(true);
  cache.expire(["a"], { version: { epoch: "e", revision: 2 }, askedAt: 0 }, { drop: true });
  expect(isOther(), "dropped").toBe(true);
  cache.withdraw(["a"], { version: { epoch: "e", revision: 2 }, askedAt: 0 });
  expect(isOther(), "withdrawn").toBe(true);
  await settle();
  isOther();
  cache.rearrange();
  expect(isOther(), "the memory may have forgotten some").toBe(true);
  const remembered = cache.remembered(
    (readAt) => readAt,
    () => true,
    Infinity,
  );
  cache.restore(remembered, (readAt) => readAt);
  expect(isOther(), "restored").toBe(true);
  await clock.advance(3 * TTL);
  expect(isOther(), "time alone").toBe(false);
});

const KEYS = ["a", "b", "c", "d"];
/** What may happen to a cache. Numbers are of a key, of milliseconds, or of a revision. */
const move = fc.oneof(
  fc.record({ what: fc.constantFrom("read", "read others", "drop", "withdraw", "expire"), n: fc.nat(3) }),
  fc.record({ what: fc.constant("advance"), n: fc.integer({ min: 1, max: TTL }) }),
  fc.record({ what: fc.constantFrom("commit", "fail", "heal", "cut", "settle", "rearrange"), n: fc.nat(3) }),
);

test("as long as the revision stays, all is read fresh and as it was until the time that was said", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(move, { maxLength: 40, size: "max" }), async (moves) => {
      const { cache, clock, source } = createCache({
        memory: createEntityMemory<Entry<string>>(3),
        jitter: 0,
      });
      const said: { revision: number; until: number; key: string; found: unknown }[] = [];
      let revision = 1;
      for (const { what, n } of moves) {
        const key = KEYS[n] ?? "a";
        const needed = { version: { epoch: "e", revision }, askedAt: clock.now() };
        if (what === "read") void cache.read(key);
        else if (what === "read others") void cache.readMany(KEYS.filter((other) => other !== key));
        else if (what === "expire" || what === "drop") cache.expire([key], needed, { drop: what === "drop" });
        else if (what === "withdraw") cache.withdraw([key], needed);
        else if (what === "advance") await clock.advance(n);
        else if (what === "commit") {
          source.value = n === 0 ? undefined : `v${++revision}`;
          source.version = { epoch: "e", revision };
        } else if (what === "rearrange") cache.rearrange();
        else if (what === "settle") await settle();
        else {
          source.failing = what === "fail";
          source.cut = what === "cut";
        }

        const stillTrue = said.filter((each) => cache.revision === each.revision && clock.now() < each.until);
        for (const { key, found } of stillTrue) expect(cache.read(key)).toEqual(found);
        for (const key of KEYS) {
          const { revision } = cache;
          const fresh = cache.fresh(key, clock.now());
          if (fresh === undefined) continue;
          const found = cache.read(key);
          expect(found).toEqual({ kind: "fresh", value: fresh.value });
          said.push({ revision, until: fresh.freshUntil, key, found });
        }
      }
      await settle();
    }),
    { numRuns: 300 },
  );
});

interface Source {
  value: string | undefined;
  version: Version | undefined;
  ageMs: number;
  failing: boolean;
  cut: boolean;
  floor: Stamp | undefined;
  gate: Promise<void> | undefined;
  readonly asked: string[][];
}

function createCache(options: Partial<FreshCacheOptions<string>> = {}) {
  const clock = new FakeClock();
  const source: Source = {
    value: "v1",
    version: { epoch: "e", revision: 1 },
    ageMs: 0,
    failing: false,
    cut: false,
    floor: undefined,
    gate: undefined,
    asked: [],
  };

  async function fetch(keys: readonly string[]): Promise<Answer<ReadonlyMap<string, string>>> {
    source.asked.push([...keys]);
    const { value, version, ageMs, failing } = source;
    await source.gate;
    if (failing) throw new Error("down");
    return { value: new Map(value === undefined ? [] : keys.map((key) => [key, value])), version, ageMs };
  }

  const cache = new FreshCache<string>({
    ttlMs: TTL,
    negativeTtlMs: 100,
    jitter: 0,
    memory: createEntityMemory<Entry<string>>(100),
    fetch,
    floor: () => source.floor,
    isCut: () => source.cut,
    clock,
    random: () => 0.5,
    ...options,
  });
  return { cache, clock, source };
}
