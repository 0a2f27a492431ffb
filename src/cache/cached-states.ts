import type { MaybeLater, States } from "../evaluation/evaluator.ts";
import { canHaveOverrides } from "../evaluation/ids.ts";
import type { KillSet } from "../evaluation/kill-set.ts";
import type { Remembered } from "../evaluation/remembered.ts";
import type { FlagState, Found, Overrides } from "../evaluation/state.ts";
import { isOlder, type Stamp } from "../evaluation/version.ts";
import type { Changes, FlagStore } from "../store/flag-store.ts";
import type { Clock } from "../system/clock.ts";
import { type Entry, FreshCache, type HitsAndMisses, type Known } from "./fresh-cache.ts";
import { createEntityMemory, createFlagMemory } from "./memory.ts";

/** What the daemon remembers at two levels, as the metrics name them. */
export type CacheTier = "flags" | "overrides";

/** Of a flag, what the store holds; undefined: no row. */
export type FlagAndRow = readonly [flagId: string, row: FlagState | undefined];

export interface CachedStatesOptions {
  readonly store: Pick<FlagStore, "flagStates" | "overrides" | "questionsAtOnce">;
  /** Whether the store is known to be away, so that asking is of no use. */
  readonly isCut: () => boolean;
  /** The stamp of the kill set in force. */
  readonly floor: () => Stamp | undefined;
  /** Whether the descriptors define this flag: then it is never forgotten. */
  readonly isDefined: (flagId: string) => boolean;
  readonly flagTtlMs: number;
  readonly overrideTtlMs: number;
  readonly negativeTtlMs: number;
  readonly overrideEntriesMax: number;
  /** Share of a TTL, 0 to 1. */
  readonly jitter: number;
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly onFlagRows: (rows: readonly FlagAndRow[], stamp: Stamp) => void;
  /** Of those entities that have overrides, what they are. */
  readonly onOverrideRows: (entityIds: readonly string[], found: readonly Overrides[], stamp: Stamp) => void;
  /** A row is about to be told of which nothing was remembered. */
  readonly onNewRow: (tier: CacheTier, id: string) => void;
  /** Told once for all that was looked up together. */
  readonly onLookUps: (tier: CacheTier, counted: HitsAndMisses) => void;
  /** The store told something. News: what was missing until now, or was known to have changed. */
  readonly onLearnt?: (isNews: boolean) => void;
}

/** What is remembered, as it outlives the process. */
export interface RememberedStates {
  readonly flags: readonly Remembered<FlagState>[];
  /** Those that would be missed most first. */
  readonly entities: readonly Remembered<Overrides>[];
}

/** Flags that are not defined and still remembered, so that made-up ids cost bounded memory. */
const UNDEFINED_FLAGS_MAX = 10_000;
/** Entities that outlive the process: gathering so many takes tens of milliseconds. */
const REMEMBERED_ENTITIES_MAX = 100_000;

/** Answers the evaluator from memory, and from the store when memory is too old. */
export class CachedStates implements States {
  readonly #flags: FreshCache<FlagState>;
  readonly #overrides: FreshCache<Overrides>;
  readonly #isDefined: CachedStatesOptions["isDefined"];
  readonly #onLookUps: CachedStatesOptions["onLookUps"];

