import * as fc from "fast-check";
import { expect, test } from "vitest";
import { ChangeLog } from "./change-log.ts";

const at = (revision: number, epoch = "one") => ({ epoch, revision });
const listed = (flagIds: readonly string[], entityIds: readonly string[] = []) =>
  ({ kind: "listed", flagIds, entityIds }) as const;

test("tells what changed since a version, from within a step too", () => {
  const log = new ChangeLog();
  log.add(at(5), { kind: "unknown" });
  log.add(at(5), listed([]));
  log.add(at(8), listed(["a/1"], ["user-1"]));
  log.add(at(9), listed(["a/2", "a/1"]));
  expect(log.since(at(9))).toEqual(listed([]));
  expect(log.since(at(8))).toEqual(listed(["a/2", "a/1"]));
  expect(log.since(at(7))).toEqual(listed(["a/1", "a/2"], ["user-1"]));
  expect(log.since(at(5))).toEqual(listed(["a/1", "a/2"], ["user-1"]));
  expect(log.since(at(4))).toEqual({ kind: "unknown" });
  expect(log.since(at(9, "two"))).toEqual({ kind: "unknown" });
  expect(log.since(undefined)).toEqual({ kind: "unknown" });
});

test.each([
  ["a gap", at(9), { kind: "unknown" } as const],
  ["another epoch", at(9, "two"), listed(["a/2"])],
  ["a store without versions", undefined, listed(["a/2"])],
])("after %s nothing from before can be told", (_, version, changes) => {
  const log = new ChangeLog();
  log.add(at(5), { kind: "unknown" });
  log.add(at(6), listed(["a/1"]));
  log.add(version, changes);
  expect(log.since(at(5))).toEqual({ kind: "unknown" });
  expect(log.since(at(6))).toEqual({ kind: "unknown" });
});

test("forgets the oldest when there is too much", () => {
  const log = new ChangeLog();
  log.add(at(0), { kind: "unknown" });
  for (let i = 1; i <= 3_000; i += 1) log.add(at(i), listed([`a/${i}`]));
  expect(log.since(at(1_999))).toEqual({ kind: "unknown" });
  expect(log.since(at(2_998))).toEqual(listed(["a/2999", "a/3000"]));

  log.add(at(3_001), listed(Array.from({ length: 30_000 }, (_, i) => `b/${i}`)));
  expect(log.since(at(3_000))).toEqual({ kind: "unknown" });
  expect(log.since(at(3_001))).toEqual(listed([]));
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
      const log = new ChangeLog();
      log.add(at(0), { kind: "unknown" });
      const changed: { revision: number; id: string }[] = [];
      let revision = 0;
      for (const { by, flag, gap } of all) {
        const ids = Array.from({ length: by }, (_, i) => {
          changed.push({ revision: revision + i + 1, id: `a/${flag + i}` });
          return `a/${flag + i}`;
        });
        revision += by;
        log.add(at(revision), gap && by > 0 ? { kind: "unknown" } : listed(ids));
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
