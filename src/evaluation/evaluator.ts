import type { FlagTable } from "../flags/definition.ts";
import type { Clock } from "../system/clock.ts";
import type { Latest } from "../system/latest.ts";
import { type AskedFlag, AskedFlags } from "./asked-flags.ts";
import { isKilled, type KillSet } from "./kill-set.ts";
import { decide, decideForAll, type Evaluation } from "./precedence.ts";
import type { FlagState, Found, Override, Overrides } from "./state.ts";

/** A promise only where the answer is not in memory. */
export type MaybeLater<T> = T | Promise<T>;

/**
 * Where the evaluator looks things up. Look-ups do not throw: a failure is a `Found`. `now` is the time that they go by, on
 * the monotonic clock, in milliseconds.
 */
export interface States {
  flagState(flagId: string, now: number): MaybeLater<Found<FlagState>>;
  /** One answer for each id, in their order. */
  flagStates(flagIds: readonly string[], now: number): MaybeLater<readonly Found<FlagState>[]>;
  /** None of an entity that can have none. */
  overrides(entityId: string, now: number): MaybeLater<Found<Overrides>>;
  /** Another number whenever something else is remembered of any flag. */
  readonly flagsRevision: number;
  /** What is in memory and fresh: that it stays until its time is over, as long as `flagsRevision` is what it is. Not counted. */
  freshFlag(flagId: string, now: number): FreshFlag | undefined;
  /** Counts so many flags whose state was in memory, and need not be looked up. */
  countHits(count: number): void;
}

export interface FreshFlag {
  /** Undefined: the store holds no such row. */
  readonly value: FlagState | undefined;
  readonly freshUntil: number;
}

/** All that one call decided. */
export interface Decided {
  /** Under their own ids, whatever they were asked for by. */
  readonly flags: readonly { readonly id: string }[];
  readonly entityId: string;
  /** One for each flag, in their order. */
  readonly evaluations: readonly Evaluation[];
}

export interface EvaluatorOptions {
  readonly flags: Latest<FlagTable>;
  readonly killSet: Latest<KillSet | undefined>;
  readonly states: States;
  /** Read once a call: that takes as long as a look-up. */
  readonly clock: Pick<Clock, "now">;
  /** Told once a call for several flags. */
  readonly onDecided?: (decided: Decided) => void;
  /** The same of a call for one flag, under its own id. */
  readonly onDecidedOne?: (flagId: string, entityId: string, evaluation: Evaluation) => void;
}

/** The flags of a call. Of table and kill set it knows the revisions: a list nobody asks for any more keeps neither in memory. */
interface AskedTogether {
  readonly tableRevision: number;
  readonly killsRevision: number;
  readonly asked: readonly AskedFlag[];
  /** Ids of those whose state is looked up. */
  readonly lookedUp: readonly string[];
  /** Whether an override may apply to one of them. */
  readonly isVarying: boolean;
}

/** What was decided for everybody without overrides. */
interface DecidedForAll {
  readonly flagsRevision: number;
  readonly until: number;
  readonly evaluations: readonly Evaluation[];
}

/** For calls with one list of flags: what the last of them found out, as far as the next one may need it. */
export class BulkMemory {
  askedTogether: AskedTogether | undefined;
  /** Of these flags as they were found. */
  decidedForAll: DecidedForAll | undefined;

  /** Whether this is what everybody without overrides is answered, as long as nothing changes. */
  isForAll(evaluations: readonly Evaluation[]): boolean {
    return this.decidedForAll?.evaluations === evaluations;
  }
}

const NOTHING_KNOWN: Found<never> = { kind: "unavailable" };

/** Answers flags for entities: first it gathers what is known, then it decides. Always answers; never throws. */
export class Evaluator {
  readonly #options: EvaluatorOptions;
  readonly #flags: AskedFlags;

  constructor(options: EvaluatorOptions) {
    this.#options = options;
    this.#flags = new AskedFlags(options);
  }

