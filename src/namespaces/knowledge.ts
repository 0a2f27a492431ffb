import { CachedStates, type CachedStatesOptions } from "../cache/cached-states.ts";
import { afterPoll, afterRows, type KillSet } from "../evaluation/kill-set.ts";
import type { FlagState, Override } from "../evaluation/state.ts";
import { isOlder, type Stamp, type Version } from "../evaluation/version.ts";
import type { FlagTable } from "../flags/definition.ts";
import { ChangeLog } from "../kills/change-log.ts";
import type { Answer, Kills } from "../store/flag-store.ts";
import { Latest } from "../system/latest.ts";
import { type InvalidValue, InvalidValueWatch } from "./invalid-value-watch.ts";

/** What a namespace learns, for metrics and logs. */
export interface KnowledgeEvents {
  readonly onKillSet: (next: KillSet, previous: KillSet | undefined) => void;
  /** The store is another one than before: restored, failed over or replaced. */
  readonly onEpochChange: (next: Version | undefined, previous: Version | undefined) => void;
  readonly onInvalidValue: (invalid: InvalidValue) => void;
}

export interface KnowledgeOptions
  extends Omit<CachedStatesOptions, "isDefined" | "floor" | "onFlagRows" | "onOverrideRows"> {
  readonly flags: Latest<FlagTable>;
  readonly events: KnowledgeEvents;
  /** The rows come from another epoch than the kill set: the kill set has to be read again. */
  readonly onOutdatedKillSet: () => void;
}

/** All that is known of the store's state: the kill set and the rows, kept in agreement by version. */
export class Knowledge {
  /** Undefined while the kill set has never been learnt. */
  readonly killSet = new Latest<KillSet | undefined>(undefined);
  readonly states: CachedStates;
  /** What the polls said had changed, for other evaluators. */
  readonly changes = new ChangeLog();
  readonly #options: KnowledgeOptions;
  readonly #invalidValues: InvalidValueWatch;
  /** Rows and kill set came from different epochs: what changed within one does not tell what else is outdated. */
  #mixesEpochs = false;

  constructor(options: KnowledgeOptions) {
    this.#options = options;
    this.#invalidValues = new InvalidValueWatch(options.events.onInvalidValue);
    this.states = new CachedStates({
      ...options,
      isDefined: (flagId) => options.flags.value.find(flagId)?.id === flagId,
      floor: () => this.killSet.value?.stamp,
      onFlagRows: (rows, stamp) => this.#applyFlagRows(rows, stamp),
      onOverrideRows: (rows, stamp) => this.#applyOverrideRows(rows, stamp),
    });
  }

  /** Takes in a poll of the kill set, and what it says changed. One that is older than what is known is dropped. */
  applyKills(answer: Answer<Kills>, askedAt: number): void {
    const { flagIds, overrides, changes } = answer.value;
    const stamp: Stamp = { version: answer.version, askedAt };
    const previous = this.killSet.value;
    const polled = afterPoll(previous, { flagIds, overrides, stamp, readAt: askedAt - answer.ageMs });
    if (polled === undefined) return;
    this.changes.add(answer.version, changes);
    const isOtherEpoch = previous !== undefined && !sameEpoch(previous.stamp, stamp);
    if (isOtherEpoch) this.#options.events.onEpochChange(answer.version, previous.stamp.version);
    this.#replaceKillSet(this.#withNewerRows(polled));
    // A store without versions cannot say what changed: there the times to live decide alone.
    if (answer.version !== undefined) {
      this.states.applyChanges(this.#mixesEpochs ? { kind: "unknown" } : changes, stamp);
    }
    this.#mixesEpochs = isOtherEpoch;
  }

  /** Rows that were read after the poll and overtook it keep their say. */
  #withNewerRows(polled: KillSet): KillSet {
    let killSet = polled;
    for (const [stamp, rows] of this.states.rowsAfter(polled.stamp)) {
      killSet = afterRows(killSet, rows, stamp) ?? killSet;
    }
    return killSet;
  }

  #replaceKillSet(next: KillSet): void {
    const previous = this.killSet.value;
    this.killSet.replace(next);
    this.states.applyKillSet(previous, next);
    this.#options.events.onKillSet(next, previous);
  }

  #applyFlagRows(rows: ReadonlyMap<string, FlagState | undefined>, stamp: Stamp): void {
    for (const row of rows.values()) {
      if (row !== undefined) this.#invalidValues.check(row, this.#typeOf(row) ?? row.type);
    }
    const known = this.killSet.value;
    if (known === undefined) return;
    const next = afterRows(known, rows, stamp);
    if (next !== undefined && next !== known) this.#replaceKillSet(next);
    // A late answer may have brought back a row whose kill is over.
    else if (isOlder(stamp, known.stamp)) this.states.withdrawKillsBefore(known);
    this.#checkEpoch(stamp);
  }

  #applyOverrideRows(rows: Iterable<Override>, stamp: Stamp): void {
    for (const row of rows) this.#invalidValues.check(row, this.#typeOf(row));
    this.#checkEpoch(stamp);
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

function sameEpoch(a: Stamp, b: Stamp): boolean {
  return a.version?.epoch === b.version?.epoch;
}
