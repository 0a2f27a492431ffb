import type { Clock } from "../system/clock.ts";

/** Matches answers from another process with what was asked. */
export class Questions<T> {
  readonly #clock: Pick<Clock, "after">;
  readonly #timeoutMs: number;
  readonly #asked = new Map<number, (answer: T | undefined) => void>();
  #lastId = 0;

  constructor({ clock, timeoutMs }: { readonly clock: Pick<Clock, "after">; readonly timeoutMs: number }) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** Undefined: no answer came in time. */
  ask(send: (id: number) => void): Promise<T | undefined> {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(this.#timeoutMs, () => this.answered(id, undefined));
      this.#asked.set(id, (answer) => {
        cancel();
        resolve(answer);
      });
      send(id);
    });
  }

  answered(id: number, answer: T | undefined): void {
    const tell = this.#asked.get(id);
    this.#asked.delete(id);
    tell?.(answer);
  }
}
