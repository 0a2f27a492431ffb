import { BucketCounts } from "./bucket-counts.ts";
import {
  BREAKER_STATES,
  type BreakerState,
  FETCH_BUCKETS,
  UPSTREAM_REJECTIONS,
  type UpstreamOperation,
  type UpstreamRejection,
} from "./metric-list.ts";
import { type Sample, type Series, sample } from "./publish.ts";
import { Tally } from "./tally.ts";

/**
 * Counts by upstream. Their names come from a configuration that can be reloaded, so what has left the pool is
 * forgotten: at a scrape, and whenever a name is counted that was not there.
 */
export class UpstreamCounts {
  readonly #byName = new Map<string, Counts>();
  readonly #names: () => ReadonlySet<string> | undefined;

  /** `names` says who is in the pool now. Undefined: nobody knows yet, and nothing is forgotten. */
  constructor(names: () => ReadonlySet<string> | undefined) {
    this.#names = names;
  }

  recordCall(upstream: string, operation: UpstreamOperation, durationMs: number, failed: boolean): void {
    const { calls } = this.#countsOf(upstream);
    let call = calls.get(operation);
    if (call === undefined) {
      call = { durations: new BucketCounts(FETCH_BUCKETS), failures: 0 };
      calls.set(operation, call);
    }
    call.durations.observe(durationMs / 1_000);
    if (failed) call.failures += 1;
  }

  recordRetry(upstream: string): void {
    this.#countsOf(upstream).retries += 1;
  }

  recordRejection(upstream: string, reason: UpstreamRejection): void {
    this.#countsOf(upstream).rejections.add(reason);
  }

  recordBreakerChange(upstream: string, to: BreakerState): void {
    this.#countsOf(upstream).breakerChanges.add(to);
  }

  /** Only of operations that there have been, as with `failures`. */
  durations(): readonly Series[] {
    return this.#ofEach((upstream, { calls }) =>
      Array.from(calls, ([operation, { durations }]) => ({
        counts: durations,
        labels: { upstream, operation },
      })),
    );
  }

  failures(): readonly Sample[] {
    return this.#ofEach((upstream, { calls }) =>
      Array.from(calls, ([operation, { failures }]) => sample(failures, { upstream, operation })),
    );
  }

  retries(): readonly Sample[] {
    return this.#ofEach((upstream, { retries }) => [sample(retries, { upstream })]);
  }

  rejections(): readonly Sample[] {
    return this.#ofEach((upstream, { rejections }) => rejections.samples((reason) => ({ upstream, reason })));
  }

  breakerChanges(): readonly Sample[] {
    return this.#ofEach((upstream, { breakerChanges }) =>
      breakerChanges.samples((state) => ({ upstream, state })),
    );
  }

  /** A call that ends after its upstream has left the pool is counted, but is gone with the next name. */
  #countsOf(upstream: string): Counts {
    const known = this.#byName.get(upstream);
    if (known !== undefined) return known;
    this.#forgetGone();
    const counts = emptyCounts();
    this.#byName.set(upstream, counts);
    return counts;
  }

  #forgetGone(): void {
    const names = this.#names();
    if (names === undefined) return;
    for (const name of this.#byName.keys()) if (!names.has(name)) this.#byName.delete(name);
  }

  /** Everyone in the pool is published, with zeros if nothing has happened yet. */
  #ofEach<T>(toSeries: (upstream: string, counts: Counts) => readonly T[]): readonly T[] {
    this.#forgetGone();
    const names = this.#names() ?? this.#byName.keys();
    return Array.from(names, (name) => toSeries(name, this.#byName.get(name) ?? emptyCounts())).flat();
  }
}

type Counts = ReturnType<typeof emptyCounts>;

function emptyCounts() {
  return {
    calls: new Map<UpstreamOperation, { readonly durations: BucketCounts; failures: number }>(),
    retries: 0,
    rejections: new Tally(UPSTREAM_REJECTIONS),
    breakerChanges: new Tally(BREAKER_STATES),
  };
}
