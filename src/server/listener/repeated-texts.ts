/** Of those that came once. */
const ONCE_MAX = 16;

/**
 * Remembers what was found for texts that come again and again. What comes once, as every text of some clients does, is
 * soon forgotten: it would only outlive its time in memory, and put out what is of use.
 */
export class RepeatedTexts<V> {
  readonly #knownMax: number;
  readonly #known = new Map<string, V>();
  readonly #once = new Set<string>();

  constructor(knownMax: number) {
    this.#knownMax = knownMax;
  }

  get(text: string): V | undefined {
    return this.#known.get(text);
  }

  /** To be called for a text that is not known, with what was found for it. */
  found(text: string, value: V): void {
    if (!this.#once.has(text)) {
      if (this.#once.size === ONCE_MAX) this.#once.clear();
      this.#once.add(text);
      return;
    }
    if (this.#known.size === this.#knownMax) this.#known.clear();
    this.#known.set(text, value);
  }

  forget(): void {
    this.#known.clear();
    this.#once.clear();
  }
}
