import { openSnapshotWriter } from "../../src/kills/snapshot/snapshot-writer.ts";
import { systemClock } from "../../src/system/clock.ts";
import { snapshotOf } from "./snapshots.ts";

/** What the keeper is told to do, as JSON in its first argument. */
export interface KeeperOrders {
  readonly folder: string;
  /** How many entities each snapshot has, one after the other, again and again. */
  readonly entities: readonly number[];
  /** The first has this revision. */
  readonly from: number;
  /** Ends after so many tries. Unset: never. */
  readonly tries?: number;
}

/** What the keeper says, a line of JSON each. */
export type KeeperWord =
  /** What has been written survives whatever comes. */
  | { readonly kind: "written"; readonly revision: number }
  | { readonly kind: "problem"; readonly revision: number; readonly problem: string };

function say(word: KeeperWord): void {
  process.stdout.write(`${JSON.stringify(word)}\n`);
}

/** A process that keeps one snapshot after the other, to be killed by a test. */
async function main(): Promise<void> {
  const { folder, entities, from, tries = Infinity }: KeeperOrders = JSON.parse(process.argv[2] ?? "{}");
  let revision = from;
  let next = () => {};
  await using writer = openSnapshotWriter({
    folder,
    read: () => snapshotOf(revision, { entities: entities[(revision - from) % entities.length] ?? 0 }),
    // By a clock that stands still, writing takes no time, and so it does not rest.
    clock: { ...systemClock, now: () => 0 },
    debounceMs: 0,
    onWritten() {
      say({ kind: "written", revision });
      next();
    },
    onProblem(problem) {
      say({ kind: "problem", revision, problem });
      next();
    },
  });
  for (; revision < from + tries; revision++) {
    await new Promise<void>((resolve) => {
      next = resolve;
      writer.changed();
    });
  }
  // It is written a last time.
  revision -= 1;
  next = () => {};
}

await main();