  constructor(options: CachedStatesOptions) {
    const { store, isCut, floor, isDefined, negativeTtlMs, jitter, clock, random, onLookUps, onLearnt } =
      options;
    this.#isDefined = isDefined;
    this.#onLookUps = onLookUps;
    const common = { negativeTtlMs, jitter, clock, random, isCut, floor };
    this.#flags = new FreshCache<FlagState>({
      ...common,
      ttlMs: options.flagTtlMs,
      isRefreshedAhead: isDefined,
      memory: createFlagMemory<Entry<FlagState>>(isDefined, UNDEFINED_FLAGS_MAX),
      fetch: (flagIds, atLeast) => store.flagStates(flagIds, atLeast),
      batchesAtOnce: store.questionsAtOnce,
      onAnswer: (flagIds, { value }, stamp) =>
        options.onFlagRows(
          flagIds.map((flagId) => [flagId, value.get(flagId)]),
          stamp,
        ),
      onLearnt(flagId, previous) {
        if (previous === "none") options.onNewRow("flags", flagId);
        onLearnt?.(previous === "none" ? isDefined(flagId) : previous === "outdated");
      },
      onRead: (counted) => onLookUps("flags", counted),
    });
    this.#overrides = new FreshCache<Overrides>({
      ...common,
      ttlMs: options.overrideTtlMs,
      isPossible: canHaveOverrides,
      memory: createEntityMemory<Entry<Overrides>>(options.overrideEntriesMax),
      fetch: (entityIds, atLeast) => store.overrides(entityIds, atLeast),
      onAnswer: (entityIds, { value }, stamp) =>
        options.onOverrideRows(
          entityIds,
          entityIds.flatMap((entityId) => value.get(entityId) ?? []),
          stamp,
        ),
      onLearnt(entityId, previous) {
        if (previous === "none") options.onNewRow("overrides", entityId);
        onLearnt?.(previous === "outdated");
      },
      onRead: (counted) => onLookUps("overrides", counted),
    });
  }

  flagState(flagId: string, now?: number): MaybeLater<Found<FlagState>> {
    return this.#flags.read(flagId, now);
  }

  flagStates(flagIds: readonly string[], now?: number): MaybeLater<readonly Found<FlagState>[]> {
    return this.#flags.readMany(flagIds, now);
  }

  overrides(entityId: string, now?: number): MaybeLater<Found<Overrides>> {
    return this.#overrides.read(entityId, now);
  }

  get flagsRevision(): number {
    return this.#flags.revision;
  }

  freshFlag(flagId: string, now: number): Entry<FlagState> | undefined {
    return this.#flags.fresh(flagId, now);
  }

  countHits(count: number): void {
    this.#onLookUps("flags", { hits: count, misses: 0 });
  }

  /** What is remembered of each flag, for another evaluator; see `FreshCache.current`. */
  currentFlags(flagIds: readonly string[]): Promise<readonly (Known<FlagState> | undefined)[]> {
    return this.#flags.current(flagIds);
  }

  /** What is remembered of each entity, for another evaluator; see `FreshCache.current`. */
  currentOverrides(entityIds: readonly string[]): Promise<readonly (Known<Overrides> | undefined)[]> {
    return this.#overrides.current(entityIds);
  }

  /** All that is worth keeping for the next start. `toWall` gives a time of the monotonic clock by the wall clock. */
  remembered(toWall: (readAt: number) => number): RememberedStates {
    return {
      flags: this.#flags.remembered(
        toWall,
        // That the store does not hold what somebody made up is soon learnt again.
        (flagId, value, isWithdrawn) => value !== undefined || isWithdrawn || this.#isDefined(flagId),
        Infinity,
      ),
      entities: this.#overrides.remembered(toWall, () => true, REMEMBERED_ENTITIES_MAX),
    };
  }

  /** Takes that in again, before anything else is known but the kill set; see `FreshCache.restore`. */
  restore({ flags, entities }: RememberedStates, fromWall: (readAtWallMs: number) => number): void {
    this.#flags.restore(flags, fromWall);
    this.#overrides.restore(entities, fromWall);
  }

  /** Asks for these flags now, in one batch. False if the store failed. */
  loadFlags(flagIds: readonly string[]): Promise<boolean> {
    return flagIds.length === 0 ? Promise.resolve(true) : this.#flags.load(flagIds);
  }

  /** Whether something is known about each of these flags, be it that the store holds no row. */
  knowsFlags(flagIds: readonly string[]): boolean {
    return flagIds.every((flagId) => this.#flags.peek(flagId) !== undefined);
  }

  /** Whether what is remembered is known to have changed since it was read. */
  isOutdated(tier: CacheTier, id: string): boolean {
    const cache = tier === "flags" ? this.#flags : this.#overrides;
    return cache.isOutdated(id);
  }

  /** Flags in memory that the store holds a row for. */
  get flagCount(): number {
    let count = 0;
    this.#flags.forEach(({ value }, flagId) => {
      if (value !== undefined && !this.#flags.isWithdrawn(flagId)) count += 1;
    });
    return count;
  }

  /** Entities in memory, those without overrides counted. */
  get entityCount(): number {
    return this.#overrides.size;
  }

  /** When the oldest of these flags was read from the database; undefined if none is known. */
  oldestReadAt(flagIds: readonly string[]): number | undefined {
    let oldest = Infinity;
    for (const flagId of flagIds) oldest = Math.min(oldest, this.#flags.peek(flagId)?.readAt ?? Infinity);
    return oldest === Infinity ? undefined : oldest;
  }

  /** The descriptors were replaced: what they no longer define is remembered only while there is room. */
  flagsReplaced(): void {
    this.#flags.rearrange();
  }

  /** Rows that were read from a later state than `stamp`, those that are absent too, by what they were read from. */
  rowsAfter(stamp: Stamp): ReadonlyMap<Stamp, ReadonlyMap<string, FlagState | undefined>> {
    const rows = new Map<Stamp, Map<string, FlagState | undefined>>();
    this.#flags.forEach((entry, flagId) => {
      if (!isOlder(stamp, entry.stamp)) return;
      const batch = rows.get(entry.stamp) ?? new Map<string, FlagState | undefined>();
      rows.set(entry.stamp, batch.set(flagId, this.#flags.isWithdrawn(flagId) ? undefined : entry.value));
    });
    return rows;
  }

  /** Refreshes in the background what changed up to `stamp`, and what earlier changes still miss. */
  applyChanges(changes: Changes, stamp: Stamp): void {
    this.#flags.refreshOutdated();
    this.#overrides.refreshOutdated();
    const listed = changes.kind === "listed";
    this.#flags.expire(listed ? changes.flagIds : this.#flags.keys(), stamp);
    this.#overrides.expire(listed ? changes.entityIds : this.#overrides.keys(), stamp);
  }

  /**
   * Makes room for what a new kill set says: a flag that left it may no longer be served from what was known
   * before, and is asked for at once.
   */
  applyKillSet(previous: KillSet | undefined, next: KillSet): void {
    this.#flags.refresh(this.withdrawKillsBefore(next));
    const revived: string[] = [];
    for (const flagId of previous?.flagIds ?? []) if (!next.flagIds.has(flagId)) revived.push(flagId);
    this.#flags.expire(revived, next.stamp, { drop: true });
  }

  /** Serves no more rows in state KILLED that are older than a kill set without them: they are wrong. Returns their ids. */
  withdrawKillsBefore({ flagIds, stamp }: KillSet): readonly string[] {
    const wrong: string[] = [];
    this.#flags.forEach((entry, flagId) => {
      if (entry.value?.mode !== "killed" || flagIds.has(flagId)) return;
      if (isOlder(entry.stamp, stamp) && !this.#flags.isWithdrawn(flagId)) wrong.push(flagId);
    });
    this.#flags.withdraw(wrong, stamp);
    return wrong;
  }

  /** Refreshes in the background what is past its time to live: the store is back. */
  refreshDue(): void {
    this.#flags.refreshDue();
    this.#overrides.refreshDue();
  }
}