  /** An empty `entityId` asks for the flag's global value. */
  evaluate(flagId: string, entityId: string): MaybeLater<Evaluation> {
    const { states, clock } = this.#options;
    const asked = this.#flags.find(flagId);
    // A killed flag needs no look-up, and waits for none.
    if (!asked.hasState) return this.#tellOne(asked, entityId, asked.forAll);

    const now = clock.now();
    const overrides = asked.varies && entityId !== "" ? states.overrides(entityId, now) : undefined;
    if (isLater(overrides))
      return this.#evaluateLater(asked, entityId, states.flagState(asked.id, now), overrides);

    if (this.#decideFromMemory(asked, now)) {
      states.countHits(1);
      return this.#tellOne(asked, entityId, decideFor(asked, overrides, asked.forAll));
    }
    const state = states.flagState(asked.id, now);
    if (isLater(state)) return this.#evaluateLater(asked, entityId, state, overrides);
    return this.#tellOne(asked, entityId, decideFor(asked, overrides, decideNow(asked, state)));
  }

  /**
   * One answer for each id, in their order; one look-up for the entity and at most one for all flags. `memory` is that of
   * these very flags; the array is the same as the last time where nothing has changed and the entity has no overrides.
   */
  evaluateMany(
    flagIds: readonly string[],
    entityId: string,
    memory?: BulkMemory,
  ): MaybeLater<readonly Evaluation[]> {
    const { states, clock } = this.#options;
    const together = this.#findAll(flagIds, memory);
    const { asked, lookedUp } = together;
    const now = clock.now();
    const overrides = together.isVarying && entityId !== "" ? states.overrides(entityId, now) : undefined;
    if (isLater(overrides))
      return this.#evaluateAllLater(asked, entityId, this.#lookUp(lookedUp, now), overrides);

    const applying = hasOverrides(overrides) ? overrides : undefined;
    const known = this.#recall(asked, applying, { memory, now });
    if (known !== undefined) {
      if (lookedUp.length > 0) states.countHits(lookedUp.length);
      return this.#tellAll(asked, entityId, known);
    }
    const found = this.#lookUp(lookedUp, now);
    if (isLater(found)) return this.#evaluateAllLater(asked, entityId, found, overrides);
    let next = 0;
    const evaluations = asked.map((one) => {
      const forAll = one.hasState ? decideNow(one, found[next++] ?? NOTHING_KNOWN) : one.forAll;
      return decideFor(one, applying, forAll);
    });
    return this.#tellAll(asked, entityId, evaluations);
  }

  #findAll(flagIds: readonly string[], memory: BulkMemory | undefined): AskedTogether {
    const { flags, killSet } = this.#options;
    const known = memory?.askedTogether;
    if (known?.tableRevision === flags.revision && known.killsRevision === killSet.revision) return known;
    const asked = flagIds.map((flagId) => this.#flags.find(flagId));
    const together = {
      tableRevision: flags.revision,
      killsRevision: killSet.revision,
      asked,
      lookedUp: asked.filter(({ hasState }) => hasState).map(({ id }) => id),
      isVarying: asked.some(({ varies }) => varies),
    };
    if (memory !== undefined) {
      memory.askedTogether = together;
      memory.decidedForAll = undefined;
    }
    return together;
  }

