import type { FlagDefinition, FlagTable } from "../flags/definition.ts";
import type { Clock } from "../system/clock.ts";
import type { Latest } from "../system/latest.ts";
import type { KillSet } from "./kill-set.ts";
import { decide, type Evaluation } from "./precedence.ts";
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
  overrides(entityId: string, now: number): MaybeLater<Found<Overrides>>;
  /** Another number whenever something else is remembered of any flag. */
  readonly flagsRevision: number;
  /** Until when all of these are found fresh as long as `flagsRevision` is what it is. -Infinity: one of them is not. */
  freshUntil(flagIds: readonly string[]): number;
  /** Counts so many look-ups of flags that need not be made again. */
  countHits(count: number): void;
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

/** A flag that was asked for, as the call found it. */
interface Asked {
  readonly id: string;
  readonly definition: FlagDefinition | undefined;
  /** Whether the kill set held it when the look-ups set out: then there is no state to decide from. */
  readonly killed: boolean;
}

/** What a call decides its flags from, beside their states. */
interface Gathered {
  readonly entityId: string;
  /** The kill set when the look-ups set out. */
  readonly kills: KillSet | undefined;
  /** Undefined: nobody asked for any. */
  readonly overrides: Found<Overrides> | undefined;
}

/**
 * The flags of a call, as they are found in a flag table and a kill set. Of those it knows the revisions: a list that
 * nobody asks for any more keeps neither in memory.
 */
interface AskedTogether {
  readonly tableRevision: number;
  readonly killsRevision: number;
  readonly asked: readonly Asked[];
  /** Those whose state is looked up. */
  readonly lookedUp: readonly string[];
  /** Whether one of them may have overrides. */
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

  constructor(options: EvaluatorOptions) {
    this.#options = options;
  }

  /** An empty `entityId` asks for the flag's global value. */
  evaluate(flagId: string, entityId: string): MaybeLater<Evaluation> {
    const { flags, killSet, states, clock } = this.#options;
    const kills = killSet.value;
    const asked = find(flags.value, kills, flagId);
    // A killed flag needs no look-up, and waits for none.
    if (asked.killed) return this.#decideOne(asked, NOTHING_KNOWN, { entityId, kills, overrides: undefined });

    const now = clock.now();
    const overrides =
      varies(asked.definition) && canHaveOverrides(entityId) ? states.overrides(entityId, now) : undefined;
    const state = hasState(asked) ? states.flagState(asked.id, now) : NOTHING_KNOWN;
    if (isLater(overrides) || isLater(state)) {
      return Promise.all([state, overrides]).then(([laterState, laterOverrides]) =>
        this.#decideOne(asked, laterState, { entityId, kills, overrides: laterOverrides }),
      );
    }
    return this.#decideOne(asked, state, { entityId, kills, overrides });
  }

  /**
   * One answer for each id, in their order; one look-up for the entity and one for all flags. `memory` is that of these
   * very flags; the array is the same as the last time where nothing has changed and the entity has no overrides.
   */
  evaluateMany(
    flagIds: readonly string[],
    entityId: string,
    memory?: BulkMemory,
  ): MaybeLater<readonly Evaluation[]> {
    const { killSet, states, clock } = this.#options;
    const kills = killSet.value;
    const together = this.#findAll(flagIds, memory);
    const now = clock.now();
    const overrides =
      together.isVarying && canHaveOverrides(entityId) ? states.overrides(entityId, now) : undefined;
    const known = isLater(overrides) || hasOverrides(overrides) ? undefined : memory?.decidedForAll;
    if (known !== undefined && this.#stillHolds(known, now)) {
      if (together.lookedUp.length > 0) states.countHits(together.lookedUp.length);
      this.#options.onDecided?.({ flags: together.asked, entityId, evaluations: known.evaluations });
      return known.evaluations;
    }
    const found = together.lookedUp.length === 0 ? [] : states.flagStates(together.lookedUp, now);
    if (isLater(overrides) || isLater(found)) {
      return Promise.all([found, overrides]).then(([laterFound, laterOverrides]) =>
        this.#decideAll(together, laterFound, { entityId, kills, overrides: laterOverrides }),
      );
    }
    const evaluations = this.#decideAll(together, found, { entityId, kills, overrides });
    if (memory !== undefined && !hasOverrides(overrides)) this.#keep(memory, together.lookedUp, evaluations);
    return evaluations;
  }

