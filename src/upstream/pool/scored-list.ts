import type { ScoreSettings } from "../upstream-settings.ts";

/**
 * How far each upstream is to be trusted: a number that successes raise and failures lower, within bounds, so that
 * neither a long good time nor a long bad one takes long to make up for.
 */
export class ScoredList {
  #settings: ScoreSettings;
  #scores = new Map<string, number>();

  /** Throws a RangeError for settings that contradict each other. */
  constructor(settings: ScoreSettings, names: Iterable<string>) {
    this.#settings = settings;
    this.reconcile(settings, names);
  }

  /** Throws a RangeError for settings that contradict each other. */
  static check({ initial, min, max, success, failure }: ScoreSettings): void {
    const rules: readonly (readonly [boolean, string])[] = [
      [min < 0, `min must be below 0, got ${min}`],
      [max >= 0, `max must be 0 or more, got ${max}`],
      [initial >= min && initial <= max, `initial must be from ${min} to ${max}, got ${initial}`],
      [success > 0, `success must be above 0, got ${success}`],
      [failure < 0, `failure must be below 0, got ${failure}`],
    ];
    const broken = rules.find(([holds]) => !holds);
    if (broken !== undefined) throw new RangeError(`Cannot keep scores: ${broken[1]}`);
  }

  /** Of an upstream that is not in the list: the initial one. */
  scoreOf(name: string): number {
    return this.#scores.get(name) ?? this.#settings.initial;
  }

  isUsable(name: string): boolean {
    return this.scoreOf(name) >= 0;
  }

  /** It answered. */
  up(name: string): void {
    this.#move(name, this.#settings.success);
  }

  /** It failed. */
  down(name: string): void {
    this.#move(name, this.#settings.failure);
  }

  /** Upstreams of which a score is known keep it, within the new bounds. Throws a RangeError, and changes nothing then. */
  reconcile(
    settings: ScoreSettings,
    names: Iterable<string>,
    known: ReadonlyMap<string, number> = this.#scores,
  ): void {
    ScoredList.check(settings);
    this.#scores = new Map(
      [...names].map((name) => [name, within(settings, known.get(name) ?? settings.initial)]),
    );
    this.#settings = settings;
  }

  #move(name: string, step: number): void {
    // One that has left may still have calls under way.
    if (this.#scores.has(name)) this.#scores.set(name, within(this.#settings, this.scoreOf(name) + step));
  }
}

function within({ min, max }: ScoreSettings, score: number): number {
  return Math.min(max, Math.max(min, score));
}
