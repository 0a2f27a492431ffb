import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { DeadlineError } from "../upstream/transport/deadline.ts";
import { type Patience, withPatience } from "./patience.ts";

function begin({ outer }: { readonly outer?: AbortSignal } = {}) {
  const clock = new FakeClock();
  let patience: Patience | undefined;
  let finish: (value: string) => void = () => {};
  const running = withPatience(
    { silenceMs: 500, timeoutMs: 2_000, clock, outer },
    (its) =>
      new Promise<string>((resolve, reject) => {
        patience = its;
        finish = resolve;
        its.signal.addEventListener("abort", () => reject(its.signal.reason));
      }),
  );
  const ended = running.catch((error: unknown) => error);
  const heard = () => patience?.heard();
  return { clock, ended, heard, finish: (value: string) => finish(value) };
}

test("who is silent is given up, and who is heard is not, until all takes too long", async () => {
  const silent = begin();
  await silent.clock.advance(500);
  expect(await silent.ended).toEqual(new DeadlineError("no answer within 500 ms"));

  const falling = begin();
  await falling.clock.advance(499);
  falling.heard();
  await falling.clock.advance(499);
  expect(falling.clock.sleeperCount).toBe(2);
  await falling.clock.advance(1);
  expect(await falling.ended).toEqual(new DeadlineError("no answer within 500 ms"));

  const endless = begin();
  for (let i = 0; i < 5; i++) {
    await endless.clock.advance(399);
    endless.heard();
  }
  expect(endless.clock.sleeperCount).toBe(2);
  await endless.clock.advance(5);
  expect(await endless.ended).toEqual(new DeadlineError("no answer within 2000 ms"));
});

test("it ends with what it is for or with whoever ends it, and leaves no timer behind, whoever is heard later", async () => {
  const done = begin();
  await done.clock.advance(400);
  done.heard();
  done.finish("there");
  expect(await done.ended).toBe("there");
  done.heard();
  expect(done.clock.sleeperCount).toBe(0);

  const outer = new AbortController();
  const unwanted = begin({ outer: outer.signal });
  outer.abort(new Error("no longer wanted"));
  expect(await unwanted.ended).toEqual(new Error("no longer wanted"));
  unwanted.heard();
  expect(unwanted.clock.sleeperCount).toBe(0);
});
