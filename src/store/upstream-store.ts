import type { FlagState, Overrides } from "../evaluation/state.ts";
import type { Version } from "../evaluation/version.ts";
import type { Clock } from "../system/clock.ts";
import type { PoolOperation, Reached, UpstreamPool } from "../upstream/pool/upstream-pool.ts";
import { withDeadline } from "../upstream/transport/deadline.ts";
import { BatchReads } from "./batch-reads.ts";
import { type Batch, type FlagStore, StoreError, type Worth } from "./flag-store.ts";
import { PlainReads } from "./plain-reads.ts";

export interface UpstreamStoreOptions {
  /** Closed with the store. */
  readonly pool: Pick<UpstreamPool, "call" | "kind" | "strategy"> & AsyncDisposable;
  /** For every question, all tries included; for each page of keys where one asks for more. */
  readonly fetchTimeoutMs: number;
  readonly clock: Clock;
}

/** Keys in one RPC of pbflagd: as many as it takes. */
const BATCH_KEYS = 1_000;
/**
 * Keys of a plain evaluator that share a deadline. It takes one RPC each, and thousands of them cannot be had within
 * the time that a request may wait: a proxy would never finish its first load. An upstream that hangs is still given up
 * after one deadline.
 */
const PLAIN_KEYS = 200;
/** Entities that are asked for by themselves, so many at a time. */
const ENTITIES_AT_ONCE = 16;

/** Reads flag state from other evaluators, pbflagd or pbflags. */
export function openUpstreamStore({ pool, fetchTimeoutMs, clock }: UpstreamStoreOptions): FlagStore {
  const batches = new BatchReads();
  const plain = new PlainReads();

  async function ask<T extends Worth>(question: {
    readonly what: string;
    readonly operation: PoolOperation;
    readonly key?: string;
    readonly bypassesBreaker?: boolean;
    readonly atLeast: Version | undefined;
    readonly run: (upstream: Reached) => Promise<T>;
  }): Promise<T> {
    const { what, ...call } = question;
    try {
      return await withDeadline({ timeoutMs: fetchTimeoutMs, clock }, (deadline) =>
        pool.call({ ...call, deadline, versionOf: ({ version }) => version }),
      );
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new StoreError(`Cannot read ${what}: ${reason}`, { cause: error });
    }
  }

  function readFlags(flagIds: readonly string[], atLeast: Version | undefined): Promise<Batch<FlagState>> {
    return ask({
      what: "flag states",
      operation: "flag_state",
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
    key?: string,
  ): Promise<Batch<Overrides>> {
    return ask({
      what: "overrides",
      operation: "overrides",
      ...(key === undefined ? {} : { key }),
      atLeast,
      run: (upstream) =>
        upstream.kind === "pbflagd"
          ? batches.overrides(upstream, entityIds, atLeast)
          : plain.overrides(upstream, entityIds),
    });
  }

  const keysMax = () => (pool.kind === "pbflagd" ? BATCH_KEYS : PLAIN_KEYS);

  return {
    flagStates: (flagIds, atLeast) =>
      readPages(pagesOf(flagIds, keysMax()), 1, (page) => readFlags(page, atLeast)),

    overrides: (entityIds, atLeast) =>
      // Each entity has its place in such a pool.
      pool.strategy === "consistent-hash"
        ? readPages(pagesOf(entityIds, 1), ENTITIES_AT_ONCE, (page) => readOverrides(page, atLeast, page[0]))
        : readPages(pagesOf(entityIds, keysMax()), 1, (page) => readOverrides(page, atLeast)),

    kills: (since, atLeast) =>
      ask({
        what: "the kill set",
        operation: "killed_flags",
        // Kills do not wait for a breaker: an upstream that was away twice in a minute has its open for long.
        bypassesBreaker: true,
        atLeast,
        run: (upstream) =>
          upstream.kind === "pbflagd" ? batches.kills(upstream, since, atLeast) : plain.kills(upstream),
      }),

    [Symbol.asyncDispose]: () => pool[Symbol.asyncDispose](),
  };
}

/**
 * Reads page by page, so many at a time. Once one has failed no other begins: their keys are untold, as its own are.
 * Rejects if nothing at all was told.
 */
async function readPages<V>(
  pages: readonly (readonly string[])[],
  atOnce: number,
  read: (page: readonly string[]) => Promise<Batch<V>>,
): Promise<Batch<V>> {
  const [only] = pages;
  if (only !== undefined && pages.length === 1) return read(only);
  const told: Batch<V>[] = [];
  const untold: string[] = [];
  let failure: unknown;
  const queue = pages.values();
  const work = async () => {
    for (const page of queue) {
      if (failure !== undefined) untold.push(...page);
      else
        await read(page).then(
          (batch) => told.push(restated(batch, page)),
          (error: unknown) => {
            failure = error;
            untold.push(...page);
          },
        );
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, pages.length) }, work));
  if (told.length === 0 && failure !== undefined) throw failure;
  return merged(told, untold);
}

/** With what each key is worth told of each. */
function restated<V>(batch: Batch<V>, keys: readonly string[]): Batch<V> {
  const { version, ageMs } = batch;
  const worth = { version, ageMs };
  return { ...batch, deviations: new Map(keys.map((key) => [key, batch.deviations?.get(key) ?? worth])) };
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

function pagesOf<T>(items: readonly T[], size: number): readonly (readonly T[])[] {
  const pages: (readonly T[])[] = [];
  for (let i = 0; i < items.length; i += size) pages.push(items.slice(i, i + size));
  return pages;
}
