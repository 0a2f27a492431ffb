import type { Version } from "./version.ts";

/** What is remembered under one key, as it outlives the process that learnt it. */
export interface Remembered<V> {
  /** A flag's or an entity's id. */
  readonly id: string;
  /** Undefined: the store holds nothing under this key. */
  readonly value: V | undefined;
  /** It holds at this version. Undefined where the store has none. */
  readonly version: Version | undefined;
  /** When the root read the database, by the wall clock, in whole milliseconds since 1970. */
  readonly readAtWallMs: number;
  /** It was known that something newer exists. */
  readonly isOutdated: boolean;
  /** It is wrong, and not to be served; nothing older may take its place all the same. */
  readonly isWithdrawn: boolean;
}

/**
 * When a question set out that was answered before this process began: everything that it asks itself set out later,
 * and so is newer wherever revisions do not decide.
 */
export const BEFORE_START = -Infinity;
