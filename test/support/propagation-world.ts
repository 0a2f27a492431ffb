import { setImmediate } from "node:timers/promises";
import type { KillSet } from "../../src/evaluation/kill-set.ts";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { FlagState } from "../../src/evaluation/state.ts";
import type { Version } from "../../src/evaluation/version.ts";
import { FakeClock, settle } from "./fake-clock.ts";
import { defineFlag, flagValue, overrideOf, stateOf, tableOf } from "./flag-builders.ts";
import { MemoryStore } from "./memory-store.ts";
import { decodeKept, Link, Tier, type TierOptions } from "./tiers.ts";

export const FLAG_IDS = ["a/1", "a/2", "b/1"] as const;
export const ENTITY_IDS = ["ann", "bob"] as const;
export const ROOTS = 2;
/** By number: two roots, two over both of them, two over both of those. */
export const SEATS = 6;
export const LINKS = 8;

export type Ttls = Required<
  Pick<NonNullable<TierOptions["ttls"]>, "killTtlMs" | "flagTtlMs" | "overrideTtlMs">
>;

/** Breakers let a trial through after 30 s, and knowledge is refreshed after 10 s at most. */
const ALL_IS_WELL_MS = 60_000;
/** Longer than the questions of two tiers. */
const RESTORE_MS = 1_100;
const QUESTIONS_A_LOOK = 4;

/** By what was answered, the earliest commit from which all answers so far can have been given in order. */
type Seen = Map<string, number>;

interface Kept {
  readonly bytes: Uint8Array;
  readonly seen: Seen;
}

/** Where a tier runs, one after the other. */
interface Seat {
  readonly name: string;
  readonly open: (kept: Uint8Array | undefined) => Tier;
  readonly linksTo: Link[];
  tier: Tier;
  seen: Seen;
  kept: Kept | undefined;
}

/**
 * Three tiers of two evaluators each over one store, all in this process, and a reference that knows the order of all
 * commits. Whatever a tier answers is some commit's state, and from no commit before one that it has answered from:
 * of each flag the kill and the row, and of each override, by itself. The commits of a new epoch come after all others.
 */
