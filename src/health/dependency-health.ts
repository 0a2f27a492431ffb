import { Alarm } from "../system/alarm.ts";
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

/** What the daemon knows of something it depends on without asking: judged anew for whoever looks. */
export interface JudgedDependency {
  readonly name: string;
  /** A sentence for people if it is well; throws the reason if it is not. Must be quick. */
  readonly judge: () => string;
}

export interface DependencyHealthOptions {
  /** As they are now: some come and go while the daemon runs. No two have the same name. */
  readonly dependencies: () => readonly (Dependency | JudgedDependency)[];
  /** From one sweep to the next; asked for after each. */
  readonly intervalMs: () => number;
  /** For each check. */
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** Checks everything the daemon depends on, side by side, and remembers what came out. Readers never wait. */
export class DependencyHealth {
  readonly #options: DependencyHealthOptions;
  readonly #results = new Map<string, DependencyCheck>();
  readonly #alarm: Alarm;

  constructor(options: DependencyHealthOptions) {
    this.#options = options;
    this.#alarm = new Alarm(options.clock);
  }

  /** The last results and what is judged now, in the order in which the dependencies are given. */
  get checks(): readonly DependencyCheck[] {
    const { dependencies, clock } = this.#options;
    return dependencies().map((dependency) =>
      "judge" in dependency
        ? judged(dependency, clock)
        : (this.#results.get(dependency.name) ?? unchecked(dependency.name)),
    );
  }

  /** Sweeps now, or once more if a sweep is under way: things are no longer as they were when it set out. */
  sweepSoon(): void {
    this.#alarm.ring();
  }

  /** Sweeps at once, and then every interval until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.checkNow(signal);
      await this.#alarm.wait(this.#options.intervalMs(), signal);
    }
  }

  /** Checks everything once. Never rejects. */
  async checkNow(signal: AbortSignal): Promise<void> {
    const dependencies = this.#options.dependencies().filter((dependency) => "check" in dependency);
    const names = new Set(dependencies.map(({ name }) => name));
    for (const name of this.#results.keys()) if (!names.has(name)) this.#results.delete(name);
    await Promise.all(dependencies.map((dependency) => this.#check(dependency, signal)));
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
    let outcome: Outcome;
    try {
      outcome = { healthy: true, message: await Promise.race([check(end.signal), timeout]) };
    } catch (error) {
      outcome = unwell(error);
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

type Outcome = Pick<DependencyCheck, "healthy" | "message">;

function unwell(error: unknown): Outcome {
  return { healthy: false, message: error instanceof Error ? error.message : String(error) };
}

function judged({ name, judge }: JudgedDependency, clock: Pick<Clock, "wallNow">): DependencyCheck {
  const now = { name, latencyMs: 0, checkedAt: clock.wallNow() };
  try {
    return { ...now, healthy: true, message: judge() };
  } catch (error) {
    return { ...now, ...unwell(error) };
  }
}

function unchecked(name: string): DependencyCheck {
  return {
    name,
    healthy: undefined,
    message: "not checked yet",
    latencyMs: undefined,
    checkedAt: undefined,
  };
}
