import { setImmediate } from "node:timers/promises";
import { inspect } from "node:util";
import { BulkMemory, isLater, type MaybeLater } from "../../src/evaluation/evaluator.ts";
import type { KillSet } from "../../src/evaluation/kill-set.ts";
import type { Evaluation } from "../../src/evaluation/precedence.ts";
import type { FlagState, Found, Override } from "../../src/evaluation/state.ts";
import type { FlagDefinition, FlagTable } from "../../src/flags/definition.ts";
import { type Namespace, openNamespace } from "../../src/namespaces/namespace.ts";
import { Latest } from "../../src/system/latest.ts";
import { isSame, reference, show, type Unknown } from "./chain-reference.ts";
import { FakeClock } from "./fake-clock.ts";
import { HeldCalls, type Phase } from "./held-calls.ts";
import { MemoryStore, type MemoryStoreCall, type MemoryStoreOperation } from "./memory-store.ts";

export interface WorldOptions {
  readonly table: FlagTable;
  /** Every flag id that anybody may ask for or write. */
  readonly flagIds: readonly string[];
  readonly entityIds: readonly string[];
  readonly versioned: boolean;
  readonly flagTtlMs: number;
  readonly overrideTtlMs: number;
  readonly overrideEntriesMax: number;
  readonly jitter: number;
  readonly random: () => number;
}

/** How the store behaves from now on. */
export interface Mood {
  readonly away?: boolean;
  /** Which calls the rest is about: all, unless it says so. */
  readonly of?: readonly MemoryStoreOperation[];
  readonly fails?: boolean;
  /** Calls wait, before they read or after, until they are delivered or their deadline passes. */
  readonly holds?: Phase;
  readonly commitsBehind?: number;
  readonly forgetsChanges?: boolean;
}

/** Up to which commit something was told, and when that question set out. */
interface Learnt {
  readonly commit: number;
  readonly askedAt: number;
}

/** What was known when a question was put. */
interface Asked {
  readonly what: string;
  readonly definition: FlagDefinition | undefined;
  readonly flagId: string;
  readonly entityId: string;
  readonly row: Learnt | undefined;
  readonly overrides: Learnt | undefined;
  readonly killSet: KillSet | undefined;
  readonly killSetsBefore: number;
  readonly revivedAfter: number | undefined;
  /** A question about the flag is under way that set out before the kill set. */
  readonly joins: boolean;
  readonly head: number;
}

export const KILL_TTL = 10_000;
/** Longer than from poll to poll, so that other calls can overtake one that is held. */
const FETCH_TIMEOUT = 2.5 * KILL_TTL;
const NEGATIVE_TTL = 5_000;
/** More rounds than any sensible chain of calls takes: from then on it is a loop that nothing slows. */
const ROUNDS_MAX = 100;

