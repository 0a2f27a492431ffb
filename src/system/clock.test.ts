import { expect, test } from "vitest";
import { systemClock } from "./clock.ts";

test("after() runs what it was given, unless it is cancelled", async () => {
  const ran: string[] = [];
  const cancel = systemClock.after(0, () => ran.push("cancelled"));
  const cancelFar = systemClock.after(2 ** 40, () => ran.push("in 34 years"));
  cancel();
  cancel();
  await new Promise<void>((resolve) => {
    systemClock.after(0, () => ran.push("first"));
    systemClock.after(5, resolve);
  });
  cancelFar();
  expect(ran).toEqual(["first"]);
});
