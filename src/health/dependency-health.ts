import type { Clock } from "../system/clock.ts";

/** What the last check of one dependency found. */
export interface DependencyCheck {
  readonly name: string;
  /** Undefined: never checked, which is not the same as unhealthy. */
  readonly healthy: boolean | undefined;
  /** For people; never holds a secret. */
  readonly message: string;
  readonly latencyMs: number | undefined;
  /** Milliseconds since 1970. */
  readonly checkedAt: number | undefined;
}

/** Something the daemon depends on. */
export interface Dependency {
  readonly name: string;
  /** Resolves with a sentence for people if it is well; rejects with the reason if it is not. */
  readonly check: (signal: AbortSignal) => Promise<string>;
}

export interface DependencyHealthOptions {
  readonly dependencies: readonly Dependency[];
  readonly intervalMs: number;
  /** For each check. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Checks everything the daemon depends on, side by side, and remembers what came out. Readers never wait. */
export class DependencyHealth {
  readonly #options: DependencyHealthOptions;
  readonly #results: Map<string, DependencyCheck>;

  constructor(options: DependencyHealthOptions) {
    this.#options = options;
    this.#results = new Map(
      options.dependencies.map(({ name }) => [
        name,
        { name, healthy: undefined, message: "not checked yet", latencyMs: undefined, checkedAt: undefined },
      ]),
    );
  }

  /** The last results, in the order in which the dependencies were given. */
  get checks(): readonly DependencyCheck[] {
    return [...this.#results.values()];
  }

  /** Sweeps at once, and then every interval until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.checkNow(signal);
      await this.#options.clock.sleep(this.#options.intervalMs, signal).catch(() => {});
    }
  }

  /** Checks everything once. Never rejects. */
  async checkNow(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#options.dependencies.map((dependency) => this.#check(dependency, signal)));
  }

  async #check({ name, check }: Dependency, stop: AbortSignal): Promise<void> {
    const { clock, timeoutMs } = this.#options;
    const startedAt = clock.now();
    const end = new AbortController();
    const abort = () => end.abort();
    stop.addEventListener("abort", abort, { once: true });
    const timeout = clock.sleep(timeoutMs, end.signal).then(() => {
      throw new Error(`no answer within ${timeoutMs} ms`);
    });
    let outcome: Pick<DependencyCheck, "healthy" | "message">;
    try {
      outcome = { healthy: true, message: await Promise.race([check(end.signal), timeout]) };
    } catch (error) {
      outcome = { healthy: false, message: error instanceof Error ? error.message : String(error) };
    } finally {
      stop.removeEventListener("abort", abort);
      end.abort();
      // Ends with the abort above; nobody waits for it any more.
      timeout.catch(() => {});
    }
    // A check cut short by the stop says nothing about the dependency.
    if (stop.aborted) return;
    this.#results.set(name, {
      name,
      ...outcome,
      latencyMs: clock.now() - startedAt,
      checkedAt: clock.wallNow(),
    });
  }
}
