import type { Clock } from "./clock.ts";

/** A wait that somebody else may end early. For a loop that sleeps and can be told to look now. */
export class Alarm {
  readonly #clock: Pick<Clock, "sleep">;
  #rung = false;
  #wake: (() => void) | undefined;

  constructor(clock: Pick<Clock, "sleep">) {
    this.#clock = clock;
  }

  /** Ends the wait that is running, or else the next one as soon as it begins. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves after `ms`, when the alarm rings, or when `signal` aborts. Never rejects. One waiter at a time. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted) {
      const end = new AbortController();
      const wake = () => end.abort();
      this.#wake = wake;
      signal.addEventListener("abort", wake, { once: true });
      await this.#clock.sleep(ms, end.signal).catch(() => {});
      signal.removeEventListener("abort", wake);
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}
