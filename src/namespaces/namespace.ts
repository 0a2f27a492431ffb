import type { CacheTier } from "../cache/cached-states.ts";
import { type HitsAndMisses, holdsAt, type Known } from "../cache/fresh-cache.ts";
import { refreshAhead } from "../cache/refresh-ahead.ts";
import { type BulkMemory, type Decided, Evaluator, type MaybeLater } from "../evaluation/evaluator.ts";
import { canExist, canHaveOverrides } from "../evaluation/ids.ts";
import type { KillSet } from "../evaluation/kill-set.ts";
import type { Evaluation } from "../evaluation/precedence.ts";
import type { FlagState, Found, Overrides } from "../evaluation/state.ts";
import type { Version } from "../evaluation/version.ts";
import type { FlagTable } from "../flags/definition.ts";
import { HealthTracker } from "../health/health-tracker.ts";
import type { ChangeNotice } from "../kills/change-feed.ts";
import { pollKills } from "../kills/kill-poller.ts";
import type { Changes, FlagStore } from "../store/flag-store.ts";
import { observeStore, type StoreObserver } from "../store/observed-store.ts";
import { Alarm } from "../system/alarm.ts";
import type { Clock } from "../system/clock.ts";
import type { Latest } from "../system/latest.ts";
import { type BreakerChange, CircuitBreaker } from "../upstream/circuit-breaker.ts";
import { attend } from "./attend.ts";
import { CatchUp } from "./catch-up.ts";
import { Knowledge, type KnowledgeEvents, type RememberedKnowledge } from "./knowledge.ts";
import { Readiness } from "./readiness.ts";
import { BEHIND_PAUSE_MS, ToldChanges } from "./told-changes.ts";

/** What happens in a namespace, for metrics and logs. */
export interface NamespaceEvents extends KnowledgeEvents {
  /** Told once a call. */
  readonly onEvaluation: (flagId: string, entityId: string, evaluation: Evaluation) => void;
  /** The same of a call for several flags. */
  readonly onEvaluations: (decided: Decided) => void;
  /** Told once for all that was looked up together. */
  readonly onLookUps: (tier: CacheTier, counted: HitsAndMisses) => void;
  readonly onStoreCall: StoreObserver["onCall"];
  readonly onStoreRecovery: () => void;
  readonly onBreakerChange: (change: BreakerChange) => void;
}

export interface NamespaceOptions {
  readonly flags: Latest<FlagTable>;
  /** Closed with the namespace. */
  readonly store: FlagStore;
  readonly clock: Clock;
  readonly random: () => number;
  readonly killTtlMs: number;
  /** 0: write-through. */
  readonly flagTtlMs: number;
  /** 0: write-through. */
  readonly overrideTtlMs: number;
  readonly negativeTtlMs: number;
  readonly overrideEntriesMax: number;
  /** Share of TTLs and intervals, 0 to 1. */
  readonly jitter: number;
  /**
   * Longest wait from the store's return until it is asked for everything that was missed. Chance decides: of many
   * daemons that lost one upstream, not all come back at once. Where nobody tells of changes any more, that is twice as
   * long, and at least this. Unset: 0.
   */
  readonly returnSpreadMs?: number;
  /** From one poll that a notice caused to the next. Unset: 250 ms, which is what a database is spared. */
  readonly noticeRestMs?: number;
  /** First pause of the polls while the store does not answer. Unset: 250 ms. */
  readonly probeFirstMs?: number;
  /** False while the descriptors are still to be had from an upstream: then nothing is ready. Unset: true. */
  readonly hasDescriptors?: () => boolean;
  /** What an earlier process knew. Unset: nothing. */
  readonly snapshot?: RememberedKnowledge;
  /** The store told something. News: a kill, or what was missing until now, or was known to have changed. */
  readonly onLearnt?: (isNews: boolean) => void;
  readonly events: NamespaceEvents;
  readonly traceStoreCall: StoreObserver["trace"];
}

/** What is known of one row, and what that is worth. */
export type KnownRow<V> =
  | {
      readonly kind: "known";
      /** Undefined: the store holds no such row. */
      readonly value: V | undefined;
      /** It holds at this version. Undefined where the store has none. */
      readonly version: Version | undefined;
      /** When the root read the database, on this process's monotonic clock. */
      readonly readAt: number;
    }
  /** Nothing was ever learnt of it. */
  | { readonly kind: "unknown" };

