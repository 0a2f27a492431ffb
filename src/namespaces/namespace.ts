import type { CacheTier } from "../cache/cached-states.ts";
import { refreshAhead } from "../cache/refresh-ahead.ts";
import { canExist, canHaveOverrides, Evaluator, type MaybeLater } from "../evaluation/evaluator.ts";
import type { KillSet } from "../evaluation/kill-set.ts";
import type { Evaluation, Source } from "../evaluation/precedence.ts";
import type { FlagState, Found, Overrides } from "../evaluation/state.ts";
import type { FlagTable } from "../flags/definition.ts";
import { HealthTracker } from "../health/health-tracker.ts";
import { pollKills } from "../kills/kill-poller.ts";
import type { FlagStore } from "../store/flag-store.ts";
import { observeStore, type StoreObserver } from "../store/observed-store.ts";
import { Alarm } from "../system/alarm.ts";
import type { Clock } from "../system/clock.ts";
import type { Latest } from "../system/latest.ts";
import { type BreakerChange, CircuitBreaker } from "../upstream/circuit-breaker.ts";
import { attend } from "./attend.ts";
import { Knowledge, type KnowledgeEvents } from "./knowledge.ts";
import { Readiness } from "./readiness.ts";

/** What happens in a namespace, for metrics and logs. */
export interface NamespaceEvents extends KnowledgeEvents {
  readonly onEvaluation: (source: Source, flagId: string, entityId: string) => void;
  readonly onLookUp: (tier: CacheTier | "kill_set", hit: boolean) => void;
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
  readonly events: NamespaceEvents;
  readonly traceStoreCall: StoreObserver["trace"];
}

/** One environment: its flags, its state, and the loops that keep them current. */
export interface Namespace extends AsyncDisposable {
  readonly flags: Latest<FlagTable>;
  /** Undefined while the kill set has never been learnt. */
  readonly killSet: Latest<KillSet | undefined>;
  readonly health: Pick<HealthTracker, "status" | "failuresInARow" | "msSinceSuccess">;
  readonly breaker: Pick<CircuitBreaker, "state">;
  /** Kill set and first batch of all defined states known. Once true it stays so. */
  readonly ready: boolean;
  /** Resolves when `ready` becomes true; rejects when `signal` aborts first. */
  whenReady(signal: AbortSignal): Promise<void>;
  /** Flag states in memory, absent ones not counted. */
  readonly cachedFlagCount: number;
  /** Entities in memory, those without overrides counted. */
  readonly cachedEntityCount: number;
  /** Age of the oldest knowledge about a defined flag or the kill set; undefined while nothing is known. */
  readonly stateAgeMs: number | undefined;

  /** Never throws. A promise only where the store has to be asked. An empty `entityId` asks for the global value. */
  evaluate(flagId: string, entityId: string): MaybeLater<Evaluation>;

  /** One answer for each id, in their order. Never throws. */
  evaluateMany(flagIds: readonly string[], entityId: string): MaybeLater<readonly Evaluation[]>;

  /** What the store holds for a flag, named by id or alias; from memory where that is fresh. Never throws. */
  flagState(flagId: string): MaybeLater<Found<FlagState>>;

  /** What the store holds for an entity; from memory where that is fresh. Never throws. */
  overrides(entityId: string): MaybeLater<Found<Overrides>>;

  /** The descriptors were replaced: learns what the store holds for the flags they brought. */
  flagsReplaced(): void;
}

/** The store's breaker: it lets a trial through soon, because Postgres is one thing and not a pool. */
const STORE_BREAKER = { failuresMax: 5, callsMin: 3, openMs: 2_000, successesToClose: 1 };

/** Between two polls, or two reloads, that one trouble with the store has caused. */
const TROUBLE_REST_MS = 1_000;

const NO_SUCH_ROW: Found<never> = { kind: "fresh", value: undefined };

export function openNamespace(options: NamespaceOptions): Namespace {
  const { flags, clock, random, events, jitter } = options;
  const stop = new AbortController();
  const killAlarm = new Alarm(clock);
  const loadAlarm = new Alarm(clock);
  const doubtAlarm = new Alarm(clock);
  const returnAlarm = new Alarm(clock);
  const readiness = new Readiness();

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
      // Whichever call finds the store lost, from then on the kill polls are the probe that notices its return.
      const isNews = error !== undefined && health.failuresInARow === 0;
      if (isNews && operation !== "killed_flags") doubtAlarm.ring();
    },
    onRecovery: () => returnAlarm.ring(),
    trace: options.traceStoreCall,
  });
  const knowledge = new Knowledge({
    ...options,
    store,
    isCut: () => !breaker.admits,
    onLookUp: events.onLookUp,
    onOutdatedKillSet: () => doubtAlarm.ring(),
  });
  const { killSet, states } = knowledge;
  const evaluator = new Evaluator({
    flags,
    killSet,
    states,
    onEvaluation: ({ source }, flagId, entityId) => {
      events.onLookUp("kill_set", source === "killed");
      events.onEvaluation(source, flagId, entityId);
    },
  });

  const polling = pollKills(
    {
      store,
      health,
      knownVersion: () => killSet.value?.stamp.version,
      onKills: (answer, askedAt) => {
        knowledge.applyKills(answer, askedAt);
        checkReady();
      },
      alarm: killAlarm,
      intervalMs: options.killTtlMs,
      jitter,
      clock,
      random,
    },
    stop.signal,
  );
  const refreshing = refreshAhead(
    { load: loadDefined, alarm: loadAlarm, ttlMs: options.flagTtlMs, jitter, random },
    stop.signal,
  );

  const resting = { restMs: TROUBLE_REST_MS, clock };
  const attending = [
    attend({ ...resting, alarm: doubtAlarm, act: () => killAlarm.ring() }, stop.signal),
    attend({ ...resting, alarm: returnAlarm, act: takeUpReturn }, stop.signal),
  ];

  function definedIds(): string[] {
    return flags.value.flags.map((flag) => flag.id);
  }

  async function loadDefined(): Promise<boolean> {
    const loaded = await states.loadFlags(definedIds());
    checkReady();
    return loaded;
  }

  function checkReady(): void {
    if (killSet.value !== undefined && states.knowsFlags(definedIds())) readiness.reach();
  }

  function takeUpReturn(): void {
    events.onStoreRecovery();
    killAlarm.ring();
    loadAlarm.ring();
    states.refreshDue();
  }

  return {
    flags,
    killSet,
    health,
    breaker,
    get ready() {
      return readiness.reached;
    },
    whenReady: (signal) => readiness.wait(signal),
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
    evaluateMany: (flagIds, entityId) => evaluator.evaluateMany(flagIds, entityId),
    flagState(flagId) {
      const id = flags.value.find(flagId)?.id ?? flagId;
      return canExist(id) ? states.flagState(id) : NO_SUCH_ROW;
    },
    overrides: (entityId) => (canHaveOverrides(entityId) ? states.overrides(entityId) : NO_SUCH_ROW),
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
