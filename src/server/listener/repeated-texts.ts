/** Of those that came once. */
const ONCE_MAX = 16;

/**
 * Remembers what was found for texts that come again and again. What comes once, as every text of some clients does, is
 * soon forgotten: it would only outlive its time in memory, and put out what is of use.
 */
export class RepeatedTexts<V> {
  readonly #knownMax: number;
  // Replaced, not cleared: V8 has a cleared collection point to what follows it, and so on, which then all lives as long as the
  // oldest of them.
  #known = new Map<string, V>();
  #once = new Set<string>();

  constructor(knownMax: number) {
    this.#knownMax = knownMax;
  }

  get(text: string): V | undefined {
    return this.#known.get(text);
  }

  /** To be called for a text that is not known, with what was found for it. */
  found(text: string, value: V): void {
    if (!this.#once.has(text)) {
      if (this.#once.size === ONCE_MAX) this.#once = new Set();
      this.#once.add(text);
      return;
    }
    if (this.#known.size === this.#knownMax) this.#known = new Map();
    this.#known.set(text, value);
  }

  forget(): void {
    this.#known = new Map();
    this.#once = new Set();
  }
}
