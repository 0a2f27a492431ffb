import { BEFORE_START } from "./remembered.ts";
import type { FlagState, KilledOverride } from "./state.ts";
import { isOlder, type Stamp, type Version } from "./version.ts";

/**
 * Killed overrides that a kill set tells of. No evaluation needs them, and they must not hold up the kills of flags: those
 * beyond are found with their entity's rows.
 */
export const KILLED_OVERRIDES_MAX = 20_000;

/** What one read of the kill set said. */
export interface PolledKills {
  readonly flagIds: ReadonlySet<string>;
  /** Undefined: the same as before. */
  readonly overrides: readonly KilledOverride[] | undefined;
  readonly stamp: Stamp;
  /** When the root read the database, on this process's monotonic clock, in milliseconds. */
  readonly readAt: number;
}

/** All flags in state KILLED, as of the best knowledge there is. Replaced as a whole, never edited. */
export interface KillSet extends PolledKills {
  readonly overrides: readonly KilledOverride[];
  /** What the poll itself said: that alone holds at the stamp's version. */
  readonly polledIds: ReadonlySet<string>;
  /** What rows newer than the poll said where it differs from the poll. */
  readonly corrections: ReadonlyMap<string, Correction>;
}

interface Correction {
  readonly killed: boolean;
  readonly stamp: Stamp;
}

export function isKilled(kills: KillSet | undefined, flagId: string): boolean {
  return kills?.flagIds.has(flagId) ?? false;
}

/** The kill set after a poll; undefined if the poll is older than what is known. Newer corrections keep their say. */
export function afterPoll(current: KillSet | undefined, polled: PolledKills): KillSet | undefined {
  const overrides = polled.overrides ?? current?.overrides ?? [];
  const polledIds = polled.flagIds;
  if (current === undefined) return { ...polled, overrides, polledIds, corrections: new Map() };
  if (isOlder(polled.stamp, current.stamp)) return undefined;
  const corrections = new Map<string, Correction>();
  for (const [flagId, correction] of current.corrections) {
    if (isOlder(polled.stamp, correction.stamp)) corrections.set(flagId, correction);
  }
  return { ...polled, overrides, polledIds, flagIds: correct(polledIds, corrections), corrections };
}

/** Rows by flag id; undefined: the store holds none. */
type ReadRows = Iterable<readonly [flagId: string, row: FlagState | undefined]>;

/**
 * The kill set after rows were read. A row in state KILLED that is newer than the kill set kills its flag at
 * once, and one in another state revives it; an older row has no say. Without versions a row revives nothing
 * that the poll killed: it was asked for later, but an evaluator in between may have answered from a memory
 * older than its kill set. Without a kill set nothing is known: rows alone do not make one.
 */
export function afterRows(current: KillSet | undefined, rows: ReadRows, stamp: Stamp): KillSet | undefined {
  return current === undefined ? undefined : afterReads(current, [[stamp, rows]]);
}

/** The same for the rows of several reads. */
export function afterReads(current: KillSet, reads: Iterable<readonly [Stamp, ReadRows]>): KillSet {
  // Copied when there is something to correct, and once for all.
  let corrected: { readonly flagIds: Set<string>; readonly corrections: Map<string, Correction> } | undefined;
  for (const [stamp, rows] of reads) {
    if (isOlder(stamp, current.stamp)) continue;
    for (const [flagId, row] of rows) {
      const { flagIds, corrections } = corrected ?? current;
      const killed = row?.mode === "killed";
      if (killed === flagIds.has(flagId)) continue;
      const earlier = corrections.get(flagId);
      if (earlier !== undefined && isOlder(stamp, earlier.stamp)) continue;
      if (earlier === undefined && !killed && stamp.version === undefined) continue;
      corrected ??= { flagIds: new Set(flagIds), corrections: new Map(corrections) };
      corrected.corrections.set(flagId, { killed, stamp });
      if (killed) corrected.flagIds.add(flagId);
      else corrected.flagIds.delete(flagId);
    }
  }
  return corrected === undefined ? current : { ...current, ...corrected };
}

function correct(
  flagIds: ReadonlySet<string>,
  corrections: ReadonlyMap<string, Correction>,
): ReadonlySet<string> {
  if (corrections.size === 0) return flagIds;
  const corrected = new Set(flagIds);
  for (const [flagId, { killed }] of corrections) {
    if (killed) corrected.add(flagId);
    else corrected.delete(flagId);
  }
  return corrected;
}

/** A kill set as it outlives the process that learnt it. */
export interface RememberedKills {
  /** As the last poll said. */
  readonly flagIds: readonly string[];
  readonly overrides: readonly KilledOverride[];
  /** Undefined where the store has none. */
  readonly version: Version | undefined;
  /** When the root read the database, by the wall clock, in whole milliseconds since 1970. */
  readonly readAtWallMs: number;
  /** What newer rows said. */
  readonly corrections: readonly RememberedCorrection[];
}

export interface RememberedCorrection {
  readonly flagId: string;
  readonly killed: boolean;
  readonly version: Version | undefined;
}

/** `readAtWallMs` is the kill set's `readAt` by the wall clock. */
export function rememberKills(
  { polledIds, overrides, stamp, corrections }: KillSet,
  readAtWallMs: number,
): RememberedKills {
  return {
    flagIds: [...polledIds],
    overrides,
    version: stamp.version,
    readAtWallMs,
    corrections: Array.from(corrections, ([flagId, { killed, stamp }]) => ({
      flagId,
      killed,
      version: stamp.version,
    })),
  };
}

/** The kill set again. `readAt` is when it was read, on this process's monotonic clock. */
export function restoreKills(
  { flagIds, overrides, version, corrections }: RememberedKills,
  readAt: number,
): KillSet {
  const polledIds = new Set(flagIds);
  const stampOf = (version: Version | undefined): Stamp => ({ version, askedAt: BEFORE_START, readAt });
  const corrected = new Map(
    corrections.map(({ flagId, killed, version }) => [flagId, { killed, stamp: stampOf(version) }]),
  );
  return {
    flagIds: correct(polledIds, corrected),
    overrides,
    stamp: stampOf(version),
    readAt,
    polledIds,
    corrections: corrected,
  };
}
