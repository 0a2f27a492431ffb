/** Answers in a row that are not as announced, until the announcement counts no more: its author may be gone. */
const STRAYS_MAX = 10;

/**
 * Which of several sets is the one to have. Where the upstream is a pool whose members are renewed one after the other,
 * they have different sets for a while, and every question may be answered by another. The set that was announced last
 * is the newest: without that, flags would come and go with every answer.
 */
export class Announcements {
  #announced: string | undefined;
  #strays = 0;

  /** Somebody has the set with this hash, and had another before. */
  announce(hash: string): void {
    this.#announced = hash;
    this.#strays = 0;
  }

  /** Takes in the hash of an answer. True: somebody else should be asked again. */
  isStray(hash: string): boolean {
    this.#strays = this.#announced === undefined || hash === this.#announced ? 0 : this.#strays + 1;
    if (this.#strays < STRAYS_MAX) return this.#strays > 0;
    this.announce(hash);
    return false;
  }
}
