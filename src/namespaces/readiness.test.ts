import { expect, test } from "vitest";
import { Readiness } from "./readiness.ts";

test("a wait ends when it is reached, or when its signal aborts, be it before the wait began", async () => {
  const readiness = new Readiness();
  const gone = AbortSignal.abort(new Error("gone"));
  await expect(readiness.wait(gone)).rejects.toThrow("gone");
  const stop = new AbortController();
  const stopped = readiness.wait(stop.signal);
  const waiting = readiness.wait(new AbortController().signal);
  stop.abort(new Error("stopped"));
  await expect(stopped).rejects.toThrow("stopped");
  readiness.reach();
  await waiting;
  await readiness.wait(gone);
  expect(readiness.reached).toBe(true);
});
