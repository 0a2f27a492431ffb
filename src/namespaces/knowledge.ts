import {
  CachedStates,
  type CachedStatesOptions,
  type FlagAndRow,
  type RememberedStates,
} from "../cache/cached-states.ts";
import {
  afterPoll,
  afterReads,
  afterRows,
  type KillSet,
  type RememberedKills,
  rememberKills,
  restoreKills,
} from "../evaluation/kill-set.ts";
import { BEFORE_START } from "../evaluation/remembered.ts";
import type { FlagState, KilledOverride, Override, Overrides } from "../evaluation/state.ts";
import { isOlder, type Stamp, type Version } from "../evaluation/version.ts";
import type { FlagTable } from "../flags/definition.ts";
import { isSameList } from "../flags/flag-value.ts";
import { ChangeLog } from "../kills/change-log.ts";
import type { Answer, Kills, ListedChanges } from "../store/flag-store.ts";
import type { Clock } from "../system/clock.ts";
import { Latest } from "../system/latest.ts";
import { giveWay, runInSlices } from "../system/run-in-slices.ts";
import { type InvalidValue, InvalidValueWatch } from "./invalid-value-watch.ts";
import { PropagationWatch } from "./propagation-watch.ts";

/** What a namespace learns, for metrics and logs. */
export interface KnowledgeEvents {
  readonly onKillSet: (next: KillSet, previous: KillSet | undefined) => void;
  /** The store is another one than before: restored, failed over or replaced. */
  readonly onEpochChange: (next: Version | undefined, previous: Version | undefined) => void;
  readonly onInvalidValue: (invalid: InvalidValue) => void;
  /** The change of a flag, or of an entity's overrides, is in force here, so long after it was committed. */
  readonly onPropagation: (sinceCommitMs: number) => void;
}

export interface KnowledgeOptions
  extends Omit<CachedStatesOptions, "isDefined" | "floor" | "onNewRow" | "onFlagRows" | "onOverrideRows"> {
  readonly flags: Latest<FlagTable>;
  readonly events: KnowledgeEvents;
  readonly clock: Pick<Clock, "now" | "wallNow">;
  /** The rows come from another epoch than the kill set: the kill set has to be read again. */
  readonly onOutdatedKillSet: () => void;
}

/** Changes of one poll. */
const MEASURED_AT_ONCE_MAX = 500;

/** All that is known, as it outlives the process. */
export interface RememberedKnowledge extends RememberedStates {
  readonly kills: RememberedKills;
}

/** All that is known of the store's state: the kill set and the rows, kept in agreement by version. */
export class Knowledge {
  /** Undefined while the kill set has never been learnt. */
  readonly killSet = new Latest<KillSet | undefined>(undefined);
  readonly states: CachedStates;
  /** What the polls said had changed, for other evaluators. */
  readonly changes: ChangeLog;
  /** When the kill set's version was committed, on the monotonic clock. Undefined where that is not known. */
  committedAt: number | undefined;
  readonly #options: KnowledgeOptions;
  readonly #invalidValues: InvalidValueWatch;
  readonly #propagation: PropagationWatch;
  /** Rows and kill set came from different epochs: what changed within one does not tell what else is outdated. */
  #mixesEpochs = false;

