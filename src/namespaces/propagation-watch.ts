import type { CacheTier } from "../cache/cached-states.ts";
import type { Clock } from "../system/clock.ts";

export interface PropagationWatchOptions {
  /** Whether what would be answered now is from before the change that was told last. */
  readonly isOutdated: (tier: CacheTier, id: string) => boolean;
  /** The change of a flag, or of an entity's overrides, is in force here, so long after it was committed. */
  readonly onPropagation: (sinceCommitMs: number) => void;
  readonly clock: Pick<Clock, "now">;
}

/** Changes that are waited for, of each tier: what is forgotten before it is read again is not measured. */
const AWAITED_MAX = 10_000;
/** Changes that are taken in at once. */
const STEP = 100;

/** Measures how long it takes from the commit of a change until an evaluation here answers with it. */
export class PropagationWatch {
  readonly #options: PropagationWatchOptions;
  /** By id, when it was committed. */
  readonly #awaited: Readonly<Record<CacheTier, Map<string, number>>> = {
    flags: new Map(),
    overrides: new Map(),
  };

  constructor(options: PropagationWatchOptions) {
    this.#options = options;
  }

  /**
   * A poll said that these have changed; `agoMs` is since when, as of `askedAt`, in their order. In small steps, for
   * runInSlices.
   */
  *changed(
    tier: CacheTier,
    ids: readonly string[],
    agoMs: readonly number[],
    askedAt: number,
  ): Generator<void, void> {
    const { isOutdated, onPropagation, clock } = this.#options;
    const awaited = this.#awaited[tier];
    let i = 0;
    for (const id of ids) {
      const ago = agoMs[i];
      const known = awaited.get(id);
      // Of two changes of one flag that follow each other closely, the first is never in force.
      const committedAt = ago === undefined ? known : Math.max(askedAt - ago, known ?? -Infinity);
      if (committedAt !== undefined) {
        awaited.delete(id);
        if (isOutdated(tier, id)) awaited.set(id, committedAt);
        else onPropagation(clock.now() - committedAt);
      }
      i += 1;
      if (i % STEP === 0) yield;
    }
    for (const id of awaited.keys()) {
      if (awaited.size <= AWAITED_MAX) break;
      awaited.delete(id);
    }
  }

  /** What was remembered of it has been forgotten: from then on whoever asked was answered with the change. */
  forget(tier: CacheTier, id: string): void {
    this.#awaited[tier].delete(id);
  }

  /** These may be in force now. */
  read(tier: CacheTier, ids: Iterable<string>): void {
    const { isOutdated, onPropagation, clock } = this.#options;
    const awaited = this.#awaited[tier];
    if (awaited.size === 0) return;
    for (const id of ids) {
      const committedAt = awaited.get(id);
      if (committedAt === undefined || isOutdated(tier, id)) continue;
      awaited.delete(id);
      onPropagation(clock.now() - committedAt);
    }
  }
}