/** A namespace over a store that anything may happen to, and a judge who knows what was committed when. */
export class World implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly store = new MemoryStore();
  readonly namespace: Namespace;
  readonly #options: WorldOptions;
  readonly #flags: Latest<FlagTable>;
  readonly #held = new HeldCalls({ clock: this.clock, timeoutMs: FETCH_TIMEOUT });
  readonly #askedAt = new WeakMap<MemoryStoreCall, number>();
  readonly #learnt = new Map<string, Learnt>();
  readonly #pending = new Set<Promise<void>>();
  /** Of those who ask for several flags, by what they ask for. */
  readonly #memories = new Map<string, BulkMemory>();
  readonly #killSets: (KillSet | undefined)[] = [undefined];
  /** By flag that left the kill set: a commit at which it was still killed. */
  readonly #revivedAfter = new Map<string, number>();
  /** By commit. */
  readonly #committedAt: number[] = [0];
  #mood: Mood = {};
  #epochs = 1;
  #hasFailed = false;
  #failedAt = -1;
  /** Moods change within a moment, so that at this very one the store may have been unwell. */
  #wellSince = -1;
  #commitsBehindMax = 0;
  readonly #problems: string[] = [];

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#flags = new Latest(options.table);
    this.store.versioned = options.versioned;
    this.store.plan = (call) => this.#plan(call);
    this.store.onAnswer = (call, commit) => this.#learn(call, commit);
    this.namespace = openNamespace({
      ...options,
      flags: this.#flags,
      store: this.store,
      clock: this.clock,
      killTtlMs: KILL_TTL,
      negativeTtlMs: NEGATIVE_TTL,
      events: {
        onEvaluation: () => {},
        onEvaluations: () => {},
        onLookUps: () => {},
        onStoreCall: (_, __, error) => {
          if (error === undefined) return;
          this.#hasFailed = true;
          this.#failedAt = this.clock.now();
        },
        onStoreRecovery: () => {},
        onBreakerChange: () => {},
        onKillSet: (next, previous) => this.#noteKillSet(next, previous),
        onEpochChange: () => {},
        onInvalidValue: () => {},
        onPropagation: () => {},
      },
      traceStoreCall: (_, run) => run(),
    });
  }

  /** Changes the store. Each commit has a time of its own. */
  async commit(change: (store: MemoryStore) => void): Promise<void> {
    await this.clock.advance(1);
    change(this.store);
    while (this.#committedAt.length <= this.store.head) this.#committedAt.push(this.clock.now());
    await this.clock.advance(1);
  }

  /** The store is replaced by an older copy of itself. What was read of the old one may still arrive. */
  async restore(commitsBack: number): Promise<void> {
    this.#held.cutUnread();
    await this.commit((store) => store.restore(`epoch-${++this.#epochs}`, commitsBack));
    await this.quiet();
  }

  become(mood: Mood): void {
    if (Object.keys(mood).length > 0) this.#wellSince = Infinity;
    else if (this.#wellSince === Infinity) this.#wellSince = this.clock.now();
    this.#mood = mood;
    this.store.away = mood.away === true;
    this.#commitsBehindMax = Math.max(this.#commitsBehindMax, mood.commitsBehind ?? 0);
  }

  /** Lets one of the calls that are held go on. */
  async deliver(index: number): Promise<void> {
    this.#held.release(index);
    await this.quiet();
  }

  async reload(table: FlagTable): Promise<void> {
    this.#flags.replace(table);
    this.namespace.flagsReplaced();
    await this.quiet();
  }

  async wait(ms: number): Promise<void> {
    const before = this.store.calls.length;
    await this.clock.advance(ms);
    const calls = this.store.calls.length - before;
    const allowed = 60 + (ms / 1_000) * 25;
    if (calls > allowed) this.#problem(`${calls} calls in ${ms} ms`);
    await this.quiet();
  }

  /** Until the store is asked something that it holds back, for at most one poll. */
  async waitForHeld(): Promise<void> {
    const before = this.#held.size;
    const end = this.clock.now() + KILL_TTL * 1.25;
    while (this.#held.size <= before && this.clock.now() < end) await this.clock.advance(250);
    await this.quiet();
  }

  /** Until nothing moves any more but what is held and what waits for the clock. */
  async quiet(): Promise<void> {
    for (let rounds = 0, quiet = 0; quiet < 2; rounds++) {
      if (rounds > ROUNDS_MAX) throw new Error(`the store is asked without end: ${this.#lastCalls()}`);
      for (let i = 0; i < 2; i++) await setImmediate();
      quiet = [...this.store.underWay].every((call) => this.#held.has(call)) ? quiet + 1 : 0;
    }
    this.#checkKillSet();
    this.#checkRefreshed();
    this.#raise();
  }

  evaluate(flagId: string, entityId: string): void {
    const asked = this.#ask(flagId, entityId);
    this.#whenAnswered(this.namespace.evaluate(flagId, entityId), (evaluation, waited) => {
      this.#judge(asked, evaluation, waited);
      this.flagState(flagId);
      if (entityId !== "") this.overrides(entityId);
    });
  }

  evaluateMany(flagIds: readonly string[], entityId: string): void {
    const asked = flagIds.map((flagId) => this.#ask(flagId, entityId));
    const memory = this.#memories.get(flagIds.join()) ?? new BulkMemory();
    this.#memories.set(flagIds.join(), memory);
    const answer = this.namespace.evaluateMany(flagIds, entityId, memory);
    const again = this.namespace.evaluateMany(flagIds, entityId);
    if (!isLater(answer) && inspect(again) !== inspect(answer))
      this.#problem(`remembered ${inspect(answer)}, and without a memory it is ${inspect(again)}`);
    this.#whenAnswered(answer, (evaluations, waited) => {
      if (evaluations.length !== asked.length)
        this.#problem(`${evaluations.length} answers to ${flagIds.join(" ")}`);
      evaluations.forEach((evaluation, i) => {
        const one = asked[i];
        if (one !== undefined) this.#judge(one, evaluation, waited);
      });
    });
  }

  flagState(flagId: string): void {
    const asked = this.#ask(flagId, "");
    this.#whenAnswered(this.namespace.flagState(flagId), (found) => {
      const rows = (from: number) => this.#rowsFrom(asked.flagId, from);
      this.#judgeFound(asked, found, asked.row, this.#options.flagTtlMs, (from, value) =>
        rows(from).includes(value),
      );
    });
  }

  overrides(entityId: string): void {
    const asked = this.#ask("", entityId);
    this.#whenAnswered(this.namespace.overrides(entityId), (found) => {
      this.#judgeFound(asked, found, asked.overrides, this.#options.overrideTtlMs, (from, value) =>
        this.#commitsFrom(from).some((commit) => isSame(value, this.store.overridesAt(entityId, commit))),
      );
    });
  }

  /** After the store has been well for a while everything is answered as it stands, and fresh. */
  async settle(): Promise<void> {
    const { entityIds } = this.#options;
    this.become({});
    this.#held.releaseAll();
    await this.quiet();
    await Promise.all(this.#pending);
    await this.clock.advance(6_000);
    await this.clock.advance(KILL_TTL * 1.25 + 500);
    const { versioned, flagTtlMs, overrideTtlMs } = this.#options;
    if (!versioned) await this.clock.advance(Math.max(flagTtlMs, overrideTtlMs) * 2.5);
    await this.quiet();
    if (this.#held.size > 0) this.#problem(`${this.#held.size} calls never ended`);
    if (this.namespace.health.status !== "serving") this.#problem(`health ${this.namespace.health.status}`);
    if (!this.namespace.ready) this.#problem("never ready");

    const questions = this.#options.flagIds.flatMap((flagId) =>
      ["", ...entityIds].map((entityId) => ({ flagId, entityId })),
    );
    for (const { flagId, entityId } of questions) {
      const definition = this.#flags.value.find(flagId);
      const expected = this.#expected(definition, flagId, entityId);
      const later = this.namespace.evaluate(flagId, entityId);
      const got = await later;
      // What nobody asked for in a long time, or a replica could not refresh, may be past its TTL. It is still right.
      const mayBeStale = entityId !== "" || definition === undefined || this.#commitsBehindMax > 0;
      const may = mayBeStale ? ["stale", expected.source] : [expected.source];
      if (got.value !== expected.value || !may.includes(got.source)) {
        this.#problem(`settled, ${flagId} for "${entityId}": ${show(got)} instead of ${show(expected)}`);
      }
    }
    await this.quiet();
    for (const { flagId, entityId } of questions) {
      if (this.#options.overrideEntriesMax < entityIds.length && entityId !== "") continue;
      const expected = this.#expected(this.#flags.value.find(flagId), flagId, entityId);
      const got = await this.namespace.evaluate(flagId, entityId);
      if (got.value !== expected.value || got.source !== expected.source) {
        this.#problem(`asked again, ${flagId} for "${entityId}": ${show(got)}, not ${show(expected)}`);
      }
    }
    await this.quiet();
  }

  /** An hour in which nothing happens costs what polls and times to live explain. */
  async quietHour(): Promise<void> {
    const before = this.store.calls.length;
    const { flagTtlMs, versioned } = this.#options;
    for (let i = 0; i < 36; i++) {
      await this.clock.advance(100_000);
      if (flagTtlMs === 0 || !versioned) continue;
      for (const { id } of this.#flags.value.flags) {
        const got = this.namespace.evaluate(id, "");
        if (isLater(got)) this.#problem(`${id} had to be waited for`);
        else if (got.source === "stale" || got.source === "cached") this.#problem(`${id} was ${got.source}`);
      }
    }
    await this.quiet();
    const calls = this.store.calls.length - before;
    const polls = 3_600_000 / (KILL_TTL * 0.8) + 1;
    const loads = flagTtlMs === 0 ? 0 : 3_600_000 / (flagTtlMs * 0.8 * 0.8 * 0.9) + 1;
    if (calls > polls + loads) this.#problem(`${calls} calls in a quiet hour`);
    const { cachedEntityCount } = this.namespace;
    if (cachedEntityCount > this.#options.overrideEntriesMax) this.#problem(`${cachedEntityCount} entities`);
    this.#raise();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.become({});
    this.#held.releaseAll();
    await this.namespace[Symbol.asyncDispose]();
    for (let i = 0; i < 10; i++) await setImmediate();
    if (this.clock.sleeperCount > 0) throw new Error(`${this.clock.sleeperCount} still sleep`);
    if (this.store.underWay.size > 0) throw new Error(`${this.store.underWay.size} calls under way`);
  }

  #plan(call: MemoryStoreCall) {
    const { of, holds, ...others } = this.#mood;
    this.#askedAt.set(call, this.clock.now());
    this.#checkOverlap(call);
    if (of?.includes(call.operation) === false) return { after: setImmediate() };
    if (holds === undefined) return { ...others, after: setImmediate() };
    return { ...others, [holds]: this.#held.hold(call, holds) };
  }

  #checkOverlap(call: MemoryStoreCall): void {
    const ttlMs = call.operation === "overrides" ? this.#options.overrideTtlMs : this.#options.flagTtlMs;
    for (const other of this.store.underWay) {
      if (other.operation !== call.operation) continue;
      const twice = call.keys.find((key) => other.keys.includes(key));
      if (call.operation === "kills") this.#problem("two polls at a time");
      else if (ttlMs > 0 && twice !== undefined) this.#problem(`two fetches of ${twice} at a time`);
    }
  }

  #learn(call: MemoryStoreCall, commit: number): void {
    const askedAt = this.#askedAt.get(call) ?? 0;
    const keys = call.operation === "kills" ? [""] : call.keys;
    for (const key of keys) {
      const name = `${call.operation} ${key}`;
      const known = this.#learnt.get(name);
      const isNewer =
        known === undefined || (this.store.versioned ? commit >= known.commit : askedAt >= known.askedAt);
      if (isNewer) this.#learnt.set(name, { commit, askedAt });
    }
  }

  #noteKillSet(next: KillSet, previous: KillSet | undefined): void {
    this.#killSets.push(next);
    const version = previous?.stamp.version;
    for (const flagId of previous?.flagIds ?? []) {
      if (version === undefined || next.flagIds.has(flagId)) continue;
      this.#revivedAfter.set(flagId, this.store.commitOf(version));
    }
  }

  #ask(flagId: string, entityId: string): Asked {
    const definition = this.#flags.value.find(flagId);
    const id = definition?.id ?? flagId;
    return {
      what: `${flagId} for "${entityId}" at ${this.clock.now()}`,
      definition,
      flagId: id,
      entityId,
      row: this.#learnt.get(`flagStates ${id}`),
      overrides: this.#learnt.get(`overrides ${entityId}`),
      killSet: this.namespace.killSet.value,
      killSetsBefore: this.#killSets.length,
      revivedAfter: this.#revivedAfter.get(id),
      joins: [...this.store.underWay].some((call) => this.#isBefore(call, id)),
      head: this.store.head,
    };
  }

  #isBefore(call: MemoryStoreCall, flagId: string): boolean {
    const stamp = this.namespace.killSet.value?.stamp;
    const askedAt = this.#askedAt.get(call) ?? 0;
    return call.operation === "flagStates" && call.keys.includes(flagId) && askedAt <= (stamp?.askedAt ?? 0);
  }

  #whenAnswered<T>(answer: MaybeLater<T>, judge: (answer: T, waited: boolean) => void): void {
    if (!isLater(answer)) return judge(answer, false);
    const judged = answer.then(
      (value) => judge(value, true),
      (error: unknown) => this.#problem(`rejected: ${String(error)}`),
    );
    this.#pending.add(judged);
    void judged.then(() => this.#pending.delete(judged));
  }

  #judge(asked: Asked, evaluation: Evaluation, waited: boolean): void {
    const { flagId, killSet } = asked;
    const { source } = evaluation;
    const heldAtStart = killSet?.flagIds.has(flagId) === true;
    const holders = [killSet, ...this.#killSets.slice(asked.killSetsBefore)];
    const heldSince = holders.some((each) => each?.flagIds.has(flagId) === true);
    if (heldAtStart && source !== "killed") this.#problem(`${asked.what}: ${show(evaluation)}, but killed`);
    if (source === "killed" && heldSince) {
      if (evaluation.value !== asked.definition?.defaultValue)
        this.#problem(`${asked.what}: killed with a value`);
      return;
    }
    // A row that is newer than the kill set joins it, one that is older adds no kill. Without versions they may tie.
    if (source === "killed" && killSet !== undefined && this.store.versioned) {
      this.#problem(`${asked.what}: killed, and no kill set held it`);
    }
    if (source === "cached" && !this.#hasFailed) this.#problem(`${asked.what}: cached, and nothing failed`);
    if (!this.#mayAnswer(asked, evaluation)) {
      const { row, overrides } = asked;
      const known = JSON.stringify({
        row,
        overrides,
        killSet: this.#killCommit(asked),
        head: this.store.head,
        waited,
      });
      this.#problem(`${asked.what}: ${show(evaluation)} is none that ${known} allows`);
    }
  }

  /** Whether the chain gives this answer for some row and some override that may be known. */
  #mayAnswer(asked: Asked, { value, source }: Evaluation): boolean {
    const { definition, flagId, entityId } = asked;
    const { flagTtlMs, overrideTtlMs, overrideEntriesMax } = this.#options;
    const rowsFresh = this.#freshFrom(asked, flagTtlMs, asked.row);
    const evicts = overrideEntriesMax < 10;
    const overridesFresh = this.#freshFrom(asked, overrideTtlMs, evicts ? undefined : asked.overrides);
    const rows: (FlagState | undefined | Unknown)[] = this.#rowsFrom(flagId, this.#knownFrom(asked.row));
    if (asked.row === undefined || rows.some((row) => row !== "unknown" && row?.mode === "killed")) {
      rows.push("unknown");
    }
    // Whoever asks after a revive waits for what is at least as new. He may join a question that set out before it.
    const excused = asked.joins || this.#commitsBehindMax > 0 || asked.revivedAfter === undefined;
    const afterKill: unknown[] = excused ? rows : this.#rowsFrom(flagId, (asked.revivedAfter ?? 0) + 1);
    const freshRows = this.#rowsFrom(flagId, rowsFresh);
    const overridesAt = (commit: number) => this.store.overridesAt(entityId, commit).get(flagId);
    const overrideFrom = evicts ? 0 : this.#knownFrom(asked.overrides);
    const overrides: (Override | undefined)[] = this.#commitsFrom(overrideFrom).map(overridesAt);
    if (asked.overrides === undefined || evicts) overrides.push(undefined);
    const freshOverrides = this.#commitsFrom(overridesFresh).map(overridesAt);
    const isOutdated = (commit: number) =>
      commit < this.#killCommit({ killSet: this.namespace.killSet.value });
    const outdatedRows = this.#rowsFrom(flagId, this.#knownFrom(asked.row), isOutdated);
    const outdatedOverrides = this.#commitsFrom(overrideFrom).filter(isOutdated).map(overridesAt);

    return [...new Set(overrides)].some((override) =>
      [...new Set(rows)].some((row) => {
        const expected = reference(definition, entityId === "" ? undefined : override, row);
        if (expected.value !== value) return false;
        if (expected.source === source) {
          if (source === "override") return freshOverrides.includes(override);
          if (source === "global" || source === "archived")
            return row !== "unknown" && freshRows.includes(row);
          return true;
        }
        if (source === "stale" && expected.source !== "override" && !afterKill.includes(row)) return false;
        if (!["override", "global", "archived"].includes(expected.source)) return false;
        if (source !== "stale") return source === "cached";
        // What is asked for anew each time has no age: it is stale only where a poll has told of a later state.
        if (expected.source === "override") return overrideTtlMs > 0 || outdatedOverrides.includes(override);
        return flagTtlMs > 0 || (row !== "unknown" && outdatedRows.includes(row));
      }),
    );
  }

  #judgeFound<T>(
    asked: Asked,
    found: Found<T>,
    learnt: Learnt | undefined,
    ttlMs: number,
    wasTrue: (fromCommit: number, value: T | undefined) => boolean,
  ): void {
    const evicts = asked.entityId !== "" && this.#options.overrideEntriesMax < 10;
    const killedOnce =
      asked.flagId !== "" &&
      this.#rowsFrom(asked.flagId, this.#knownFrom(learnt)).some((row) => row?.mode === "killed");
    if (found.kind === "unavailable") {
      if (learnt !== undefined && !evicts && !killedOnce) this.#problem(`${asked.what}: forgotten`);
      return;
    }
    const isShort = found.value === undefined && !this.store.versioned && ttlMs > 0;
    const freshMs = isShort ? NEGATIVE_TTL : ttlMs;
    const remembered = evicts ? undefined : learnt;
    const from =
      found.kind === "fresh" ? this.#freshFrom(asked, freshMs, remembered) : this.#knownFrom(remembered);
    if (!wasTrue(from, found.value)) {
      this.#problem(
        `${asked.what}: ${found.kind} ${inspect(found.value, { depth: 6 })} is not of commit ${from} or later`,
      );
    }
  }

  /** The first commit that an answer may be of. Without versions nobody can tell that a replica went back. */
  #knownFrom(learnt: Learnt | undefined): number {
    const commit = learnt?.commit ?? 0;
    return this.store.versioned ? commit : Math.max(0, commit - this.#commitsBehindMax);
  }

  /** The first commit that an answer called fresh may be of. */
  #freshFrom(asked: Asked, ttlMs: number, learnt: Learnt | undefined): number {
    const behind = this.#commitsBehindMax;
    const known = this.store.versioned ? Math.max(this.#knownFrom(learnt), this.#killCommit(asked)) : 0;
    if (ttlMs === 0) return Math.max(known, asked.head - behind);
    const oldest = this.clock.now() - ttlMs * (1 + this.#options.jitter);
    const byTime = Math.max(0, this.#committedAt.findLastIndex((at) => at <= oldest) - behind);
    return Math.max(byTime, known);
  }

  #killCommit({ killSet }: Pick<Asked, "killSet">): number {
    const version = killSet?.stamp.version;
    return version === undefined ? 0 : this.store.commitOf(version);
  }

  #rowsFrom(
    flagId: string,
    commit: number,
    counts: (commit: number) => boolean = () => true,
  ): (FlagState | undefined)[] {
    const commits = this.#commitsFrom(commit).filter(counts);
    return commits.map((each) => this.store.rowAt(flagId, each));
  }

  #commitsFrom(commit: number): number[] {
    const from = Math.max(0, commit);
    return Array.from({ length: this.store.head - from + 1 }, (_, i) => from + i);
  }

  /** The kill set is built from poll and rows: of each flag it holds what the newer of the two said. */
  #checkKillSet(): void {
    const killSet = this.namespace.killSet.value;
    const polled = this.#learnt.get("kills ");
    if (killSet === undefined || polled === undefined) return;
    for (const flagId of this.#options.flagIds) {
      const row = this.#learnt.get(`flagStates ${flagId}`);
      const isKilledAt = (commit: number) => this.store.rowAt(flagId, commit)?.mode === "killed";
      const byPoll = isKilledAt(polled.commit);
      const isRowNewer =
        row !== undefined &&
        (this.store.versioned ? row.commit > polled.commit : row.askedAt >= polled.askedAt);
      const byRow = row !== undefined && isRowNewer ? isKilledAt(row.commit) : byPoll;
      const holds = killSet.flagIds.has(flagId);
      // Without versions a row does not lift what a poll killed, and one asked at the same moment may do either.
      if (holds !== byRow && (this.store.versioned || holds !== byPoll)) {
        this.#problem(`kill set ${holds ? "holds" : "lacks"} ${flagId}, ${JSON.stringify({ polled, row })}`);
      }
    }
  }

  /**
   * What a poll told to have changed was refreshed at once, if the store was well and nothing is under way any more.
   * What was asked while the poll was on its way may wait for the next.
   */
  #checkRefreshed(): void {
    const { flagTtlMs, overrideTtlMs, overrideEntriesMax, entityIds, flagIds } = this.#options;
    const stamp = this.namespace.killSet.value?.stamp;
    if (stamp?.version === undefined || this.#held.size > 0) return;
    if (this.#wellSince >= stamp.askedAt || this.#failedAt >= stamp.askedAt) return;
    const told = this.store.commitOf(stamp.version);
    const learntUpTo = (name: string) => {
      const learnt = this.#learnt.get(name);
      return learnt === undefined || learnt.askedAt >= stamp.askedAt ? told : learnt.commit;
    };
    for (const flagId of flagTtlMs > 0 ? flagIds : []) {
      const learnt = learntUpTo(`flagStates ${flagId}`);
      if (learnt < told && this.store.rowAt(flagId, learnt) !== this.store.rowAt(flagId, told)) {
        this.#problem(`${flagId} of commit ${learnt} was not refreshed to ${told}`);
      }
    }
    for (const entityId of overrideTtlMs > 0 && overrideEntriesMax >= entityIds.length ? entityIds : []) {
      const learnt = learntUpTo(`overrides ${entityId}`);
      const overrides = this.store.overridesAt(entityId, told);
      if (learnt < told && !isSame(this.store.overridesAt(entityId, learnt), overrides)) {
        this.#problem(`overrides of ${entityId} of commit ${learnt} were not refreshed to ${told}`);
      }
    }
  }

  #expected(definition: FlagDefinition | undefined, flagId: string, entityId: string): Evaluation {
    const { head } = this.store;
    const row = this.store.rowAt(definition?.id ?? flagId, head);
    const override = this.store.overridesAt(entityId, head).get(definition?.id ?? flagId);
    return reference(definition, row?.mode === "killed" ? undefined : override, row);
  }

  #problem(text: string): void {
    this.#problems.push(text);
  }

  #raise(): void {
    if (this.#problems.length > 0) throw new Error(this.#problems.slice(0, 5).join("\n"));
  }

  #lastCalls(): string {
    return this.store.calls
      .slice(-6)
      .map(({ operation, keys }) => `${operation} ${keys.join(" ")}`)
      .join(", ");
  }
}
