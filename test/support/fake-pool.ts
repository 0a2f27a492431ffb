import type { ListedPool } from "../../src/server/upstream-service.ts";
import type { UpstreamReport } from "../../src/upstream/pool/upstream-pool.ts";

/** A pool that consists of nothing but what it says of itself. */
export class FakePool implements ListedPool {
  upstreams: readonly UpstreamReport[];
  readonly resets: string[] = [];
  /** The signals of the sweeps that have begun. */
  readonly sweeps: AbortSignal[] = [];
  /** What a sweep waits for, and what it changes. */
  sweep: (signal: AbortSignal) => Promise<void> = async () => {};

  constructor(...upstreams: readonly UpstreamReport[]) {
    this.upstreams = upstreams;
  }

  reset(name: string): boolean {
    if (!this.upstreams.some((upstream) => upstream.name === name)) return false;
    this.resets.push(name);
    this.upstreams = this.upstreams.map((upstream) =>
      upstream.name === name ? { ...upstream, breaker: "closed", lastError: undefined } : upstream,
    );
    return true;
  }

  checkNow(signal: AbortSignal): Promise<void> {
    this.sweeps.push(signal);
    return this.sweep(signal);
  }
}

/** One that nothing is known of, beside what is given. */
export function reportOf(name: string, rest: Partial<UpstreamReport> = {}): UpstreamReport {
  return {
    name,
    target: `http://${name}:9201`,
    state: "up",
    kind: undefined,
    score: 1,
    breaker: "closed",
    inFlight: 0,
    latencyMs: undefined,
    status: undefined,
    version: undefined,
    lastError: undefined,
    checkedAt: undefined,
    priority: 0,
    weight: 1,
    ...rest,
  };
}

/** One that is well, and one that is not. */
export const EXAMPLE_UPSTREAMS: readonly UpstreamReport[] = [
  reportOf("root-a", {
    kind: "pbflagd",
    score: 3,
    inFlight: 2,
    latencyMs: 1.44,
    status: "serving",
    version: { epoch: "one", revision: 1_042 },
    checkedAt: Date.UTC(2026, 0, 2, 3, 4, 5),
    priority: 10,
  }),
  reportOf("root-b", {
    state: "down",
    score: -3,
    breaker: "open",
    lastError: {
      message: "Cannot reach http://root-b:9201: connect ECONNREFUSED 10.0.0.8:9201",
      at: Date.UTC(2026, 0, 2, 3, 4, 4, 500),
    },
    checkedAt: Date.UTC(2026, 0, 2, 3, 4, 4),
    weight: 0.5,
  }),
];
