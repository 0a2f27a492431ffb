import type { FlagDefinition, FlagTable } from "../flags/definition.ts";
import type { Latest } from "../system/latest.ts";
import type { KillSet } from "./kill-set.ts";
import { decide, type Evaluation } from "./precedence.ts";
import type { FlagState, Found, Override, Overrides } from "./state.ts";

/** A promise only where the answer is not in memory. */
export type MaybeLater<T> = T | Promise<T>;

/** Where the evaluator looks things up. Look-ups do not throw: a failure is a `Found`. */
export interface States {
  flagState(flagId: string): MaybeLater<Found<FlagState>>;
  /** One answer for each id, in their order. */
  flagStates(flagIds: readonly string[]): MaybeLater<readonly Found<FlagState>[]>;
  overrides(entityId: string): MaybeLater<Found<Overrides>>;
}

export interface EvaluatorOptions {
  readonly flags: Latest<FlagTable>;
  readonly killSet: Latest<KillSet | undefined>;
  readonly states: States;
  /** Told of every flag decided, and whether the kill set held it. */
  readonly onEvaluation?: (evaluation: Evaluation, flagId: string, entityId: string) => void;
}

interface Gathered {
  readonly id: string;
  readonly entityId: string;
  readonly definition: FlagDefinition | undefined;
  /** The kill set when the look-ups set out. */
  readonly kills: KillSet | undefined;
  /** Whether it held the flag: then there is no state to decide from. */
  readonly killed: boolean;
  readonly state: Found<FlagState>;
  readonly overrides?: Found<Overrides> | undefined;
}

/** A flag of a bulk. */
interface Asked {
  readonly id: string;
  readonly definition: FlagDefinition | undefined;
  readonly killed: boolean;
  /** Whether its state is looked up. */
  readonly hasState: boolean;
}

/** What a bulk is decided from, beside what was found. */
interface Bulk {
  readonly asked: readonly Asked[];
  readonly entityId: string;
  /** The kill set when the look-ups set out. */
  readonly kills: KillSet | undefined;
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
    const { flags, killSet, states } = this.#options;
    const definition = flags.value.find(flagId);
    const id = definition?.id ?? flagId;
    const kills = killSet.value;
    const killed = isKilled(kills, id);
    // A killed flag needs no look-up, and waits for none.
    if (killed) return this.#decide({ id, entityId, definition, kills, killed, state: NOTHING_KNOWN });

    const overrides =
      varies(definition) && canHaveOverrides(entityId) ? states.overrides(entityId) : undefined;
    const state = definition !== undefined || canExist(id) ? states.flagState(id) : NOTHING_KNOWN;
    if (isLater(overrides) || isLater(state)) {
      return Promise.all([state, overrides]).then(([foundState, foundOverrides]) =>
        this.#decide({
          id,
          entityId,
          definition,
          kills,
          killed,
          state: foundState,
          overrides: foundOverrides,
        }),
      );
    }
    return this.#decide({ id, entityId, definition, kills, killed, state, overrides });
  }

  /** One answer for each id, in their order; one look-up for the entity and one for all flags. */
  evaluateMany(flagIds: readonly string[], entityId: string): MaybeLater<readonly Evaluation[]> {
    const { flags, killSet, states } = this.#options;
    const table = flags.value;
    const kills = killSet.value;
    const asked: Asked[] = [];
    const lookedUp: string[] = [];
    let isVarying = false;
    for (const flagId of flagIds) {
      const definition = table.find(flagId);
      const id = definition?.id ?? flagId;
      const killed = isKilled(kills, id);
      const hasState = !killed && (definition !== undefined || canExist(id));
      if (hasState) lookedUp.push(id);
      isVarying ||= varies(definition);
      asked.push({ id, definition, killed, hasState });
    }
    const overrides = isVarying && canHaveOverrides(entityId) ? states.overrides(entityId) : undefined;
    const found = lookedUp.length === 0 ? [] : states.flagStates(lookedUp);
    if (isLater(overrides) || isLater(found)) {
      return Promise.all([found, overrides]).then(([later, entity]) =>
        this.#decideAll({ asked, entityId, kills }, later, entity),
      );
    }
    return this.#decideAll({ asked, entityId, kills }, found, overrides);
  }

  /** `found` holds a state for each flag that has one, in their order. */
  #decideAll(
    { asked, entityId, kills }: Bulk,
    found: readonly Found<FlagState>[],
    overrides: Found<Overrides> | undefined,
  ): readonly Evaluation[] {
    const evaluations: Evaluation[] = [];
    let next = 0;
    for (const { id, definition, killed, hasState } of asked) {
      const state = (hasState ? found[next++] : undefined) ?? NOTHING_KNOWN;
      const applicable = varies(definition) ? overrides : undefined;
      evaluations.push(
        this.#decide({ id, entityId, definition, kills, killed, state, overrides: applicable }),
      );
    }
    return evaluations;
  }

  /** The kill set is looked at again here, so that a kill that arrived during the look-ups counts. */
  #decide(gathered: Gathered): Evaluation {
    const { id, entityId, definition, kills, state, overrides } = gathered;
    const current = this.#options.killSet.value;
    const killed = gathered.killed || (current !== kills && isKilled(current, id));
    const override = overrides === undefined ? undefined : overrideOf(overrides, id);
    const evaluation = decide({ definition, killed, override, state });
    this.#options.onEvaluation?.(evaluation, id, entityId);
    return evaluation;
  }
}

function isKilled(kills: KillSet | undefined, flagId: string): boolean {
  return kills?.flagIds.has(flagId) ?? false;
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
