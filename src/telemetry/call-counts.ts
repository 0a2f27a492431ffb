import { RPC_CODES, type RpcCode } from "../system/rpc-codes.ts";
import { BucketCounts } from "./bucket-counts.ts";
import {
  type Backend,
  FETCH_BUCKETS,
  type Operation,
  PROTOCOLS,
  type Protocol,
  RPC_BUCKETS,
} from "./metric-list.ts";
import { type Sample, type Series, sample } from "./publish.ts";

/** One call of the store. */
export interface Fetch {
  readonly backend: Backend;
  readonly operation: Operation;
  readonly durationMs: number;
  readonly failed: boolean;
}

/** One RPC that was answered, with an error or without. */
export interface Rpc {
  /** `package.Service/Method`. */
  readonly procedure: string;
  readonly protocol: Protocol;
  readonly code: RpcCode;
  readonly durationMs: number;
  /** It took the short way, past Connect's implementation. */
  readonly isFast?: boolean;
}

interface FetchSeries extends Series {
  failures: number;
}

/** Store calls by backend and operation. Only what has been called is published. */
export class FetchCounts {
  readonly #series = new Map<`${Backend} ${Operation}`, FetchSeries>();

  record({ backend, operation, durationMs, failed }: Fetch): void {
    const key = `${backend} ${operation}` as const;
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { counts: new BucketCounts(FETCH_BUCKETS), labels: { backend, operation }, failures: 0 };
      this.#series.set(key, series);
    }
    series.counts.observe(durationMs / 1_000);
    if (failed) series.failures += 1;
  }

  durations(): readonly Series[] {
    return [...this.#series.values()];
  }

  failures(): readonly Sample[] {
    return Array.from(this.#series.values(), ({ failures, labels }) => sample(failures, labels));
  }
}

/** Where procedures are counted that the server does not have. */
const OTHER = "other";

interface ProcedureCounts extends Series {
  /** One number for each protocol and code. */
  readonly requests: Float64Array;
  fast: number;
}

/** RPCs by procedure, protocol and code. The procedures are given: a caller cannot add one. */
export class RpcCounts {
  readonly #byProcedure: ReadonlyMap<string, ProcedureCounts>;
  readonly #other: ProcedureCounts;

  constructor(procedures: readonly string[]) {
    this.#other = emptyCounts(OTHER);
    const known = procedures.map((procedure) => [procedure, emptyCounts(procedure)] as const);
    this.#byProcedure = new Map([...known, [OTHER, this.#other]]);
  }

  record({ procedure, protocol, code, durationMs, isFast = false }: Rpc): void {
    const series = this.#byProcedure.get(procedure) ?? this.#other;
    const index = PROTOCOLS.indexOf(protocol) * RPC_CODES.length + RPC_CODES.indexOf(code);
    series.requests[index] = (series.requests[index] ?? 0) + 1;
    if (isFast) series.fast += 1;
    series.counts.observe(durationMs / 1_000);
  }

  /** Only what has occurred: most codes never do. */
  requests(): readonly Sample[] {
    return [...this.#byProcedure.values()].flatMap(({ requests, labels }) =>
      PROTOCOLS.flatMap((protocol, row) =>
        RPC_CODES.map((code, column) =>
          sample(requests[row * RPC_CODES.length + column] ?? 0, { ...labels, protocol, code }),
        ),
      ).filter(({ value }) => value > 0),
    );
  }

  /** Of procedures that have a fast way, once somebody has gone it. */
  fast(): readonly Sample[] {
    return Array.from(this.#byProcedure.values(), ({ fast, labels }) => sample(fast, labels)).filter(
      ({ value }) => value > 0,
    );
  }

  durations(): readonly Series[] {
    return [...this.#byProcedure.values()].filter(({ requests }) => requests.some((count) => count > 0));
  }
}

function emptyCounts(procedure: string): ProcedureCounts {
  return {
    counts: new BucketCounts(RPC_BUCKETS),
    labels: { procedure },
    requests: new Float64Array(PROTOCOLS.length * RPC_CODES.length),
    fast: 0,
  };
}