/** One environment: its flags, its state, and the loops that keep them current. */
export interface Namespace extends AsyncDisposable {
  readonly flags: Latest<FlagTable>;
  /** Undefined while the kill set has never been learnt. */
  readonly killSet: Latest<KillSet | undefined>;
  /** When the kill set's version was committed, on the monotonic clock. Undefined where that is not known. */
  readonly committedAt: number | undefined;
  readonly health: Pick<HealthTracker, "status" | "failuresInARow" | "msSinceSuccess">;
  readonly breaker: Pick<CircuitBreaker, "state">;
  /** Kill set and first batch of all defined states known. Once true it stays so. */
  readonly ready: boolean;
  /** Resolves when `ready` becomes true; rejects when `signal` aborts first. */
  whenReady(signal: AbortSignal): Promise<void>;
  /**
   * Resolves once the store has told this process the kill set and all defined states, be they older than what an earlier
   * process knew; rejects when `signal` aborts first.
   */
  whenHeard(signal: AbortSignal): Promise<void>;
  /** Flag states in memory, absent ones not counted. */
  readonly cachedFlagCount: number;
  /** Entities in memory, those without overrides counted. */
  readonly cachedEntityCount: number;
  /** Age of the oldest knowledge about a defined flag or the kill set; undefined while nothing is known. */
  readonly stateAgeMs: number | undefined;

  /** Never throws. A promise only where the store has to be asked. An empty `entityId` asks for the global value. */
  evaluate(flagId: string, entityId: string): MaybeLater<Evaluation>;

  /**
   * One answer for each id, in their order. `memory`, where there is one, is that of these very flags: with it, the array
   * is the same as the last time where nothing has changed and the entity has no overrides. Never throws.
   */
  evaluateMany(
    flagIds: readonly string[],
    entityId: string,
    memory?: BulkMemory,
  ): MaybeLater<readonly Evaluation[]>;

  /** What the store holds for a flag, named by id or alias; from memory where that is fresh. Never throws. */
  flagState(flagId: string): MaybeLater<Found<FlagState>>;

  /** What the store holds for an entity; from memory where that is fresh. Never throws. */
  overrides(entityId: string): MaybeLater<Found<Overrides>>;

  /** Rows of these flags, by id, for another evaluator. Asks the store where memory is not good enough. Never throws. */
  flagRows(flagIds: readonly string[]): Promise<readonly KnownRow<FlagState>[]>;

  /** The same for all overrides of these entities. */
  overrideRows(entityIds: readonly string[]): Promise<readonly KnownRow<Overrides>[]>;

  /** What changed after a version, up to that of the kill set. */
  changesSince(version: Version | undefined): Changes;

  /** Has a listener called after every replacement of the kill set, until what is returned is called. */
  onKnowledge(listener: () => void): () => void;

  /** All that is known, for a later process; undefined while the kill set has never been learnt. */
  remember(): RememberedKnowledge | undefined;

  /** Waits until the kill set is at least of this version. False: it is not, after asking the store. Never rejects. */
  catchUp(version: Version, signal: AbortSignal): Promise<boolean>;

  /**
   * Somebody says that the store has changed: unless what is said is known, the kill set is polled at once, or soon where
   * it has just been. What is said is no reason to believe it.
   */
  changeNoticed(notice: ChangeNotice): void;

  /** Nobody tells of changes any more: the kill set is polled soon, unless whoever told is back before that. */
  changesMissed(): void;

  /** Somebody found that the store can be reached again: it is asked soon for what is missing since it failed. */
  storeReturned(): void;

  /** The descriptors were replaced: learns what the store holds for the flags they brought. */
  flagsReplaced(): void;
}

/** The store's breaker: it lets a trial through soon, because Postgres is one thing and not a pool. */
const STORE_BREAKER = { failuresMax: 5, callsMin: 3, openMs: 2_000, successesToClose: 1 };

/** Between two polls that others are waiting for: they may want what does not exist. */
const CATCH_UP_REST_MS = 50;

/**
 * Between two polls that notices have caused. Each may be followed by two reads of rows that changed: five of them within
 * a second are fifteen reads. Of twenty that a storm of changes may cost, three are left for a kill among them.
 */
const NOTICE_REST_MS = 250;

/** Between two polls, or two reloads, that one trouble with the store has caused. */
const TROUBLE_REST_MS = 1_000;

const NO_SUCH_ROW: Found<never> = { kind: "fresh", value: undefined };

