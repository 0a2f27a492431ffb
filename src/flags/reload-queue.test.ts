import { expect, test } from "vitest";
import { settle } from "../../test/support/fake-clock.ts";
import { ReloadQueue } from "./reload-queue.ts";
import type { ReloadResult } from "./take-table.ts";

interface Request {
  readonly name: string;
}

/** A queue whose reloads end when the test says so. */
class Scene {
  readonly begun: string[] = [];
  readonly told: ReloadResult[] = [];
  /** By name: a reload of that name fails. */
  readonly broken = new Set<string>();
  readonly #ends: (() => void)[] = [];
  running = 0;
  mostRunning = 0;
  readonly queue = new ReloadQueue<Request>({
    attempt: async ({ name }) => {
      this.begun.push(name);
      this.running += 1;
      this.mostRunning = Math.max(this.mostRunning, this.running);
      await new Promise<void>((resolve) => this.#ends.push(resolve));
      this.running -= 1;
      if (this.broken.has(name)) throw new Error("no good");
      return { result: { kind: "held", reason: name }, isTold: name !== "quiet" };
    },
    onReload: (result) => this.told.push(result),
  });

  readonly request = (name: string) => this.queue.request({ name });

  /** Lets everything end that has begun or is still to begin. */
  async finish(): Promise<void> {
    await settle();
    while (this.#ends.length > 0) {
      for (const end of this.#ends.splice(0)) end();
      await settle();
    }
  }
}

test("reloads one at a time, and shares one that has not begun", async () => {
  const scene = new Scene();
  const running = scene.request("a");
  await settle();
  const reloads = ["a", "b", "a", "c", "b"].map(scene.request);
  await scene.finish();
  await Promise.all([running, ...reloads]);
  expect(scene.begun).toEqual(["a", "a", "b", "c"]);
  expect(scene.mostRunning).toBe(1);
});

test("whoever shares one is told what became of it; it is reported once", async () => {
  const scene = new Scene();
  const reloads = ["a", "a"].map(scene.request);
  await scene.finish();
  const result = { kind: "held", reason: "a" };
  expect(await Promise.all(reloads)).toEqual([result, result]);
  expect(scene.told).toEqual([result]);
  expect(scene.queue.lastResult).toEqual(result);
});

test("what is not to be told is no last result", async () => {
  const scene = new Scene();
  const quiet = scene.request("quiet");
  await scene.finish();
  expect(await quiet).toMatchObject({ reason: "quiet" });
  expect(scene.told).toEqual([]);
  expect(scene.queue.lastResult).toBeUndefined();
});

test("one that fails does not keep the next from its turn", async () => {
  const scene = new Scene();
  scene.broken.add("bad");
  const both = Promise.allSettled(["bad", "good"].map(scene.request));
  await scene.finish();
  expect(await both).toMatchObject([
    { status: "rejected", reason: new Error("no good") },
    { status: "fulfilled", value: { reason: "good" } },
  ]);
  await scene.queue.ended();
});
