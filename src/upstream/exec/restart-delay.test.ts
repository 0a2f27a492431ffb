import { expect, test } from "vitest";
import { restartDelayMs } from "./restart-delay.ts";

test("a restart waits from 100 ms to 30 s, give or take a fifth, and never longer", () => {
  expect([0, 1, 2, 8, 9, 2_000].map((failures) => restartDelayMs(failures, 0.5))).toEqual([
    100, 200, 400, 25_600, 30_000, 30_000,
  ]);
  expect([restartDelayMs(0, 0), restartDelayMs(0, 1)]).toEqual([80, 120]);
  expect([restartDelayMs(50, 0), restartDelayMs(50, 1)]).toEqual([24_000, 30_000]);
});