export function openNamespace(options: NamespaceOptions): Namespace {
  const { flags, clock, random, events, jitter, returnSpreadMs = 0, hasDescriptors = () => true } = options;
  const stop = new AbortController();
  const killAlarm = new Alarm(clock);
  const loadAlarm = new Alarm(clock);
  const doubtAlarm = new Alarm(clock);
  const returnAlarm = new Alarm(clock);
  const missedAlarm = new Alarm(clock);
  const catchUpAlarm = new Alarm(clock);
  const noticeAlarm = new Alarm(clock);
  const behindAlarm = new Alarm(clock);
  const readiness = new Readiness();
  const heard = { kills: new Readiness(), flags: new Readiness() };
  /** When the store last failed or may have had changes that nobody told, and when the poll set out that last told the kill set. */
  let doubtedAt = -Infinity;
  let polledAt = -Infinity;
  /** The last load of all defined flags: whether the store told them. */
  let loading = Promise.resolve(false);

  const health = new HealthTracker(clock);
  const breaker = new CircuitBreaker({ ...STORE_BREAKER, clock, onChange: events.onBreakerChange });
  const store = observeStore(options.store, {
    health,
    breaker,
    clock,
    onCall(operation, durationMs, error) {
      // What closing cut short is no failure of the store.
      if (stop.signal.aborted && error !== undefined) return;
      events.onStoreCall(operation, durationMs, error);
      if (error !== undefined) doubtedAt = clock.now();
      // Whichever call finds the store lost, from then on the kill polls are the probe that notices its return.
      const isNews = error !== undefined && health.failuresInARow === 0;
      if (isNews && operation !== "killed_flags") doubtAlarm.ring();
    },
    onRecovery() {
      events.onStoreRecovery();
      returnAlarm.ring();
    },
    trace: options.traceStoreCall,
  });
  const listeners = new Set<() => void>();
  const knowledge = new Knowledge({
    ...options,
    events: {
      ...events,
      onKillSet(next, previous) {
        events.onKillSet(next, previous);
        for (const listener of listeners) listener();
      },
    },
    store,
    isCut: () => !breaker.admits,
    onLookUps: events.onLookUps,
    onOutdatedKillSet: () => doubtAlarm.ring(),
  });
  const { killSet, states } = knowledge;
  if (options.snapshot !== undefined) {
    knowledge.restore(options.snapshot);
    checkReady();
  }
  const catchUp = new CatchUp({ known: knownVersion, poll: () => catchUpAlarm.ring() });
  const told = new ToldChanges({
    known: knownVersion,
    look: () => killAlarm.ring(),
    lookAfterRest: () => noticeAlarm.ring(),
    lookLater: () => behindAlarm.ring(),
    clock,
  });
  const evaluator = new Evaluator({
    flags,
    killSet,
    states,
    clock,
    onDecided: events.onEvaluations,
    onDecidedOne: events.onEvaluation,
  });

  const polling = pollKills(
    {
      store,
      health,
      knownVersion,
      wantedVersion: () => catchUp.wanted ?? told.wanted,
      onPollBegins() {
        told.pollBegins();
        catchUp.pollBegins();
      },
      onPollEnds: () => catchUp.pollEnds(),
      onKills: (answer, askedAt) => {
        polledAt = askedAt;
        knowledge.applyKills(answer, askedAt);
        heard.kills.reach();
        told.pollAnswered();
        checkReady();
      },
      alarm: killAlarm,
      intervalMs: options.killTtlMs,
      ...(options.probeFirstMs === undefined ? {} : { probeFirstMs: options.probeFirstMs }),
      jitter,
      clock,
      random,
    },
    stop.signal,
  );
  const refreshing = refreshAhead(
    {
      load: loadDefined,
      ageMs: () => {
        const readAt = states.oldestReadAt(definedIds());
        return readAt === undefined ? undefined : clock.now() - readAt;
      },
      alarm: loadAlarm,
      ttlMs: options.flagTtlMs,
      jitter,
      random,
    },
    stop.signal,
  );

  const resting = { restMs: TROUBLE_REST_MS, clock };
  const attending = [
    attend(
      {
        alarm: noticeAlarm,
        act: () => told.restEnds(),
        restMs: options.noticeRestMs ?? NOTICE_REST_MS,
        clock,
      },
      stop.signal,
    ),
    attend(
      { alarm: behindAlarm, act: () => told.lookAgain(), restMs: 0, delayMs: () => BEHIND_PAUSE_MS, clock },
      stop.signal,
    ),
    attend({ ...resting, alarm: doubtAlarm, act: () => killAlarm.ring() }, stop.signal),
    attend(
      { ...resting, alarm: returnAlarm, act: takeUpReturn, delayMs: () => returnSpreadMs * random() },
      stop.signal,
    ),
    attend(
      {
        ...resting,
        alarm: missedAlarm,
        act: pollUnlessPolled,
        delayMs: () => returnSpreadMs * (1 + random()),
      },
      stop.signal,
    ),
    attend(
      { alarm: catchUpAlarm, act: () => killAlarm.ring(), restMs: CATCH_UP_REST_MS, clock },
      stop.signal,
    ),
  ];

  function knownVersion(): Version | undefined {
    return killSet.value?.stamp.version;
  }

  function definedIds(): string[] {
    return flags.value.flags.map((flag) => flag.id);
  }

  function loadDefined(): Promise<boolean> {
    loading = states.loadFlags(definedIds()).then((loaded) => {
      if (loaded) heard.flags.reach();
      checkReady();
      return loaded;
    });
    return loading;
  }

  /** At once where the last load failed, and not at all where the one under way brings all. */
  async function loadMissing(): Promise<void> {
    if (!(await loading)) loadAlarm.ring();
  }

  function checkReady(): void {
    if (readiness.reached) return;
    if (hasDescriptors() && killSet.value !== undefined && states.knowsFlags(definedIds())) readiness.reach();
  }

  function pollUnlessPolled(): void {
    if (polledAt <= doubtedAt) killAlarm.ring();
  }

  function takeUpReturn(): void {
    if (readiness.reached) pollUnlessPolled();
    else killAlarm.ring();
    if (!readiness.reached) void loadMissing();
    states.refreshDue();
  }

  /** What is not known to be outdated holds at the kill set's version too: every poll says what changed. */
  function toRow<V>(known: Known<V> | undefined, polled: Version | undefined): KnownRow<V> {
    if (known === undefined) return { kind: "unknown" };
    const { value, readAt } = known;
    return { kind: "known", value, version: holdsAt(known, polled), readAt };
  }

  /** Of what cannot exist there is no row: nobody is asked, and nothing is remembered. */
  async function toRows<V>(
    ids: readonly string[],
    isPossible: (id: string) => boolean,
    read: (ids: readonly string[]) => Promise<readonly (Known<V> | undefined)[]>,
  ): Promise<readonly KnownRow<V>[]> {
    const possible = ids.filter(isPossible);
    // As of now: a poll that arrives meanwhile may say that what was read had changed.
    const polled = knownVersion();
    const entries = await read(possible);
    const rows = new Map(possible.map((id, i) => [id, toRow(entries[i], polled)]));
    const now = clock.now();
    const absent = {
      value: undefined,
      version: knownVersion(),
      readAt: killSet.value?.readAt ?? now,
    };
    return ids.map((id) => rows.get(id) ?? { kind: "known", ...absent });
  }

  return {
    flags,
    killSet,
    get committedAt() {
      return knowledge.committedAt;
    },
    health,
    breaker,
    get ready() {
      return readiness.reached;
    },
    whenReady: (signal) => readiness.wait(signal),
    async whenHeard(signal) {
      await Promise.all([heard.kills.wait(signal), heard.flags.wait(signal)]);
    },
    get cachedFlagCount() {
      return states.flagCount;
    },
    get cachedEntityCount() {
      return states.entityCount;
    },
    get stateAgeMs() {
      const readAt = [killSet.value?.readAt, states.oldestReadAt(definedIds())].filter(
        (at) => at !== undefined,
      );
      return readAt.length === 0 ? undefined : clock.now() - Math.min(...readAt);
    },
    evaluate: (flagId, entityId) => evaluator.evaluate(flagId, entityId),
    evaluateMany: (flagIds, entityId, memory) => evaluator.evaluateMany(flagIds, entityId, memory),
    flagState(flagId) {
      const id = flags.value.find(flagId)?.id ?? flagId;
      return canExist(id) ? states.flagState(id) : NO_SUCH_ROW;
    },
    overrides: (entityId) => states.overrides(entityId),
    flagRows: (flagIds) => toRows(flagIds, canExist, (ids) => states.currentFlags(ids)),
    overrideRows: (entityIds) => toRows(entityIds, canHaveOverrides, (ids) => states.currentOverrides(ids)),
    changesSince: (version) => knowledge.changes.since(version),
    remember: () => knowledge.remember(),
    onKnowledge(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    catchUp: (version, signal) => catchUp.wait(version, signal),
    changeNoticed: (notice) => told.notice(notice),
    changesMissed() {
      doubtedAt = clock.now();
      missedAlarm.ring();
    },
    storeReturned: () => returnAlarm.ring(),
    flagsReplaced() {
      states.flagsReplaced();
      loadAlarm.ring();
    },
    async [Symbol.asyncDispose]() {
      stop.abort();
      // Closing the store ends the calls that the loops wait for.
      await store[Symbol.asyncDispose]();
      await Promise.all([polling, refreshing, ...attending]);
    },
  };
}