export class PropagationWorld implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore();
  readonly seats: Seat[] = [];
  readonly links: Link[] = [];
  readonly problems: string[] = [];
  /** Of each root, whether it is told of commits. */
  readonly hears = Array.from({ length: ROOTS }, () => true);
  readonly #ttls: Ttls;
  readonly #random: () => number;
  #epochs = 1;

  constructor(ttls: Ttls, random: () => number) {
    this.#ttls = ttls;
    this.#random = random;
    for (const flagId of FLAG_IDS) this.set(flagId);
    const roots = [0, 1].map((i) =>
      this.#seat(`root ${i}`, (options) => new Tier(options, { kind: "store", store: this.store })),
    );
    const middles = [0, 1].map((i) => this.#seatOver(`middle ${i}`, roots, "round-robin"));
    this.#seatOver("edge 0", middles, "round-robin");
    this.#seatOver("edge 1", middles, "priority");
  }

  // What is done to the store.

  set(flagId: string): void {
    this.#commit(() => this.store.set(this.#newRow(flagId)));
  }

  /** Its value comes back with the revive. */
  setKilled(flagId: string, killed: boolean): void {
    const row = this.store.rowAt(flagId, this.store.head) ?? this.#newRow(flagId);
    this.#commit(() => this.store.set({ ...row, mode: killed ? "killed" : "enabled" }));
  }

  setOverride(flagId: string, entityId: string): void {
    const value = flagValue(`own ${this.store.head + 1}`);
    this.#commit(() => this.store.setOverride(overrideOf(flagId, entityId, { value })));
  }

  removeOverride(flagId: string, entityId: string): void {
    this.#commit(() => this.store.removeOverride(flagId, entityId));
  }

  /**
   * From a backup, or a failover that lost commits. Nobody can read meanwhile: which of two epochs was read first is
   * known no better than to the time that questions take.
   */
  async restore(commitsBack: number): Promise<void> {
    this.#epochs += 1;
    this.store.away = true;
    await this.clock.advance(RESTORE_MS);
    this.store.away = false;
    this.#commit(() => this.store.restore(`epoch-${this.#epochs}`, commitsBack));
  }

  // What is done to the tiers.

  root(i: number): Tier {
    return this.#seatAt(i).tier;
  }

  link(i: number): Link {
    const link = this.links[i];
    if (link === undefined) throw new Error(`expected a link up to ${this.links.length - 1}, got ${i}`);
    return link;
  }

  /** What the tier knows is written to its file. */
  keep(i: number): void {
    const seat = this.#seatAt(i);
    const bytes = seat.tier.keep();
    if (bytes !== undefined) seat.kept = { bytes, seen: this.#floorOf(bytes, seat.seen) };
  }

  /** Without its file it begins anew: it may know less than what it has answered before. */
  async restart(i: number, withFile: boolean, awayMs: number): Promise<void> {
    const seat = this.#seatAt(i);
    for (const link of seat.linksTo) link.to = undefined;
    await this.#finish([seat.tier[Symbol.asyncDispose]()]);
    await this.clock.advance(awayMs);
    if (!withFile) seat.kept = undefined;
    seat.seen = new Map(seat.kept?.seen);
    seat.tier = seat.open(seat.kept?.bytes);
    for (const link of seat.linksTo) link.to = seat.tier;
    await settle();
  }

  /**
   * A root has lost the store before it was restored, and both tiers over it come to know it alone, having forgotten
   * what they knew: those over them do know of the new epoch.
   */
  async strand(i: number, commitsBack: number): Promise<void> {
    this.root(i).storeAway = true;
    await this.restore(commitsBack);
    await this.clock.advance(3_000);
    for (const middle of [0, 1]) {
      this.link(ROOTS * middle + i).cut = false;
      this.link(ROOTS * middle + 1 - i).cut = true;
      await this.restart(ROOTS + middle, false, 0);
    }
    await this.clock.advance(3_000);
  }

  heal(): void {
    for (const link of this.links) link.cut = false;
    for (let i = 0; i < ROOTS; i += 1) {
      this.root(i).storeAway = false;
      this.root(i).commitsBehind = 0;
      this.hears[i] = true;
    }
  }

  // What is looked at.

  /** Asks every tier a few things, one after the other, and compares with what it has answered before. */
  async look(): Promise<void> {
    await this.#finish(this.seats.map((seat) => this.#askSome(seat)));
  }

  /** Once all is well again, everybody knows everything. */
  async agree(): Promise<void> {
    this.heal();
    await this.clock.advance(ALL_IS_WELL_MS);
    for (let i = 0; i < 2; i += 1) {
      // The first time may bring what nobody has asked for before.
      await this.#finish(this.seats.map((seat) => this.#askAll(seat, i === 1)));
      await this.clock.advance(2_000);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#finish(this.seats.map(({ tier }) => tier[Symbol.asyncDispose]()));
  }

  #seat(name: string, open: (options: TierOptions) => Tier): Seat {
    const seat: Omit<Seat, "tier"> & { tier?: Tier } = {
      name,
      linksTo: [],
      seen: new Map(),
      kept: undefined,
      open: (kept) =>
        open({
          clock: this.clock,
          table: tableOf(...FLAG_IDS.map((id) => defineFlag(id))),
          random: this.#random,
          ttls: this.#ttls,
          follows: true,
          kept,
          onKillSet: (next) => this.#checkKillSet(seat as Seat, next),
        }),
    };
    const opened: Seat = Object.assign(seat, { tier: seat.open(undefined) });
    this.seats.push(opened);
    return opened;
  }

  #seatOver(name: string, upstreams: readonly Seat[], strategy: "round-robin" | "priority"): Seat {
    const links = upstreams.map((upstream) => {
      const link = new Link(upstream.tier);
      upstream.linksTo.push(link);
      this.links.push(link);
      return link;
    });
    return this.#seat(
      name,
      (options) => new Tier(options, { kind: "tiers", links, pool: { strategy }, priorities: [2, 1] }),
    );
  }

  #seatAt(i: number): Seat {
    const seat = this.seats[i];
    if (seat === undefined) throw new Error(`expected a tier up to ${this.seats.length - 1}, got ${i}`);
    return seat;
  }

  #newRow(flagId: string): FlagState {
    return stateOf(flagId, { value: flagValue(`row ${this.store.head + 1}`) });
  }

  #commit(change: () => void): void {
    change();
    const version = this.store.versionAt(this.store.head);
    for (const [i, { tier }] of this.seats.slice(0, ROOTS).entries())
      if (this.hears[i] === true && !tier.storeAway) tier.notice(version);
  }

  /** Time passes until all this is done. */
  async #finish(doing: readonly Promise<unknown>[]): Promise<void> {
    const progress = { isDone: false };
    const done = Promise.all(doing).finally(() => {
      progress.isDone = true;
    });
    done.catch(() => {});
    await settle();
    while (!progress.isDone) {
      await this.clock.advance(50);
      await setImmediate();
    }
    await done;
  }

  async #askSome(seat: Seat): Promise<void> {
    for (let i = 0; i < QUESTIONS_A_LOOK; i += 1) {
      const flagId = this.#oneOf(FLAG_IDS);
      const entityId = this.#oneOf(["", ...ENTITY_IDS]);
      if (this.#random() < 0.2) await this.#checkClaims(seat, flagId, entityId);
      else this.#hear(seat, flagId, entityId, await seat.tier.evaluate(flagId, entityId));
    }
  }

  async #askAll(seat: Seat, mustAgree: boolean): Promise<void> {
    for (const flagId of FLAG_IDS) {
      for (const entityId of ["", ...ENTITY_IDS]) {
        const evaluation = await seat.tier.evaluate(flagId, entityId);
        this.#hear(seat, flagId, entityId, evaluation);
        const expected = this.#textAt(flagId, entityId, this.store.head);
        const got = textOf(evaluation);
        if (mustAgree && got !== expected)
          this.#report(seat, `at the end answered ${got} for ${flagId} ${entityId}, expected ${expected}`);
      }
    }
  }

  #oneOf<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }

  #report(seat: Seat, problem: string): void {
    this.problems.push(`${seat.name}: ${problem}`);
  }

  #textAt(flagId: string, entityId: string, commit: number): string {
    if (this.#isKilledAt(flagId, commit)) return "killed";
    return this.#overrideAt(flagId, entityId, commit) ?? this.#rowTextAt(flagId, commit) ?? "daily";
  }

  #isKilledAt(flagId: string, commit: number): boolean {
    return this.store.rowAt(flagId, commit)?.mode === "killed";
  }

  #rowTextAt(flagId: string, commit: number): string | undefined {
    return valueOf(this.store.rowAt(flagId, commit));
  }

  #overrideAt(flagId: string, entityId: string, commit: number): string | undefined {
    return valueOf(this.store.overridesAt(entityId, commit).get(flagId));
  }

  /** An answer has to fit to what this tier has answered before. */
  #hear(seat: Seat, flagId: string, entityId: string, evaluation: Evaluation): void {
    // Not ready yet: a row in state KILLED does not go before an override while there is no kill set.
    if (seat.tier.namespace.killSet.value === undefined) return;
    const text = textOf(evaluation);
    const killed = text === "killed";
    const isKilled = (commit: number) => this.#isKilledAt(flagId, commit);
    if (text === "daily") {
      // Nothing is known yet, or there is no row, or it is not to be used: it was killed, and is not any more.
      const last = seat.seen.get(`row of ${flagId}`);
      const isUseless = (commit: number) =>
        isKilled(commit) || this.store.rowAt(flagId, commit) === undefined;
      if (last !== undefined && this.#find(last, isUseless) === undefined)
        this.#report(seat, `forgot the row of ${flagId}, known since commit ${last}`);
      return;
    }
    this.#advance(seat, `kill of ${flagId}`, text, (commit) => isKilled(commit) === killed);
    if (killed) return;
    if (entityId !== "") {
      const own = text.startsWith("own ") ? text : undefined;
      this.#advance(
        seat,
        `override of ${flagId} for ${entityId}`,
        text,
        (commit) => this.#overrideAt(flagId, entityId, commit) === own,
      );
    }
    if (text.startsWith("row "))
      this.#advance(seat, `row of ${flagId}`, text, (commit) => this.#rowTextAt(flagId, commit) === text);
  }

  #advance({ seen, ...seat }: Seat, key: string, text: string, fits: (commit: number) => boolean): void {
    const last = seen.get(key) ?? 0;
    const commit = this.#find(last, fits);
    if (commit !== undefined) seen.set(key, commit);
    else this.#report({ seen, ...seat }, `answered ${text} after commit ${last} in ${key}`);
  }

  #find(from: number, fits: (commit: number) => boolean): number | undefined {
    for (let commit = from; commit <= this.store.head; commit += 1) if (fits(commit)) return commit;
    return undefined;
  }

  /**
   * What a tier hands on with a version must have been so at that version. It may be of an earlier one than before: what
   * is known to have changed since holds only at that which it was read at.
   */
  async #checkClaims(seat: Seat, flagId: string, entityId: string): Promise<void> {
    const { namespace } = seat.tier;
    const [row] = await namespace.flagRows([flagId]);
    if (row?.kind === "known" && row.version !== undefined) {
      const commit = this.store.commitOf(row.version);
      const [is, was] = [row.value, this.store.rowAt(flagId, commit)].map(
        (state) => `${state?.mode} ${valueOf(state)}`,
      );
      if (is !== was)
        this.#report(seat, `claimed ${is} of ${flagId} at commit ${commit}, where it was ${was}`);
    }
    if (entityId === "") return;
    const [own] = await namespace.overrideRows([entityId]);
    if (own?.kind === "known" && own.version !== undefined) {
      const commit = this.store.commitOf(own.version);
      const [is, was] = [own.value, this.store.overridesAt(entityId, commit)].map((overrides) =>
        FLAG_IDS.map((id) => valueOf(overrides?.get(id)) ?? "none").join(),
      );
      if (is !== was)
        this.#report(seat, `claimed ${is} of ${entityId} at commit ${commit}, where it was ${was}`);
    }
  }

  #checkKillSet(seat: Seat, { stamp, flagIds, corrections }: KillSet): void {
    if (stamp.version === undefined) return this.#report(seat, "has a kill set without a version");
    const commit = this.store.commitOf(stamp.version);
    const last = seat.seen.get("kill set") ?? 0;
    if (commit < last) this.#report(seat, `went back to commit ${commit} from ${last} with its kill set`);
    else seat.seen.set("kill set", commit);
    for (const flagId of FLAG_IDS) {
      const own = corrections.get(flagId)?.stamp.version;
      const at = own === undefined ? commit : this.store.commitOf(own);
      if (flagIds.has(flagId) !== this.#isKilledAt(flagId, at))
        this.#report(seat, `had ${flagId} wrong in the kill set of commit ${commit}, as of ${at}`);
    }
  }

  /** What can be answered by who knows no more than what was kept. */
  #floorOf(bytes: Uint8Array, seen: Seen): Seen {
    const floor = new Map(seen);
    const raise = (key: string, version: Version | undefined) => {
      if (version !== undefined) floor.set(key, Math.max(floor.get(key) ?? 0, this.store.commitOf(version)));
    };
    const { kills, flags, entities } = decodeKept(bytes);
    raise("kill set", kills.version);
    for (const flagId of FLAG_IDS) raise(`kill of ${flagId}`, kills.version);
    for (const { id, version } of flags) raise(`row of ${id}`, version);
    for (const { id, version } of entities)
      for (const flagId of FLAG_IDS) raise(`override of ${flagId} for ${id}`, version);
    return floor;
  }
}

function textOf({ value, source }: Evaluation): string {
  return source === "killed" ? "killed" : (valueOf({ value }) ?? "nothing");
}

function valueOf(holder: { readonly value: Evaluation["value"] } | undefined): string | undefined {
  const value = holder?.value?.value;
  return value?.case === "stringValue" ? value.value : undefined;
}
