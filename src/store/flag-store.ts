import type { FlagState, KilledOverride, Overrides } from "../evaluation/state.ts";
import type { Version } from "../evaluation/version.ts";

/** What something that a store said is worth. */
export interface Worth {
  /** The store's version in the same snapshot. Undefined where it has none. */
  readonly version: Version | undefined;
  /** How old it was when it was sent: 0 from a database, more from another evaluator. */
  readonly ageMs: number;
}

/** What a store said, and what it is worth. */
export interface Answer<T> extends Worth {
  readonly value: T;
}

/** What a store said of several keys. One that is missing is absent, unless it is untold. */
export interface Batch<V> extends Answer<ReadonlyMap<string, V>> {
  /** What single keys are worth, absent ones too, where that is not what the whole is. */
  readonly deviations?: ReadonlyMap<string, Worth>;
  /** Keys of which the store could not tell anything this time, or not in time: a failure for them alone. */
  readonly untold?: ReadonlySet<string>;
}

/** What changed between two versions. */
export type Changes =
  | {
      readonly kind: "listed";
      readonly flagIds: readonly string[];
      readonly entityIds: readonly string[];
      /** Unset where the store does not tell. */
      readonly committedAgo?: CommittedAgo;
    }
  /** Too long ago, another epoch, or a store without versions: anything may have changed. */
  | { readonly kind: "unknown" };

export type ListedChanges = Extract<Changes, { readonly kind: "listed" }>;

/** Since the last commit that changed each of what is listed, in milliseconds, in its order. */
export interface CommittedAgo {
  readonly flagsMs: readonly number[];
  readonly entitiesMs: readonly number[];
}

export interface Kills {
  readonly flagIds: ReadonlySet<string>;
  /** Undefined: as at the version that was given. */
  readonly overrides: readonly KilledOverride[] | undefined;
  /** Since the version that was given. */
  readonly changes: Changes;
  /**
   * From just before the commit of the newest revision to the read, in milliseconds, by the database's own clock.
   * Undefined where the store has no versions or does not tell.
   */
  readonly committedAgoMs: number | undefined;
}

/**
 * Where flag state lives: a Postgres database (root) or another evaluator (proxy).
 *
 * Every method settles within the store's fetch timeout, however many keys it is asked for, and rejects if the store
 * could not be reached or did not make sense. Nothing found is an answer: the key is missing from the map. What was told
 * of some keys counts where the time did not suffice for all: the others are untold, to be asked for again.
 *
 * `atLeast` is what the caller knows to exist. A store that remembers what it answers has to ask anew for it; an answer
 * may be older all the same, and says so.
 */
export interface FlagStore extends AsyncDisposable {
  /** How many questions about flags it may be asked side by side, where all do not go into one. Unset: 1. */
  readonly questionsAtOnce?: number | undefined;
  /** At most 1,000 ids, as many as another evaluator takes. */
  flagStates(flagIds: readonly string[], atLeast?: Version): Promise<Batch<FlagState>>;
  /** One entry for each entity that has overrides. At most 1,000 ids. */
  overrides(entityIds: readonly string[], atLeast?: Version): Promise<Batch<Overrides>>;
  /** The kill set, and what changed since the version the caller knows. */
  kills(since: Version | undefined, atLeast?: Version): Promise<Answer<Kills>>;
}

/** The store could not answer in time, or not sensibly. */
export class StoreError extends Error {
  override readonly name = "StoreError";
}
