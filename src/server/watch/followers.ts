import type { Namespace } from "../../namespaces/namespace.ts";
import { giveWay, runInSlices } from "../../system/run-in-slices.ts";

export interface FollowersOptions {
  readonly namespace: Pick<Namespace, "onKnowledge">;
  /** Takes in what was learnt, before anybody looks. Each step is a place to pause. Must not throw. */
  readonly takeIn: () => Generator<unknown, void>;
  /** Aborts when the daemon begins to drain: then all look. */
  readonly stopping: AbortSignal;
  /** How many follow, whenever that changes. */
  readonly onCount: (count: number) => void;
}

/** One who follows, among all. */
export interface Seat {
  /** It has something to look for: it does so when its turn comes. */
  ask(): void;
  leave(): void;
}

/**
 * All who follow. Each has to look for itself whether there is news; this says when. However many have something to look
 * for, they do so one after the other, and whatever else there is to do gets its turn in between.
 */
export class Followers {
  readonly #takeIn: FollowersOptions["takeIn"];
  readonly #onCount: (count: number) => void;
  readonly #looks = new Set<() => void>();
  #waiting = new Set<() => void>();
  #isTelling = false;

  constructor({ namespace, takeIn, stopping, onCount }: FollowersOptions) {
    this.#takeIn = takeIn;
    this.#onCount = onCount;
    namespace.onKnowledge(() => this.#askAll());
    stopping.addEventListener("abort", () => this.#askAll(), { once: true });
  }

  /** `look` must not throw. */
  join(look: () => void): Seat {
    // A function of its own: the same one may join twice.
    const own = () => look();
    this.#looks.add(own);
    this.#onCount(this.#looks.size);
    return {
      ask: () => {
        if (!this.#looks.has(own)) return;
        this.#waiting.add(own);
        void this.#tell();
      },
      leave: () => {
        this.#waiting.delete(own);
        if (this.#looks.delete(own)) this.#onCount(this.#looks.size);
      },
    };
  }

  #askAll(): void {
    for (const look of this.#looks) this.#waiting.add(look);
    void this.#tell();
  }

  async #tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    // Not before whoever asks has done with it.
    await Promise.resolve();
    while (this.#waiting.size > 0) {
      await runInSlices(this.#round());
      await giveWay();
    }
    this.#isTelling = false;
  }

  *#round(): Generator<unknown, void> {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    yield* this.#takeIn();
    for (const look of waiting) {
      if (this.#looks.has(look)) look();
      yield undefined;
    }
  }
}
