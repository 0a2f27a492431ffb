/** A histogram as plain numbers: counting costs a few additions, and what it adds up to is worked out when asked for. */
export class BucketCounts {
  readonly #bounds: readonly number[];
  /** One more than there are bounds: the last counts what lies above them all. */
  readonly #counts: Float64Array;
  #sum = 0;

  /** Upper bounds in ascending order; a value equal to one belongs to its bucket. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  observe(value: number): void {
    let bucket = 0;
    // One after the other: bounds are few, and most values fall under the first.
    for (const bound of this.#bounds) {
      if (value <= bound) break;
      bucket += 1;
    }
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += value;
  }

  get sum(): number {
    return this.#sum;
  }

  /** How many values were at most each bound. The last entry, for infinity, counts them all. */
  cumulative(): readonly { readonly le: string; readonly count: number }[] {
    let count = 0;
    return Array.from(this.#counts, (inBucket, index) => {
      count += inBucket;
      return { le: index < this.#bounds.length ? String(this.#bounds[index]) : "+Inf", count };
    });
  }
}
