import { isSameVersion, type Version } from "../evaluation/version.ts";
import type { Changes, ListedChanges } from "../store/flag-store.ts";
import type { Clock } from "../system/clock.ts";

/** What changed between two polls. */
interface Step {
  readonly from: Version;
  readonly to: Version;
  readonly changes: ListedChanges;
  /** When the poll set out. */
  readonly askedAt: number;
}

/** By id, when it was committed last; undefined where that is not known. */
type Committed = ReadonlyMap<string, number | undefined>;

const STEPS_MAX = 1_000;
const IDS_MAX = 20_000;
const UNKNOWN: Changes = { kind: "unknown" };

/** Remembers what the last polls said had changed, so that other evaluators need not ask the database. */
export class ChangeLog {
  #steps: Step[] = [];
  #idCount = 0;
  #newest: Version | undefined;
  readonly #clock: Pick<Clock, "now">;

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  /**
   * A poll was applied that set out at `askedAt`. A gap, or another epoch, begins anew: what was before cannot be told any
   * more.
   */
  add(to: Version | undefined, changes: Changes, askedAt: number): void {
    const from = this.#newest;
    this.#newest = to;
    if (to === undefined || from === undefined || from.epoch !== to.epoch || changes.kind === "unknown") {
      this.#steps = [];
      this.#idCount = 0;
      return;
    }
    if (isSameVersion(from, to)) return;
    this.#steps.push({ from, to, changes, askedAt });
    this.#idCount += countOf(changes);
    while (this.#steps.length > STEPS_MAX || this.#idCount > IDS_MAX) this.#forgetOldest();
  }

  /** All that changed after this version, up to the newest poll. */
  since(version: Version | undefined): Changes {
    const newest = this.#newest;
    if (version === undefined || newest === undefined || version.epoch !== newest.epoch) return UNKNOWN;
    const oldest = this.#steps[0]?.from ?? newest;
    if (version.revision < oldest.revision) return UNKNOWN;
    const later = this.#steps.filter(({ to }) => to.revision > version.revision);
    const flags = new Map<string, number | undefined>();
    const entities = new Map<string, number | undefined>();
    for (const { changes, askedAt } of later) {
      const { flagIds, entityIds, committedAgo } = changes;
      addCommitted(flags, flagIds, committedAgo?.flagsMs, askedAt);
      addCommitted(entities, entityIds, committedAgo?.entitiesMs, askedAt);
    }
    const listed = { kind: "listed", flagIds: [...flags.keys()], entityIds: [...entities.keys()] } as const;
    const [flagsMs, entitiesMs] = [this.#agesOf(flags), this.#agesOf(entities)];
    if (flagsMs === undefined || entitiesMs === undefined) return listed;
    return { ...listed, committedAgo: { flagsMs, entitiesMs } };
  }

  /** Undefined unless all are known. */
  #agesOf(committed: Committed): readonly number[] | undefined {
    const now = this.#clock.now();
    const known = [...committed.values()].filter((at) => at !== undefined);
    return known.length < committed.size ? undefined : known.map((at) => now - at);
  }

  #forgetOldest(): void {
    const [oldest, ...rest] = this.#steps;
    if (oldest === undefined) return;
    this.#steps = rest;
    this.#idCount -= countOf(oldest.changes);
  }
}

function countOf({ flagIds, entityIds }: ListedChanges): number {
  return flagIds.length + entityIds.length;
}

function addCommitted(
  committed: Map<string, number | undefined>,
  ids: readonly string[],
  agoMs: readonly number[] | undefined,
  askedAt: number,
): void {
  let i = 0;
  for (const id of ids) {
    const ago = agoMs?.[i++];
    committed.set(id, ago === undefined ? undefined : askedAt - ago);
  }
}
