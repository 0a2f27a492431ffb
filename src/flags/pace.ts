/** Between two pauses. Each takes some ten microseconds at most. */
const partsBetween = 64;
/** So many bytes take as long as one part more. */
const bytesOfPart = 4 * 1024;

/** Says when a long walk over parts of very different sizes should pause: asking the clock takes as long as a part. */
export class Pace {
  /** Parts so far. */
  count = 0;
  #left = partsBetween;

  /** Counts one part. True: a pause is due before it is looked at. */
  isDue(bytes: number): boolean {
    this.count += 1;
    this.#left -= 1 + bytes / bytesOfPart;
    if (this.#left > 0) return false;
    this.#left = partsBetween;
    return true;
  }
}
