import type { FlagState, KilledOverride, Overrides } from "../evaluation/state.ts";
import type { Version } from "../evaluation/version.ts";

/** What a store said, and what it is worth. */
export interface Answer<T> {
  readonly value: T;
  /** The store's version in the same snapshot as `value`. Undefined where it has none. */
  readonly version: Version | undefined;
  /** How old `value` was when it was sent: 0 from a database, more from another evaluator. */
  readonly ageMs: number;
}

/** What changed between two versions. */
export type Changes =
  | { readonly kind: "listed"; readonly flagIds: readonly string[]; readonly entityIds: readonly string[] }
  /** Too long ago, another epoch, or a store without versions: anything may have changed. */
  | { readonly kind: "unknown" };

export interface Kills {
  readonly flagIds: ReadonlySet<string>;
  /** Undefined: as at the version that was given. */
  readonly overrides: readonly KilledOverride[] | undefined;
  /** Since the version that was given. */
  readonly changes: Changes;
}

/**
 * Where flag state lives: a Postgres database (root) or another evaluator (proxy).
 *
 * Every method settles within the store's fetch timeout, and rejects if the store could not be
 * reached or did not make sense. Nothing found is an answer: the key is missing from the map.
 */
export interface FlagStore extends AsyncDisposable {
  flagStates(flagIds: readonly string[]): Promise<Answer<ReadonlyMap<string, FlagState>>>;
  /** One entry for each entity that has overrides. */
  overrides(entityIds: readonly string[]): Promise<Answer<ReadonlyMap<string, Overrides>>>;
  /** The kill set, and what changed since the version the caller knows. */
  kills(since: Version | undefined): Promise<Answer<Kills>>;
}

/** The store could not answer in time, or not sensibly. */
export class StoreError extends Error {
  override readonly name = "StoreError";
}
