import * as fc from "fast-check";
import { expect, test } from "vitest";
import { FakeClock } from "../../test/support/fake-clock.ts";
import { ChangeLog } from "./change-log.ts";

const clock = new FakeClock();
const at = (revision: number, epoch = "one") => ({ epoch, revision });
const listed = (flagIds: readonly string[], entityIds: readonly string[] = []) =>
  ({ kind: "listed", flagIds, entityIds }) as const;

test("tells what changed since a version, from within a step too", () => {
  const log = new ChangeLog(clock);
  log.add(at(5), { kind: "unknown" }, 0);
  log.add(at(5), listed([]), 0);
  log.add(at(8), listed(["a/1"], ["user-1"]), 0);
  log.add(at(9), listed(["a/2", "a/1"]), 0);
  expect(log.since(at(9))).toMatchObject(listed([]));
  expect(log.since(at(8))).toEqual(listed(["a/2", "a/1"]));
  expect(log.since(at(7))).toEqual(listed(["a/1", "a/2"], ["user-1"]));
  expect(log.since(at(5))).toEqual(listed(["a/1", "a/2"], ["user-1"]));
  expect(log.since(at(4))).toEqual({ kind: "unknown" });
  expect(log.since(at(9, "two"))).toEqual({ kind: "unknown" });
  expect(log.since(undefined)).toEqual({ kind: "unknown" });
});

test("tells how long ago the last commit of each was, where that is known of all", async () => {
  const log = new ChangeLog(clock);
  log.add(at(5), { kind: "unknown" }, 0);
  const from = clock.now();
  const told = (flagIds: readonly string[], flagsMs: readonly number[]) => ({
    ...listed(flagIds, ["user-1"]),
    committedAgo: { flagsMs, entitiesMs: [30] },
  });
  log.add(at(8), told(["a/1", "a/2"], [10, 20]), from);
  await clock.advance(100);
  log.add(at(9), told(["a/2"], [5]), clock.now());
  await clock.advance(1_000);
  expect(log.since(at(5))).toEqual({
    ...listed(["a/1", "a/2"], ["user-1"]),
    committedAgo: { flagsMs: [1_110, 1_005], entitiesMs: [1_030] },
  });
  log.add(at(10), listed(["a/3"]), clock.now());
  expect(log.since(at(8))).toEqual(listed(["a/2", "a/3"], ["user-1"]));
  log.add(at(11), told(["a/3"], [1]), clock.now());
  expect(log.since(at(8))).toMatchObject({ committedAgo: { flagsMs: [1_005, 1], entitiesMs: [30] } });
});

test.each([
  ["a gap", at(9), { kind: "unknown" } as const],
  ["another epoch", at(9, "two"), listed(["a/2"])],
  ["a store without versions", undefined, listed(["a/2"])],
])("after %s nothing from before can be told", (_, version, changes) => {
  const log = new ChangeLog(clock);
  log.add(at(5), { kind: "unknown" }, 0);
  log.add(at(6), listed(["a/1"]), 0);
  log.add(version, changes, 0);
  expect(log.since(at(5))).toEqual({ kind: "unknown" });
  expect(log.since(at(6))).toEqual({ kind: "unknown" });
});

test("forgets the oldest when there is too much", () => {
  const log = new ChangeLog(clock);
  log.add(at(0), { kind: "unknown" }, 0);
  for (let i = 1; i <= 3_000; i += 1) log.add(at(i), listed([`a/${i}`]), 0);
  expect(log.since(at(1_999))).toEqual({ kind: "unknown" });
  expect(log.since(at(2_998))).toEqual(listed(["a/2999", "a/3000"]));

  log.add(at(3_001), listed(Array.from({ length: 30_000 }, (_, i) => `b/${i}`)), 0);
  expect(log.since(at(3_000))).toEqual({ kind: "unknown" });
  expect(log.since(at(3_001))).toMatchObject(listed([]));
});

test("never leaves out a change", () => {
  const steps = fc.array(
    fc.record({
      by: fc.integer({ min: 0, max: 3 }),
      flag: fc.integer({ min: 0, max: 5 }),
      gap: fc.boolean(),
    }),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(steps, fc.integer({ min: 0, max: 60 }), (all, since) => {
      const log = new ChangeLog(clock);
      log.add(at(0), { kind: "unknown" }, 0);
      const changed: { revision: number; id: string }[] = [];
      let revision = 0;
      for (const { by, flag, gap } of all) {
        const ids = Array.from({ length: by }, (_, i) => {
          changed.push({ revision: revision + i + 1, id: `a/${flag + i}` });
          return `a/${flag + i}`;
        });
        revision += by;
        log.add(at(revision), gap && by > 0 ? { kind: "unknown" } : listed(ids), 0);
      }
      const told = log.since(at(Math.min(since, revision)));
      const missing =
        told.kind === "unknown"
          ? []
          : changed.filter(({ revision: r, id }) => r > since && !told.flagIds.includes(id));
      expect(missing).toEqual([]);
    }),
  );
});
