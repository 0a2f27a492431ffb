import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { runAtOnce, runInSlices } from "./run-in-slices.ts";

test("runInSlices() lets others have their turn, and gives the result", async () => {
  const turns = await countTurns(async () => {
    expect(await runInSlices(countTo(1_000), 0)).toBe(1_000);
  });
  expect(turns).toBeGreaterThan(100);
});

test("runInSlices() gives all that run side by side one slice a turn", async () => {
  const turns = await countTurns(async () => {
    const counted = await Promise.all([100, 200, 300].map((n) => runInSlices(countTo(n), 0)));
    expect(counted).toEqual([100, 200, 300]);
  });
  expect(turns).toBeGreaterThan(590);
});

test("runInSlices() rejects with what the computation throws", async () => {
  await expect(runInSlices(fail())).rejects.toThrow("no good");
});

test("runAtOnce() gives the same result", () => {
  expect(runAtOnce(countTo(1_000))).toBe(1_000);
});

/** Turns of the event loop while something runs. */
async function countTurns(run: () => Promise<void>): Promise<number> {
  let turns = 0;
  const done = new AbortController();
  const others = (async () => {
    while (!done.signal.aborted) {
      await setImmediate();
      turns += 1;
    }
  })();
  await run().finally(() => done.abort());
  await others;
  return turns;
}

function* countTo(n: number): Generator<void, number> {
  let count = 0;
  while (count < n) {
    count += 1;
    yield;
  }
  return count;
}

function* fail(): Generator<void, number> {
  yield;
  throw new Error("no good");
}