  constructor(options: KnowledgeOptions) {
    this.#options = options;
    this.changes = new ChangeLog(options.clock);
    this.#propagation = new PropagationWatch({
      isOutdated: (tier, id) => !(tier === "flags" && this.#isKilled(id)) && this.states.isOutdated(tier, id),
      onPropagation: (sinceCommitMs) => options.events.onPropagation(sinceCommitMs),
      clock: options.clock,
    });
    this.#invalidValues = new InvalidValueWatch(options.events.onInvalidValue);
    this.states = new CachedStates({
      ...options,
      isDefined: (flagId) => options.flags.value.find(flagId)?.id === flagId,
      floor: () => this.killSet.value?.stamp,
      onNewRow: (tier, id) => this.#propagation.forget(tier, id),
      onFlagRows: (rows, stamp) => this.#applyFlagRows(rows, stamp),
      onOverrideRows: (entityIds, found, stamp) => this.#applyOverrideRows(entityIds, found, stamp),
    });
  }

  /** All that is known, for a later process; undefined while the kill set has never been learnt. */
  remember(): RememberedKnowledge | undefined {
    const killSet = this.killSet.value;
    if (killSet === undefined) return undefined;
    const wallOffsetMs = this.#wallOffsetMs();
    const toWall = (at: number) => Math.round(at + wallOffsetMs);
    return { kills: rememberKills(killSet, toWall(killSet.readAt)), ...this.states.remembered(toWall) };
  }

  /**
   * Takes in what an earlier process knew, before anything else is known. Kills are in force at once, and rows answer as
   * what could not be refreshed. Whatever the store tells then is newer, but for older revisions of the same epoch.
   */
  restore({ kills, flags, entities }: RememberedKnowledge): void {
    const now = this.#options.clock.now();
    const wallOffsetMs = this.#wallOffsetMs();
    // A wall clock that was set back makes nothing younger than now.
    const fromWall = (wallMs: number) => Math.min(wallMs - wallOffsetMs, now);
    this.killSet.replace(restoreKills(kills, fromWall(kills.readAtWallMs)));
    this.states.restore({ flags, entities }, fromWall);
    this.changes.add(kills.version, { kind: "unknown" }, now);
    this.#mixesEpochs = [...flags, ...entities].some(
      ({ version }) => version?.epoch !== kills.version?.epoch,
    );
  }

  #wallOffsetMs(): number {
    const { clock } = this.#options;
    return clock.wallNow() - clock.now();
  }

  /** Takes in a poll of the kill set, and what it says changed. One that is older than what is known is dropped. */
  applyKills(answer: Answer<Kills>, askedAt: number): void {
    const { flagIds, overrides, changes, committedAgoMs } = answer.value;
    const readAt = askedAt - answer.ageMs;
    const stamp: Stamp = { version: answer.version, askedAt, readAt };
    const previous = this.killSet.value;
    const polled = afterPoll(previous, { flagIds, overrides, stamp, readAt });
    if (polled === undefined) return;
    this.changes.add(answer.version, changes, askedAt);
    // It may have been read later than it was asked for: then this is earlier than it was.
    this.committedAt = committedAgoMs === undefined ? undefined : askedAt - committedAgoMs;
    const isOtherEpoch = previous !== undefined && !sameEpoch(previous.stamp, stamp);
    if (isOtherEpoch) this.#options.events.onEpochChange(answer.version, previous.stamp.version);
    const next = this.#withNewerRows(polled);
    // A store without versions cannot say what changed: there the times to live decide alone.
    if (answer.version !== undefined) {
      this.states.applyChanges(this.#mixesEpochs ? { kind: "unknown" } : changes, stamp);
    }
    this.#replaceKillSet(next);
    this.#mixesEpochs = isOtherEpoch;
    // What happened before the start took as long as this was away.
    const isNews = !isOtherEpoch && previous !== undefined && previous.stamp.askedAt !== BEFORE_START;
    if (isNews && changes.kind === "listed") void this.#measure(changes, askedAt);
  }

  /** No evaluation waits for it: where there is much to measure, others have their turn first. */
  async #measure({ flagIds, entityIds, committedAgo }: ListedChanges, askedAt: number): Promise<void> {
    if (flagIds.length + entityIds.length > MEASURED_AT_ONCE_MAX) await giveWay();
    await runInSlices(this.#propagation.changed("flags", flagIds, committedAgo?.flagsMs ?? [], askedAt));
    await runInSlices(
      this.#propagation.changed("overrides", entityIds, committedAgo?.entitiesMs ?? [], askedAt),
    );
  }

  /** Then that is what an evaluation answers, whatever the row says. */
  #isKilled(flagId: string): boolean {
    return this.killSet.value?.flagIds.has(flagId) === true;
  }

  /** Rows that were read after the poll and overtook it keep their say. */
  #withNewerRows(polled: KillSet): KillSet {
    return afterReads(polled, this.states.rowsAfter(polled.stamp));
  }

  #replaceKillSet(next: KillSet): void {
    const previous = this.killSet.value;
    this.killSet.replace(next);
    this.states.applyKillSet(previous, next);
    this.#options.events.onKillSet(next, previous);
    this.#options.onLearnt?.(previous === undefined || !saysTheSame(previous, next));
  }

  #applyFlagRows(rows: readonly FlagAndRow[], stamp: Stamp): void {
    for (const [, row] of rows) {
      if (row !== undefined) this.#invalidValues.check(row, this.#typeOf(row) ?? row.type);
    }
    const known = this.killSet.value;
    if (known === undefined) return;
    const next = afterRows(known, rows, stamp);
    if (next !== undefined && next !== known) this.#replaceKillSet(next);
    // A late answer may have brought back a row whose kill is over.
    else if (isOlder(stamp, known.stamp)) this.states.withdrawKillsBefore(known);
    this.#checkEpoch(stamp);
    this.#propagation.read(
      "flags",
      rows.map(([flagId]) => flagId),
    );
  }

  #applyOverrideRows(entityIds: readonly string[], found: readonly Overrides[], stamp: Stamp): void {
    for (const overrides of found)
      for (const row of overrides.values()) this.#invalidValues.check(row, this.#typeOf(row));
    this.#checkEpoch(stamp);
    this.#propagation.read("overrides", entityIds);
  }

  #typeOf(row: FlagState | Override) {
    return this.#options.flags.value.find(row.flagId)?.type;
  }

  #checkEpoch(stamp: Stamp): void {
    const known = this.killSet.value;
    if (known === undefined || sameEpoch(stamp, known.stamp)) return;
    this.#mixesEpochs = true;
    this.#options.onOutdatedKillSet();
  }
}

function saysTheSame(a: KillSet, b: KillSet): boolean {
  if (!isSame(a.stamp, b.stamp) || !sameEpoch(a.stamp, b.stamp) || a.flagIds.size !== b.flagIds.size)
    return false;
  for (const flagId of a.flagIds) if (!b.flagIds.has(flagId)) return false;
  return a.overrides === b.overrides || isSameList(a.overrides.map(nameOf), b.overrides.map(nameOf));
}

function nameOf({ flagId, entityId }: KilledOverride): string {
  return `${flagId} ${entityId}`;
}

function isSame(a: Stamp, b: Stamp): boolean {
  return a.version?.revision === b.version?.revision;
}

function sameEpoch(a: Stamp, b: Stamp): boolean {
  return a.version?.epoch === b.version?.epoch;
}
