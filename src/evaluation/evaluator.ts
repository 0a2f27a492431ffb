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
  /** Whether the kill set held the flag when the look-ups set out: then there is no state to decide from. */
  readonly killed?: boolean | undefined;
  readonly state: Found<FlagState>;
  readonly overrides?: Found<Overrides> | undefined;
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
    const { flags, states } = this.#options;
    const definition = flags.value.find(flagId);
    const id = definition?.id ?? flagId;
    // A killed flag needs no look-up, and waits for none.
    if (this.#isKilled(id))
      return this.#decide({ id, entityId, definition, killed: true, state: NOTHING_KNOWN });

    const overrides =
      varies(definition) && canHaveOverrides(entityId) ? states.overrides(entityId) : undefined;
    const state = definition !== undefined || canExist(id) ? states.flagState(id) : NOTHING_KNOWN;
    if (isLater(overrides) || isLater(state)) {
      return Promise.all([state, overrides]).then(([foundState, foundOverrides]) =>
        this.#decide({ id, entityId, definition, state: foundState, overrides: foundOverrides }),
      );
    }
    return this.#decide({ id, entityId, definition, state, overrides });
  }

  /** One answer for each id, in their order; one look-up for the entity and one for all flags. */
  evaluateMany(flagIds: readonly string[], entityId: string): MaybeLater<readonly Evaluation[]> {
    const { flags, states } = this.#options;
    const table = flags.value;
    const definitions = flagIds.map((flagId) => table.find(flagId));
    const ids = flagIds.map((flagId, i) => definitions[i]?.id ?? flagId);
    const killed = ids.map((id) => this.#isKilled(id));
    const asked = ids.filter((id, i) => !killed[i] && (definitions[i] !== undefined || canExist(id)));

    const overrides =
      canHaveOverrides(entityId) && definitions.some(varies) ? states.overrides(entityId) : undefined;
    const found = asked.length === 0 ? [] : states.flagStates(asked);

    const decideAll = (
      foundStates: readonly Found<FlagState>[],
      foundOverrides: Found<Overrides> | undefined,
    ): readonly Evaluation[] => {
      const stateOf = new Map(asked.map((id, i) => [id, foundStates[i] ?? NOTHING_KNOWN]));
      return ids.map((id, i) => {
        const definition = definitions[i];
        const state = stateOf.get(id) ?? NOTHING_KNOWN;
        const applicable = varies(definition) ? foundOverrides : undefined;
        return this.#decide({ id, entityId, definition, killed: killed[i], state, overrides: applicable });
      });
    };

    if (isLater(overrides) || isLater(found)) {
      return Promise.all([found, overrides]).then(([states, entity]) => decideAll(states, entity));
    }
    return decideAll(found, overrides);
  }

  /** The kill set is read again here, so that a kill that arrived during the look-ups counts. */
  #decide(gathered: Gathered): Evaluation {
    const { id, entityId, definition, state, overrides } = gathered;
    const killed = gathered.killed === true || this.#isKilled(id);
    const override = overrides === undefined ? undefined : overrideOf(overrides, id);
    const evaluation = decide({ definition, killed, override, state });
    this.#options.onEvaluation?.(evaluation, id, entityId);
    return evaluation;
  }

  #isKilled(id: string): boolean {
    return this.#options.killSet.value?.flagIds.has(id) ?? false;
  }
}

function overrideOf(overrides: Found<Overrides>, flagId: string): Found<Override> {
  if (overrides.kind === "unavailable") return overrides;
  return { kind: overrides.kind, value: overrides.value?.get(flagId) };
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
