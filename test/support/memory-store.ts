import type { FlagState, KilledOverride, Override, Overrides } from "../../src/evaluation/state.ts";
import type { Version } from "../../src/evaluation/version.ts";
import {
  type Answer,
  type Changes,
  type FlagStore,
  type Kills,
  StoreError,
} from "../../src/store/flag-store.ts";
import { History } from "./history.ts";

export type MemoryStoreOperation = "flagStates" | "overrides" | "kills";

/** One question, as the store was asked it. Each is another object. */
export interface MemoryStoreCall {
  readonly operation: MemoryStoreOperation;
  readonly keys: readonly string[];
}

/** What is to become of one call. A promise that rejects makes the call fail. */
export interface CallPlan {
  /** Waited for before anything is read. */
  readonly before?: Promise<void>;
  /** Waited for after it was read: the answer is on its way. */
  readonly after?: Promise<void>;
  readonly fails?: boolean;
  /** Answered by a replica that has not seen the last so many commits of this epoch. */
  readonly commitsBehind?: number;
  /** The store no longer knows what changed. */
  readonly forgetsChanges?: boolean;
}

/**
 * A store in memory that a test can change, stop, restore, and hold back answers of. Every change is a commit
 * and a revision; what was true at each commit can still be looked up.
 */
export class MemoryStore implements FlagStore {
  readonly #rows = new History<FlagState>();
  readonly #overrides = new Map<string, History<Override>>();
  /** Where each commit changed something. */
  readonly #log: {
    commit: number;
    flagId: string;
    entityId: string | undefined;
  }[] = [];
  /** By commit. */
  readonly #versions: Version[] = [{ epoch: "epoch-1", revision: 0 }];
  readonly #underWay = new Set<MemoryStoreCall>();
  /** False: like a plain upstream, without versions. */
  versioned = true;
  away = false;
  /** Where set, every answer waits for it after it was read. */
  gate: Promise<void> | undefined;
  /** Where set, decides what becomes of each call. */
  plan: ((call: MemoryStoreCall) => CallPlan) | undefined;
  /** Told of every answer on its way out, and of the commit it was read at. */
  onAnswer: ((call: MemoryStoreCall, commit: number) => void) | undefined;
  /** What was asked, in order. */
  readonly calls: MemoryStoreCall[] = [];

  /** The last commit. Counts on from epoch to epoch. */
  get head(): number {
    return this.#versions.length - 1;
  }

  get epoch(): string {
    return this.versionAt(this.head).epoch;
  }

  set epoch(epoch: string) {
    this.#versions[this.head] = { ...this.versionAt(this.head), epoch };
  }

  /** Calls that have not been answered yet. */
  get underWay(): ReadonlySet<MemoryStoreCall> {
    return this.#underWay;
  }

  set(state: FlagState): void {
    this.#commit(state.flagId, undefined);
    this.#rows.add(state.flagId, this.head, state);
  }

  remove(flagId: string): void {
    this.#commit(flagId, undefined);
    this.#rows.add(flagId, this.head, undefined);
  }

  setOverride(override: Override): void {
    this.#putOverride(override.flagId, override.entityId, override);
  }

  removeOverride(flagId: string, entityId: string): void {
    this.#putOverride(flagId, entityId, undefined);
  }

  /** The store becomes another one, holding what this one held so many commits ago, at the revision of then. */
  restore(epoch: string, commitsBack: number): void {
    const from = Math.max(0, this.head - commitsBack);
    this.#versions.push({ epoch, revision: this.versionAt(from).revision });
    this.#rows.repeat(from, this.head);
    for (const overrides of this.#overrides.values()) overrides.repeat(from, this.head);
  }

  versionAt(commit: number): Version {
    const version = this.#versions[commit];
    if (version === undefined) throw new Error(`expected a commit up to ${this.head}, got ${commit}`);
    return version;
  }

  /** The commit that made a version. */
  commitOf(version: Version): number {
    return this.#versions.findLastIndex(
      ({ epoch, revision }) => epoch === version.epoch && revision === version.revision,
    );
  }

  rowAt(flagId: string, commit: number): FlagState | undefined {
    return this.#rows.at(flagId, commit);
  }

  overridesAt(entityId: string, commit: number): Overrides {
    return this.#overrides.get(entityId)?.allAt(commit) ?? new Map();
  }

  countCalls(operation: MemoryStoreOperation): number {
    return this.calls.filter((call) => call.operation === operation).length;
  }

  async flagStates(flagIds: readonly string[]): Promise<Answer<ReadonlyMap<string, FlagState>>> {
    return this.#answer("flagStates", flagIds, (commit) =>
      present(flagIds, (flagId) => this.rowAt(flagId, commit)),
    );
  }

  async overrides(entityIds: readonly string[]): Promise<Answer<ReadonlyMap<string, Overrides>>> {
    return this.#answer("overrides", entityIds, (commit) =>
      present(entityIds, (entityId) => {
        const overrides = this.overridesAt(entityId, commit);
        return overrides.size === 0 ? undefined : overrides;
      }),
    );
  }

  async kills(since: Version | undefined): Promise<Answer<Kills>> {
    return this.#answer("kills", [], (commit, { forgetsChanges }) => ({
      flagIds: new Set(
        [...this.#rows.allAt(commit).values()]
          .filter((row) => row.mode === "killed")
          .map((row) => row.flagId),
      ),
      overrides: this.#killedOverrides(commit),
      changes: forgetsChanges ? { kind: "unknown" } : this.#changes(since, commit),
      committedAgoMs: undefined,
    }));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #answer<T>(
    operation: MemoryStoreOperation,
    keys: readonly string[],
    read: (commit: number, plan: CallPlan) => T,
  ): Promise<Answer<T>> {
    const call = { operation, keys: [...keys] };
    this.calls.push(call);
    if (this.away) throw new StoreError("Cannot reach store: it is away");
    const plan = this.plan?.(call) ?? {};
    this.#underWay.add(call);
    try {
      if (plan.before !== undefined) await plan.before;
      if (plan.fails) throw new StoreError("Cannot read store: it was told to fail");
      const commit = this.#commitBehind(plan.commitsBehind ?? 0);
      const value = read(commit, plan);
      const version = this.versioned ? this.versionAt(commit) : undefined;
      await this.gate;
      if (plan.after !== undefined) await plan.after;
      this.onAnswer?.(call, commit);
      return { value, version, ageMs: 0 };
    } finally {
      this.#underWay.delete(call);
    }
  }

  #commit(flagId: string, entityId: string | undefined): void {
    const { epoch, revision } = this.versionAt(this.head);
    this.#versions.push({ epoch, revision: revision + 1 });
    this.#log.push({ commit: this.head, flagId, entityId });
  }

  #putOverride(flagId: string, entityId: string, override: Override | undefined): void {
    this.#commit(flagId, entityId);
    const overrides = this.#overrides.get(entityId) ?? new History<Override>();
    this.#overrides.set(entityId, overrides);
    overrides.add(flagId, this.head, override);
  }

  /** No further back than the epoch's beginning. */
  #commitBehind(commits: number): number {
    let commit = this.head;
    while (commit > this.head - commits && this.#versions[commit - 1]?.epoch === this.epoch) commit -= 1;
    return commit;
  }

  #killedOverrides(commit: number): KilledOverride[] {
    return [...this.#overrides.values()].flatMap((overrides) =>
      [...overrides.allAt(commit).values()]
        .filter((override) => override.mode === "killed")
        .map(({ flagId, entityId }) => ({ flagId, entityId })),
    );
  }

  #changes(since: Version | undefined, commit: number): Changes {
    const { epoch } = this.versionAt(commit);
    if (!this.versioned || since?.epoch !== epoch) return { kind: "unknown" };
    const later = this.#log.filter((entry) => {
      const version = this.versionAt(entry.commit);
      return entry.commit <= commit && version.epoch === epoch && version.revision > since.revision;
    });
    return {
      kind: "listed",
      flagIds: later.filter(({ entityId }) => entityId === undefined).map(({ flagId }) => flagId),
      entityIds: later.flatMap(({ entityId }) => entityId ?? []),
    };
  }
}

function present<V>(keys: readonly string[], find: (key: string) => V | undefined): ReadonlyMap<string, V> {
  return new Map(
    keys.flatMap((key) => {
      const value = find(key);
      return value === undefined ? [] : [[key, value] as const];
    }),
  );
}