  #findAll(flagIds: readonly string[], memory: BulkMemory | undefined): AskedTogether {
    const { flags, killSet } = this.#options;
    const known = memory?.askedTogether;
    if (known?.tableRevision === flags.revision && known.killsRevision === killSet.revision) return known;
    const asked = flagIds.map((flagId) => find(flags.value, killSet.value, flagId));
    const together = {
      tableRevision: flags.revision,
      killsRevision: killSet.revision,
      asked,
      lookedUp: asked.filter(hasState).map(({ id }) => id),
      isVarying: asked.some(({ definition }) => varies(definition)),
    };
    if (memory !== undefined) {
      memory.askedTogether = together;
      memory.decidedForAll = undefined;
    }
    return together;
  }

  #stillHolds({ flagsRevision, until }: DecidedForAll, now: number): boolean {
    return flagsRevision === this.#options.states.flagsRevision && now < until;
  }

  /** Nothing is gained by keeping what is not fresh. */
  #keep(memory: BulkMemory, lookedUp: readonly string[], evaluations: readonly Evaluation[]): void {
    const { flagsRevision } = this.#options.states;
    const until = this.#options.states.freshUntil(lookedUp);
    memory.decidedForAll = until === -Infinity ? undefined : { flagsRevision, until, evaluations };
  }

  #decideOne(asked: Asked, state: Found<FlagState>, gathered: Gathered): Evaluation {
    const evaluation = this.#decide(asked, state, gathered);
    this.#options.onDecidedOne?.(asked.id, gathered.entityId, evaluation);
    return evaluation;
  }

  /** `found` holds a state for each flag that has one, in their order. */
  #decideAll(
    { asked }: AskedTogether,
    found: readonly Found<FlagState>[],
    gathered: Gathered,
  ): readonly Evaluation[] {
    let next = 0;
    const evaluations: Evaluation[] = [];
    for (const one of asked) {
      const state = (hasState(one) ? found[next++] : undefined) ?? NOTHING_KNOWN;
      evaluations.push(this.#decide(one, state, gathered));
    }
    this.#options.onDecided?.({ flags: asked, entityId: gathered.entityId, evaluations });
    return evaluations;
  }

  /** The kill set is looked at again here, so that a kill that arrived during the look-ups counts. */
  #decide(asked: Asked, state: Found<FlagState>, { kills, overrides }: Gathered): Evaluation {
    const { id, definition } = asked;
    const current = this.#options.killSet.value;
    const killed = asked.killed || (current !== kills && isKilled(current, id));
    const override = overrides !== undefined && varies(definition) ? overrideOf(overrides, id) : undefined;
    return decide({ definition, killed, override, state });
  }
}

function find(table: FlagTable, kills: KillSet | undefined, flagId: string): Asked {
  const definition = table.find(flagId);
  const id = definition?.id ?? flagId;
  return { id, definition, killed: isKilled(kills, id) };
}

/** Whether its state is looked up. */
function hasState({ id, definition, killed }: Asked): boolean {
  return !killed && (definition !== undefined || canExist(id));
}

function isKilled(kills: KillSet | undefined, flagId: string): boolean {
  return kills?.flagIds.has(flagId) ?? false;
}

function hasOverrides(overrides: Found<Overrides> | undefined): boolean {
  return overrides !== undefined && overrides.kind !== "unavailable" && (overrides.value?.size ?? 0) > 0;
}

/** Undefined: none is known. */
function overrideOf(overrides: Found<Overrides>, flagId: string): Found<Override> | undefined {
  if (overrides.kind === "unavailable") return undefined;
  const value = overrides.value?.get(flagId);
  return value === undefined ? undefined : { kind: overrides.kind, value };
}

function varies(definition: FlagDefinition | undefined): boolean {
  return definition !== undefined && definition.layer !== "";
}

const FLAG_ID_LENGTH_MAX = 512;
const ENTITY_ID_LENGTH_MAX = 255;

/** An id that no database can hold needs no look-up. */
export function canExist(flagId: string): boolean {
  return flagId !== "" && !isLonger(flagId, FLAG_ID_LENGTH_MAX) && !hasControlCharacter(flagId);
}

/** Whether an entity of this name can have overrides. */
export function canHaveOverrides(entityId: string): boolean {
  return entityId !== "" && !isLonger(entityId, ENTITY_ID_LENGTH_MAX) && !hasControlCharacter(entityId);
}

/** Counts characters as the database does: one outside the basic plane, an emoji for instance, is one and not two. */
function isLonger(text: string, charactersMax: number): boolean {
  if (text.length <= charactersMax) return false;
  return text.length > 2 * charactersMax || Array.from(text).length > charactersMax;
}

function hasControlCharacter(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f) return true;
  }
  return false;
}

/** Whether it has to be waited for. */
export function isLater<T>(value: MaybeLater<T>): value is Promise<T> {
  return value instanceof Promise;
}
