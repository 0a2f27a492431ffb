import { type Sample, sample } from "./publish.ts";

/** Counts occurrences of a few known words. */
export class Tally<K extends string> {
  readonly #words: readonly K[];
  readonly #totals: number[];

  constructor(words: readonly K[]) {
    this.#words = words;
    this.#totals = words.map(() => 0);
  }

  add(word: K): void {
    const index = this.#words.indexOf(word);
    this.#totals[index] = (this.#totals[index] ?? 0) + 1;
  }

  /** One for each word, those that never occurred included. */
  samples(labelsOf: (word: K) => Readonly<Record<string, string>>): readonly Sample[] {
    return this.#words.map((word, index) => sample(this.#totals[index] ?? 0, labelsOf(word)));
  }
}
