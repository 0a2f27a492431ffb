import type { FlagState, Overrides } from "../evaluation/state.ts";
import type { Version } from "../evaluation/version.ts";
import type { Clock } from "../system/clock.ts";
import type { PoolCall, UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import { type Deadline, withDeadline } from "../upstream/transport/deadline.ts";
import { saysStoreIsAway } from "../upstream/upstream-error.ts";
import { BatchReads } from "./batch-reads.ts";
import { type Batch, type FlagStore, StoreError, type Worth } from "./flag-store.ts";
import { PlainReads } from "./plain-reads.ts";

export interface UpstreamStoreOptions {
  /** Closed with the store. */
  readonly pool: Pick<UpstreamPool, "call" | "strategy"> & AsyncDisposable;
  /** For every question, all tries included. */
  readonly fetchTimeoutMs: number;
  readonly clock: Clock;
}

/** Reads flag state from other evaluators, pbflagd or pbflags. */
export function openUpstreamStore({ pool, fetchTimeoutMs, clock }: UpstreamStoreOptions): FlagStore {
  const batches = new BatchReads();
  const plain = new PlainReads();

  /** Whatever is asked on behalf of one question has to be done by one deadline. */
  async function inTime<T>(what: string, ask: (deadline: Deadline) => Promise<T>): Promise<T> {
    try {
      return await withDeadline({ timeoutMs: fetchTimeoutMs, clock }, ask);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new StoreError(`Cannot read ${what}: ${reason}`, { cause: error });
    }
  }

  function call<T extends Worth>(question: Omit<PoolCall<T>, "versionOf">): Promise<T> {
    return pool.call({ ...question, versionOf: ({ version }) => version });
  }

  /** Where the upstreams' own store is away, nothing is told: they have answered, and did not fail. */
  async function callForRows<V>(
    ids: readonly string[],
    question: Omit<PoolCall<Batch<V>>, "versionOf">,
  ): Promise<Batch<V>> {
    try {
      return await call(question);
    } catch (error) {
      if (!saysStoreIsAway(error)) throw error;
      return { version: undefined, ageMs: 0, value: new Map(), untold: new Set(ids) };
    }
  }

  function readFlags(
    flagIds: readonly string[],
    atLeast: Version | undefined,
    deadline: Deadline,
  ): Promise<Batch<FlagState>> {
    return callForRows(flagIds, {
      operation: "flag_state",
      deadline,
      atLeast,
      run: (upstream) =>
        upstream.kind === "pbflagd"
          ? batches.flagStates(upstream, flagIds, atLeast)
          : plain.flagStates(upstream, flagIds),
    });
  }

  function readOverrides(
    entityIds: readonly string[],
    atLeast: Version | undefined,
    deadline: Deadline,
    key?: string,
  ): Promise<Batch<Overrides>> {
    return callForRows(entityIds, {
      operation: "overrides",
      deadline,
      key,
      atLeast,
      run: (upstream) =>
        upstream.kind === "pbflagd"
          ? batches.overrides(upstream, entityIds, atLeast)
          : plain.overrides(upstream, entityIds),
    });
  }

  return {
    flagStates: (flagIds, atLeast) =>
      inTime("flag states", (deadline) => readFlags(flagIds, atLeast, deadline)),

    overrides: (entityIds, atLeast) =>
      inTime("overrides", (deadline) =>
        // Each entity has its place in such a pool.
        pool.strategy === "consistent-hash"
          ? readOneByOne(entityIds, { deadline, clock }, (entityId) =>
              readOverrides([entityId], atLeast, deadline, entityId),
            )
          : readOverrides(entityIds, atLeast, deadline),
      ),

    kills: (since, atLeast) =>
      inTime("the kill set", (deadline) =>
        call({
          operation: "killed_flags",
          deadline,
          // Kills do not wait for a breaker, and what they say has changed does not either.
          bypassesBreaker: true,
          atLeast,
          run: (upstream) =>
            upstream.kind === "pbflagd" ? batches.kills(upstream, since, atLeast) : plain.kills(upstream),
        }),
      ),

    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}

/** Keys that are asked for by themselves, so many at a time. */
const KEYS_AT_ONCE = 16;
/**
 * None sets out with less time than so many times what the slowest took: a try may have no more than half of what is
 * left, and an upstream that is cut short although it is no slower than before would have failed.
 */
const TIMES_SLOWEST = 3;

/**
 * Reads key by key. Once one has failed, or there is too little time for another, no other begins: their keys are
 * untold, as those that failed are. Rejects if nothing at all was told.
 */
async function readOneByOne<V>(
  keys: readonly string[],
  { deadline, clock }: { readonly deadline: Deadline; readonly clock: Pick<Clock, "now"> },
  read: (key: string) => Promise<Batch<V>>,
): Promise<Batch<V>> {
  const [only] = keys;
  if (only !== undefined && keys.length === 1) return read(only);
  const told: Batch<V>[] = [];
  const untold: string[] = [];
  let failure: unknown;
  let slowestMs = 0;
  const queue = keys.values();
  const work = async () => {
    for (const key of queue) {
      const startedAt = clock.now();
      if (failure !== undefined || deadline.at - startedAt < TIMES_SLOWEST * slowestMs) {
        untold.push(key);
        continue;
      }
      try {
        told.push(restated(await read(key), key));
      } catch (error) {
        failure = error;
        untold.push(key);
      }
      slowestMs = Math.max(slowestMs, clock.now() - startedAt);
    }
  };
  await Promise.all(Array.from({ length: Math.min(KEYS_AT_ONCE, keys.length) }, work));
  if (told.length === 0 && failure !== undefined) throw failure;
  return merged(told, untold);
}

/** With what the key is worth told of it. */
function restated<V>(batch: Batch<V>, key: string): Batch<V> {
  const { version, ageMs } = batch;
  return { ...batch, deviations: new Map([[key, batch.deviations?.get(key) ?? { version, ageMs }]]) };
}

function merged<V>(batches: readonly Batch<V>[], untold: readonly string[]): Batch<V> {
  return {
    version: batches[0]?.version,
    ageMs: batches[0]?.ageMs ?? 0,
    value: new Map(batches.flatMap(({ value }) => [...value])),
    deviations: new Map(batches.flatMap(({ deviations = [] }) => [...deviations])),
    untold: new Set([...batches.flatMap((batch) => [...(batch.untold ?? [])]), ...untold]),
  };
}