  #lookUp(flagIds: readonly string[], now: number): MaybeLater<readonly Found<FlagState>[]> {
    return flagIds.length === 0 ? [] : this.#options.states.flagStates(flagIds, now);
  }

  /** What is fresh in memory comes to this. Undefined: one of the states is not, and has to be looked up. */
  #recall(
    asked: readonly AskedFlag[],
    overrides: Found<Overrides> | undefined,
    { memory, now }: { readonly memory: BulkMemory | undefined; readonly now: number },
  ): readonly Evaluation[] | undefined {
    const { flagsRevision } = this.#options.states;
    const together = overrides === undefined ? memory?.decidedForAll : undefined;
    if (together?.flagsRevision === flagsRevision && now < together.until) return together.evaluations;
    if (!asked.every((one) => this.#decideFromMemory(one, now))) return undefined;
    // Apart from what is kept: where one loop filled an array for both, most of the time went into collecting garbage.
    if (overrides !== undefined) return asked.map((one) => decideFor(one, overrides, one.forAll));
    const evaluations = asked.map(({ forAll }) => forAll);
    if (memory !== undefined) {
      const until = asked.reduce((first, one) => Math.min(first, one.decidedUntil(flagsRevision)), Infinity);
      memory.decidedForAll = { flagsRevision, until, evaluations };
    }
    return evaluations;
  }

  /** Whether it is decided what everybody without an override is answered. False: the state is not fresh in memory. */
  #decideFromMemory(asked: AskedFlag, now: number): boolean {
    const { states } = this.#options;
    const { flagsRevision } = states;
    if (now < asked.decidedUntil(flagsRevision)) return true;
    const fresh = states.freshFlag(asked.id, now);
    if (fresh === undefined) return false;
    asked.decideForAll("fresh", fresh.value);
    asked.keep(flagsRevision, fresh.freshUntil);
    return true;
  }

  async #evaluateLater(
    asked: AskedFlag,
    entityId: string,
    state: MaybeLater<Found<FlagState>>,
    overrides: MaybeLater<Found<Overrides>> | undefined,
  ): Promise<Evaluation> {
    const [laterState, laterOverrides] = await Promise.all([state, overrides]);
    return this.#tellOne(asked, entityId, this.#decideLate(asked, laterState, laterOverrides));
  }

  /** `found` holds a state for each flag that has one, in their order. */
  async #evaluateAllLater(
    asked: readonly AskedFlag[],
    entityId: string,
    found: MaybeLater<readonly Found<FlagState>[]>,
    overrides: MaybeLater<Found<Overrides>> | undefined,
  ): Promise<readonly Evaluation[]> {
    const [laterFound, laterOverrides] = await Promise.all([found, overrides]);
    let next = 0;
    const evaluations = asked.map((one) =>
      one.hasState ? this.#decideLate(one, laterFound[next++] ?? NOTHING_KNOWN, laterOverrides) : one.forAll,
    );
    return this.#tellAll(asked, entityId, evaluations);
  }

  /** The kill set is looked at again here, so that a kill that arrived during the look-ups counts. */
  #decideLate(
    asked: AskedFlag,
    state: Found<FlagState>,
    overrides: Found<Overrides> | undefined,
  ): Evaluation {
    const { definition } = asked;
    const killed = isKilled(this.#options.killSet.value, asked.id);
    const forAll = decideForAll({ definition, killed, state });
    return decide({ definition, killed, override: overrideOf(asked, overrides), forAll });
  }

  #tellOne(asked: AskedFlag, entityId: string, evaluation: Evaluation): Evaluation {
    this.#options.onDecidedOne?.(asked.id, entityId, evaluation);
    return evaluation;
  }

  #tellAll(
    flags: readonly AskedFlag[],
    entityId: string,
    evaluations: readonly Evaluation[],
  ): readonly Evaluation[] {
    this.#options.onDecided?.({ flags, entityId, evaluations });
    return evaluations;
  }
}

function decideNow(asked: AskedFlag, state: Found<FlagState>): Evaluation {
  return asked.decideForAll(state.kind, state.kind === "unavailable" ? undefined : state.value);
}

/** What is decided at once: no kill can have arrived since the flag was found. */
function decideFor(
  asked: AskedFlag,
  overrides: Found<Overrides> | undefined,
  forAll: Evaluation,
): Evaluation {
  const override = overrideOf(asked, overrides);
  if (override === undefined) return forAll;
  return decide({ definition: asked.definition, killed: false, override, forAll });
}

/** Undefined: none is known, or none can apply. */
function overrideOf(
  { id, varies }: AskedFlag,
  overrides: Found<Overrides> | undefined,
): Found<Override> | undefined {
  if (!varies || overrides === undefined || overrides.kind === "unavailable") return undefined;
  const value = overrides.value?.get(id);
  return value === undefined ? undefined : { kind: overrides.kind, value };
}

function hasOverrides(overrides: Found<Overrides> | undefined): boolean {
  return overrides !== undefined && overrides.kind !== "unavailable" && (overrides.value?.size ?? 0) > 0;
}

/** Whether it has to be waited for. */
export function isLater<T>(value: MaybeLater<T>): value is Promise<T> {
  return value instanceof Promise;
}
