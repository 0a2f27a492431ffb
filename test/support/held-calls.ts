import { StoreError } from "../../src/store/flag-store.ts";
import type { Clock } from "../../src/system/clock.ts";
import type { MemoryStoreCall } from "./memory-store.ts";

/** Whether a call waits for its turn to read, or has read and its answer is on its way. */
export type Phase = "before" | "after";

export interface HeldCallsOptions {
  readonly clock: Pick<Clock, "sleep">;
  /** No store takes longer to answer, or to give up. */
  readonly timeoutMs: number;
}

interface Held {
  readonly phase: Phase;
  readonly release: () => void;
  readonly cut: () => void;
}

/** Calls of a store that wait until a test lets them go on, in the order it likes, or their deadline passes. */
export class HeldCalls {
  readonly #options: HeldCallsOptions;
  readonly #held = new Map<MemoryStoreCall, Held>();

  constructor(options: HeldCallsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#held.size;
  }

  has(call: MemoryStoreCall): boolean {
    return this.#held.has(call);
  }

  /** Rejects with a StoreError if the call is not released in time. */
  hold(call: MemoryStoreCall, phase: Phase): Promise<void> {
    const { clock, timeoutMs } = this.#options;
    return new Promise((resolve, reject) => {
      const end = new AbortController();
      const settle = (then: () => void) => () => {
        end.abort();
        this.#held.delete(call);
        then();
      };
      const cut = settle(() => reject(new StoreError("Cannot reach store: the connection is lost")));
      this.#held.set(call, { phase, cut, release: settle(resolve) });
      clock.sleep(timeoutMs, end.signal).then(cut, () => {});
    });
  }

  /** One of them; which, wraps around. */
  release(index: number): void {
    const held = [...this.#held.values()];
    held[index % Math.max(1, held.length)]?.release();
  }

  releaseAll(): void {
    for (const held of [...this.#held.values()]) held.release();
  }

  /** The store is gone for calls that it has not read for. */
  cutUnread(): void {
    for (const held of [...this.#held.values()]) if (held.phase === "before") held.cut();
  }
}
