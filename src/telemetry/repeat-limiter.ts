import type { Clock } from "../system/clock.ts";

export interface RepeatLimiterOptions {
  /** How many of one kind get through in a window. */
  readonly repeatsMax: number;
  readonly windowMs: number;
  readonly clock: Pick<Clock, "now">;
}

interface Window {
  readonly startedAt: number;
  admitted: number;
  dropped: number;
}

/** Keeps what happens 2,000 times a second from being told 2,000 times a second. */
export class RepeatLimiter {
  readonly #options: RepeatLimiterOptions;
  /** One for each kind: kinds are names in the source, so there are few. */
  readonly #windows = new Map<string, Window>();

  constructor(options: RepeatLimiterOptions) {
    this.#options = options;
  }

  /** Undefined: keep quiet. Otherwise how many of this kind were kept quiet since one was admitted. */
  admit(kind: string): { readonly dropped: number } | undefined {
    const now = this.#options.clock.now();
    const window = this.#windows.get(kind);
    if (window === undefined || now - window.startedAt >= this.#options.windowMs) {
      this.#windows.set(kind, { startedAt: now, admitted: 1, dropped: 0 });
      return { dropped: window?.dropped ?? 0 };
    }
    if (window.admitted >= this.#options.repeatsMax) {
      window.dropped += 1;
      return undefined;
    }
    window.admitted += 1;
    return { dropped: 0 };
  }
}
