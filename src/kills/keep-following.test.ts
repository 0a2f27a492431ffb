import { expect, test } from "vitest";
import { FakeClock, settle } from "../../test/support/fake-clock.ts";
import type { FeedState } from "./change-feed.ts";
import { keepFollowing, type Progress } from "./keep-following.ts";

test("it connects, and says so", async () => {
  await using feed = openFeed();
  expect(feed.state).toEqual({ kind: "connecting" });
  expect(feed.told).toEqual([]);
  await feed.clock.advance(30);
  feed.connect();
  expect(feed.told).toEqual([{ kind: "connected", since: 30 }]);
  expect(feed.state).toEqual({ kind: "connected", since: 30 });
});

test("tries follow each other from 0.1 to 5 s, and chance decides where in between", async () => {
  const delays: number[][] = [];
  for (const chance of [0, 0.999]) {
    await using feed = openFeed(chance);
    delays.push(await feed.failAgainAndAgain(8));
  }
  const [early = [], late = []] = delays;
  expect(early).toEqual([100, 200, 400, 800, 1_600, 2_500, 2_500, 2_500]);
  expect(late.map(Math.round)).toEqual([200, 400, 800, 1_599, 3_198, 4_998, 4_998, 4_998]);
});

test("trouble that goes on is told once, and other trouble when it comes", async () => {
  await using feed = openFeed();
  await feed.failAgainAndAgain(3, "refused");
  await feed.failAgainAndAgain(3, "no such host");
  feed.connect();
  expect(feed.told).toEqual([
    { kind: "broken", reason: "refused", retryAt: 100 },
    { kind: "broken", reason: "no such host", retryAt: expect.any(Number) },
    { kind: "connected", since: feed.clock.now() },
  ]);
});

test("while it is broken it says when it tries again, also where that is not told", async () => {
  await using feed = openFeed();
  await feed.failAgainAndAgain(2, "refused");
  await feed.fail("refused");
  expect(feed.state).toEqual({ kind: "broken", reason: "refused", retryAt: feed.clock.now() + 400 });
});

test("what has held for a while is sought soon after its loss, what has not is not", async () => {
  await using feed = openFeed();
  await feed.failAgainAndAgain(3);
  feed.connect();
  expect(await feed.failAgainAndAgain(1)).toEqual([800]);
  feed.connect();
  feed.settled();
  expect(await feed.failAgainAndAgain(2)).toEqual([100, 200]);
});

test("it ends when it is disposed of, while it follows and while it waits, and tells nothing of that", async () => {
  for (const isWaiting of [false, true]) {
    const feed = openFeed();
    if (isWaiting) await feed.fail("refused");
    const told = [...feed.told];
    await feed[Symbol.asyncDispose]();
    feed.connect();
    expect(feed.told).toEqual(told);
    expect(feed.clock.sleeperCount).toBe(0);
    await feed.clock.advance(10_000);
    expect(feed.tries).toBe(1);
  }
});

function openFeed(chance = 0) {
  const clock = new FakeClock();
  const told: FeedState[] = [];
  let tries = 0;
  let current: { readonly progress: Progress; readonly fail: (error: Error) => void } | undefined;
  const feed = keepFollowing({
    clock,
    random: () => chance,
    onStateChange: (state) => told.push(state),
    follow: (progress, signal) =>
      new Promise<never>((_, reject) => {
        tries += 1;
        current = { progress, fail: reject };
        signal.addEventListener("abort", () => reject(new Error("stopped")), { once: true });
      }),
  });
  async function fail(reason: string): Promise<void> {
    current?.fail(new Error(reason));
    await settle();
  }
  return {
    clock,
    told,
    get tries() {
      return tries;
    },
    get state() {
      return feed.state;
    },
    connect: () => current?.progress.connected(),
    settled: () => current?.progress.settled(),
    fail,
    /** How long it waited after each failure. */
    async failAgainAndAgain(times: number, reason = "refused"): Promise<number[]> {
      const delays: number[] = [];
      for (let i = 0; i < times; i++) {
        await fail(reason);
        const delayMs = feed.state.kind === "broken" ? feed.state.retryAt - clock.now() : Number.NaN;
        const before = tries;
        await clock.advance(delayMs - 0.01);
        expect(tries).toBe(before);
        await clock.advance(0.02);
        expect(tries).toBe(before + 1);
        delays.push(Math.round(delayMs * 10) / 10);
      }
      return delays;
    },
    [Symbol.asyncDispose]: () => feed[Symbol.asyncDispose](),
  };
}
