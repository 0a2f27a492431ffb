import type { Namespace } from "../../namespaces/namespace.ts";
import { runInSlices } from "../../system/run-in-slices.ts";

export interface FollowersOptions {
  readonly namespace: Pick<Namespace, "onKnowledge">;
  /** How many follow, whenever that changes. */
  readonly onCount: (count: number) => void;
}

/** All who follow. Each has to look for itself whether there is news; this says when to look. */
export class Followers {
  readonly #onCount: (count: number) => void;
  readonly #looks = new Set<() => void>();
  #isTelling = false;
  #isNew = false;

  constructor({ namespace, onCount }: FollowersOptions) {
    this.#onCount = onCount;
    namespace.onKnowledge(() => {
      this.#isNew = true;
      // Not before whoever learnt it has done with it.
      if (!this.#isTelling) void Promise.resolve().then(() => this.#tell());
    });
  }

  /** `look` must not throw. Returns how to leave. */
  join(look: () => void): () => void {
    // A function of its own: the same one may join twice.
    const own = () => look();
    this.#looks.add(own);
    this.#onCount(this.#looks.size);
    return () => {
      if (this.#looks.delete(own)) this.#onCount(this.#looks.size);
    };
  }

  async #tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    while (this.#isNew) {
      this.#isNew = false;
      await runInSlices(this.#round());
    }
    this.#isTelling = false;
  }

  *#round(): Generator<undefined, void> {
    for (const look of this.#looks) {
      look();
      yield undefined;
    }
  }
}
