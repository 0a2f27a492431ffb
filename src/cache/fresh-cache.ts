import type { MaybeLater } from "../evaluation/evaluator.ts";
import { BEFORE_START, type Remembered } from "../evaluation/remembered.ts";
import type { Found } from "../evaluation/state.ts";
import { isAtLeast, isOlder, type Stamp, type Version } from "../evaluation/version.ts";
import type { Batch as BatchAnswer, Worth } from "../store/flag-store.ts";
import type { Clock } from "../system/clock.ts";
import type { Memory } from "./memory.ts";

/** What a cache remembers under one key. Replaced as a whole, never edited. */
export interface Entry<V> {
  /** Undefined: the store holds nothing under this key. */
  readonly value: V | undefined;
  readonly stamp: Stamp;
  /** When the root read the database, on this process's monotonic clock. */
  readonly readAt: number;
  /** Fresh before; served at once while a refresh runs after. */
  readonly freshUntil: number;
  /** From here on a request waits for the store, and gets this only if the store fails. */
  readonly waitFrom: number;
  /** The last attempt to refresh this entry failed. */
  readonly failed: boolean;
  /** Not asked again before, where the store's last answer was itself too old. */
  readonly retryFrom: number;
}

/**
 * That an entry is not good enough, from a change notice until that is satisfied. Kept beside the entries, and one for
 * all that a notice tells of: there may be very many.
 */
interface Demand {
  /** Knowledge older than this is not good enough. */
  readonly needed: Stamp;
  /** When that was told. What was asked before then may be asked again at once. */
  readonly since: number;
  /**
   * Expired: served while it is refreshed. Dropped: a request waits for the store, and gets this only if the store fails.
   * Withdrawn: what was remembered is wrong. It is not served, and yet nothing older may take its place.
   */
  readonly kind: "expired" | "dropped" | "withdrawn";
}

/** What is remembered under a key, for another evaluator. */
export interface Known<V> extends Pick<Entry<V>, "value" | "stamp" | "readAt"> {
  /** It is known to have changed since. */
  readonly isOutdated: boolean;
}

/** Of how many keys something was in memory, and of how many nothing was that could be served. */
export interface HitsAndMisses {
  readonly hits: number;
  readonly misses: number;
}

export interface FreshCacheOptions<V> {
  /** 0: write-through. Every read asks the store; the memory is only the fallback. */
  readonly ttlMs: number;
  /** How long "there is none" is believed where the store has no versions. */
  readonly negativeTtlMs: number;
  /** Whether this key is refreshed ahead of expiry: then a read waits for it after two `ttlMs` only, absent or not. */
  readonly isRefreshedAhead?: (key: string) => boolean;
  /** Spreads expiry over the TTL plus or minus this share of it (0 to 1). */
  readonly jitter: number;
  readonly memory: Memory<Entry<V>>;
  /**
   * Asks the store for all keys at once; rejects if it fails. `atLeast` is the newest version that any of them is
   * known to have to be of.
   */
  readonly fetch: (keys: readonly string[], atLeast: Version | undefined) => Promise<BatchAnswer<V>>;
  /** How many batches of a load are under way at once. Unset: 1. */
  readonly batchesAtOnce?: number | undefined;
  /**
   * What is known of the store's state. An answer from an older version may lack a change that has been
   * told already: it is served, and asked for again.
   */
  readonly floor: () => Stamp | undefined;
  /** Whether asking would fail at once, because the breaker is open. */
  readonly isCut: () => boolean;
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  /** An answer arrived. The keys are those of one stamp that it told nothing older of than what was known. */
  readonly onAnswer?: (keys: readonly string[], answer: BatchAnswer<V>, stamp: Stamp) => void;
  /** What an answer told of a key took the place of what was known, or of nothing. */
  readonly onLearnt?: (key: string, previous: "none" | "good" | "outdated") => void;
  /** Whether a store can hold anything under this key. If not, a read finds nothing there, and nobody is asked. Unset: it can. */
  readonly isPossible?: (key: string) => boolean;
  /** Something was read: once for all keys that were read together. */
  readonly onRead?: (counted: HitsAndMisses) => void;
}

/** What became of each key of a batch; missing where the store failed and nothing was known. */
type Outcome<V> = ReadonlyMap<string, Entry<V>>;

interface Batch<V> {
  readonly keys: Set<string>;
  readonly done: Promise<Outcome<V>>;
}

/** Keys of which an answer tells what is worth the same. */
interface Part {
  readonly stamp: Stamp;
  /** Those of which it tells nothing older than what was known. */
  readonly keys: string[];
}

/** What an answer tells of one key. */
interface Learnt<V> {
  /** Undefined: the store holds nothing under it. */
  readonly value: V | undefined;
  readonly worth: Worth;
  readonly stamp: Stamp;
}

const NOTHING: Found<never> = { kind: "fresh", value: undefined };

const ONE_HIT: HitsAndMisses = { hits: 1, misses: 0 };
const ONE_MISS: HitsAndMisses = { hits: 0, misses: 1 };

/** How long to leave a store alone whose answer was too old, such as a replica that lags. */
const RETRY_OLD_AFTER_MS = 100;
/** An answer about more than this would hold up everybody else while it is taken in. No store takes over a thousand. */
const BATCH_KEYS_MAX = 500;
/** Batches that are under way in the background at once. */
const REFRESHES_MAX = 2;

/**
 * Remembers what a store answered and knows what the memory is worth.
 *
 * Up to one time to live an entry is fresh; up to two it is served at once while one refresh runs; after
 * that a read waits for the store. Whatever happens, the last known answer is served rather than none.
 * Reads of one key share one fetch, and reads in the same turn share one batch.
 */
export class FreshCache<V> {
  readonly #options: FreshCacheOptions<V>;
  readonly #fetches = new Map<string, Promise<Outcome<V>>>();
  /** By key, what its entry falls short of. Some whose entry is forgotten are among them. */
  readonly #demands = new Map<string, Demand>();
  /** Keys to be refreshed in the background, in the order in which that is to be. */
  readonly #due = new Set<string>();
  #refreshing = 0;
  #batch: Batch<V> | undefined;
  #revision = 0;

  constructor(options: FreshCacheOptions<V>) {
    this.#options = options;
  }

  /** Entries in memory, absent ones counted. */
  get size(): number {
    return this.#options.memory.size;
  }

  /** Another number whenever something else is remembered under any key, or of what that is worth. */
  get revision(): number {
    return this.#revision;
  }

  /** What is remembered under this key while that is fresh: until its time is over, if the revision stays. */
  fresh(key: string, now: number): Entry<V> | undefined {
    const { memory, ttlMs } = this.#options;
    const entry = memory.get(key);
    if (entry === undefined || ttlMs === 0 || now >= entry.freshUntil || this.#demands.has(key))
      return undefined;
    return entry;
  }

  /** A promise only where the store has to be asked. `now` is on the monotonic clock. Never rejects. */
  read(key: string, now = this.#options.clock.now()): MaybeLater<Found<V>> {
    const known = this.#fromMemory(key, now);
    const isMissed = isMiss(known);
    // Looking at each character takes as long as a look-up: only what is not in memory may be impossible.
    if (isMissed && this.#options.isPossible?.(key) === false) return NOTHING;
    this.#options.onRead?.(isMissed ? ONE_MISS : ONE_HIT);
    return known ?? this.#fromStore(key);
  }

  /** One answer for each key, in their order. A promise only where the store has to be asked. Never rejects. */
  readMany(keys: readonly string[], now = this.#options.clock.now()): MaybeLater<readonly Found<V>[]> {
    const found = keys.map((key) => this.#fromMemory(key, now));
    let misses = 0;
    for (const one of found) if (isMiss(one)) misses += 1;
    this.#options.onRead?.({ hits: keys.length - misses, misses });
    if (found.every(isKnown)) return found;
    return Promise.all(keys.map(async (key, i) => found[i] ?? this.#fromStore(key)));
  }

  /**
   * What is remembered under each key, for another evaluator: in their order, undefined where nothing is known. Asks
   * the store, and waits for it, where that is known to be outdated, or old enough for a read to wait. Never rejects.
   */
  async current(keys: readonly string[]): Promise<readonly (Known<V> | undefined)[]> {
    const fetches = keys.map((key) => (this.#isDue(key) ? this.#fetch(key) : undefined));
    const outcomes = await Promise.all(fetches.map(async (fetch) => fetch));
    return keys.map((key, i) => {
      // A full memory may have dropped again what the fetch brought.
      const entry = this.peek(key) ?? outcomes[i]?.get(key);
      const demand = this.#demands.get(key);
      if (entry === undefined || demand?.kind === "withdrawn") return undefined;
      const { value, stamp, readAt } = entry;
      return { value, stamp, readAt, isOutdated: demand !== undefined };
    });
  }

  /** What is remembered, to outlive this process: what would be missed most first. Skips what is not `worthwhile`. */
  remembered(
    toWall: (readAt: number) => number,
    worthwhile: (key: string, value: V | undefined, isWithdrawn: boolean) => boolean,
    entriesMax: number,
  ): readonly Remembered<V>[] {
    const { memory, floor } = this.#options;
    const polled = floor()?.version;
    const remembered: Remembered<V>[] = [];
    for (const id of memory.byWorth()) {
      if (remembered.length >= entriesMax) break;
      const entry = memory.peek(id);
      if (entry === undefined) continue;
      const demand = this.#demands.get(id);
      const isWithdrawn = demand?.kind === "withdrawn";
      const value = isWithdrawn ? undefined : entry.value;
      if (!worthwhile(id, value, isWithdrawn)) continue;
      const { stamp, readAt } = entry;
      const isOutdated = demand !== undefined;
      const version = holdsAt({ stamp, isOutdated }, polled);
      remembered.push({ id, value, version, readAtWallMs: toWall(readAt), isOutdated, isWithdrawn });
    }
    return remembered;
  }

  /**
   * Takes in what an earlier process remembered, in the order of `remembered`, before anything else is known. Each is
   * served, as what could not be refreshed, until the store tells more.
   */
  restore(remembered: readonly Remembered<V>[], fromWall: (readAtWallMs: number) => number): void {
    const { clock, floor } = this.#options;
    const now = clock.now();
    for (const { id, value, version, readAtWallMs, isOutdated, isWithdrawn } of remembered.toReversed()) {
      const readAt = fromWall(readAtWallMs);
      const { waitTtl } = this.#spreadTtls(id, value, version);
      const stamp = { version, askedAt: BEFORE_START, readAt };
      const entry = {
        value,
        stamp,
        readAt,
        freshUntil: -Infinity,
        waitFrom: readAt + 2 * waitTtl,
        failed: true,
        retryFrom: 0,
      };
      const kind = isWithdrawn ? "withdrawn" : "dropped";
      const isGood = !isOutdated && !isWithdrawn;
      this.#keep(id, entry, isGood ? undefined : { needed: floor() ?? stamp, since: now, kind });
    }
  }

  /**
   * Asks the store for these keys now, in as many batches at a time as it likes: all at once would be too much for a slow
   * one. The first goes alone, so that whatever else is asked in the same moment has not to wait. False if not all of them
   * were told. Never rejects.
   */
  async load(keys: readonly string[]): Promise<boolean> {
    let next = 0;
    const loadNext = () => this.#loadBatch(keys.slice(next, (next += BATCH_KEYS_MAX)));
    let isLoaded = await loadNext();
    const loadRest = async () => {
      while (next < keys.length) isLoaded = (await loadNext()) && isLoaded;
    };
    await Promise.all(Array.from({ length: this.#options.batchesAtOnce ?? 1 }, loadRest));
    return isLoaded;
  }

  /** What was left untold is asked for again, as long as anything is told. */
  async #loadBatch(keys: readonly string[]): Promise<boolean> {
    const fetches = keys.map((key) => this.#fetch(key));
    const outcomes = new Map<Promise<Outcome<V>>, Outcome<V>>();
    for (const fetch of new Set(fetches)) outcomes.set(fetch, await fetch);
    const untold = keys.filter((key, i) => {
      const fetch = fetches[i];
      return fetch === undefined || outcomes.get(fetch)?.get(key)?.failed !== false;
    });
    if (untold.length === 0 || untold.length === keys.length) return untold.length === 0;
    return this.#loadBatch(untold);
  }

  /**
   * Takes freshness from what is remembered under these keys and refreshes it in the background; what comes
   * must be at least as new as `needed`. With `drop`, the entry is no longer served unless the store fails.
   */
  expire(keys: Iterable<string>, needed: Stamp, { drop = false } = {}): void {
    const { memory, clock } = this.#options;
    const demand = demandOf(needed, clock.now());
    for (const key of keys) {
      const known = this.#demands.get(key);
      const kind = drop && known?.kind !== "withdrawn" ? "dropped" : (known?.kind ?? "expired");
      const isTold = known?.needed === needed && known.kind === kind;
      if (!isTold) {
        const entry = memory.peek(key);
        if (entry === undefined || !isOlder(entry.stamp, needed)) continue;
        this.#demands.set(key, demand[kind]);
        this.#revision += 1;
      }
      this.#due.add(key);
    }
    this.#refresh();
  }

  /** What is remembered under these keys is wrong: it is not served any more, nor anything older than `needed`. */
  withdraw(keys: Iterable<string>, needed: Stamp): void {
    const { memory, clock } = this.#options;
    const now = clock.now();
    let demand: Demand | undefined;
    for (const key of keys) {
      if (memory.peek(key) === undefined) continue;
      const known = this.#demands.get(key);
      // What is told again is no reason to ask again.
      const since = known?.needed === needed ? known.since : now;
      if (demand?.since !== since) demand = { needed, since, kind: "withdrawn" };
      this.#demands.set(key, demand);
      this.#revision += 1;
    }
  }

  /** Refreshes in the background what is past its time to live. */
  refreshDue(): void {
    const { memory, clock } = this.#options;
    const now = clock.now();
    const due: string[] = [];
    memory.forEach(({ freshUntil }, key) => {
      if (freshUntil <= now || this.#demands.has(key)) due.push(key);
    });
    void this.load(due);
  }

  /** Asks again for what is still older than needed, because the store failed or lagged behind. */
  refreshOutdated(): void {
    for (const key of this.#demands.keys()) {
      if (this.peek(key) === undefined) this.#demands.delete(key);
      else this.#due.add(key);
    }
    this.#refresh();
  }

  /** The same for these keys, at once. */
  refresh(keys: Iterable<string>): void {
    for (const key of keys) this.#due.add(key);
    this.#refresh();
  }

  /** Asks for what is due, in so many batches at a time that others find the store free, and their turn. */
  #refresh(): void {
    for (; this.#due.size > 0 && this.#refreshing < REFRESHES_MAX; this.#refreshing++)
      void this.#refreshDue();
  }

  async #refreshDue(): Promise<void> {
    while (this.#due.size > 0) {
      const keys: string[] = [];
      for (const key of this.#due) {
        this.#due.delete(key);
        // Whoever read it meanwhile may have refreshed it.
        if (this.isOutdated(key)) keys.push(key);
        if (keys.length === BATCH_KEYS_MAX) break;
      }
      if (keys.length > 0) await this.#loadBatch(keys);
    }
    this.#refreshing--;
  }

  /** What was learnt last, be it withdrawn. */
  peek(key: string): Entry<V> | undefined {
    return this.#options.memory.peek(key);
  }

  /** Whether what is remembered under this key is known to have changed since. */
  isOutdated(key: string): boolean {
    return this.#demands.has(key) && this.peek(key) !== undefined;
  }

  /** Whether what is remembered under this key is known to be wrong. */
  isWithdrawn(key: string): boolean {
    return this.#demands.get(key)?.kind === "withdrawn";
  }

  keys(): Iterable<string> {
    return this.#options.memory.keys();
  }

  /** Has the memory choose anew what it keeps: what it goes by has changed. */
  rearrange(): void {
    const { memory } = this.#options;
    for (const key of [...memory.keys()]) {
      const entry = memory.peek(key);
      if (entry !== undefined) memory.set(key, entry);
    }
    this.#revision += 1;
  }

  /** Shows what was learnt last of each key, be it withdrawn. */
  forEach(visit: (entry: Entry<V>, key: string) => void): void {
    this.#options.memory.forEach(visit);
  }

  /** Whether another evaluator should wait for a fetch; starts one in the background where it need not. */
  #isDue(key: string): boolean {
    const { memory, clock, ttlMs, isCut } = this.#options;
    const entry = memory.get(key);
    if (isCut()) return false;
    if (entry === undefined) return true;
    const now = clock.now();
    if (now < entry.retryFrom) return false;
    if (ttlMs === 0 || this.#demands.has(key) || now >= entry.waitFrom) return true;
    if (now >= entry.freshUntil) void this.#fetch(key);
    return false;
  }

  /** What can be answered without waiting; starts a refresh where one is due. */
  #fromMemory(key: string, now: number): Found<V> | undefined {
    const { memory, ttlMs, isCut } = this.#options;
    const entry = memory.get(key);
    if (entry === undefined) return isCut() ? { kind: "unavailable" } : undefined;
    const demand = this.#demands.get(key);
    if (ttlMs > 0 && demand === undefined && now < entry.freshUntil)
      return { kind: "fresh", value: entry.value };
    if (isCut()) return toFallback(entry, demand, "cached");
    if (now >= entry.retryFrom) {
      const isExpired = demand === undefined || demand.kind === "expired";
      if (ttlMs === 0 || !isExpired || now >= entry.waitFrom) return undefined;
      void this.#fetch(key);
    }
    return toFallback(entry, demand, entry.failed ? "cached" : "stale");
  }

  async #fromStore(key: string): Promise<Found<V>> {
    const outcome = await this.#fetch(key);
    return this.#afterFetch(key, outcome.get(key));
  }

  /**
   * Answers from what the fetch brought, which a full memory may have dropped again already. What another fetch brought
   * meanwhile is better where it is newer, and what was withdrawn is not served at all.
   */
  #afterFetch(key: string, fetched: Entry<V> | undefined): Found<V> {
    const kept = this.peek(key);
    const demand = this.#demands.get(key);
    if (fetched === undefined)
      return kept === undefined ? { kind: "unavailable" } : toFallback(kept, demand, "cached");
    const isOvertaken = kept !== undefined && isOlder(fetched.stamp, kept.stamp);
    const entry = isOvertaken ? kept : fetched;
    if (fetched.failed || entry.failed) return toFallback(entry, demand, "cached");
    const { ttlMs, clock } = this.#options;
    const isFresh = demand === undefined && (ttlMs === 0 || clock.now() < entry.freshUntil);
    return isFresh ? { kind: "fresh", value: entry.value } : toFallback(entry, demand, "stale");
  }

  /** Resolves once the store answered for this key, or failed to. Never rejects. */
  #fetch(key: string): Promise<Outcome<V>> {
    // Write-through joins only a fetch that has not started yet.
    const running = this.#options.ttlMs > 0 ? this.#fetches.get(key) : undefined;
    if (running !== undefined) return running;
    if (this.#batch === undefined || this.#batch.keys.size >= BATCH_KEYS_MAX) this.#batch = this.#openBatch();
    const { keys, done } = this.#batch;
    keys.add(key);
    this.#fetches.set(key, done);
    return done;
  }

  /** A batch collects keys until the current turn of reads is over, then asks once. */
  #openBatch(): Batch<V> {
    const keys = new Set<string>();
    const done = Promise.resolve().then(async () => {
      // The last one of its turn is full or not; no later key may join any of them.
      this.#batch = undefined;
      const askedAt = this.#options.clock.now();
      const outcome = await this.#ask([...keys], askedAt);
      for (const key of keys) if (this.#fetches.get(key) === done) this.#fetches.delete(key);
      this.#askAgain(keys, askedAt);
      return outcome;
    });
    return { keys, done };
  }

  async #ask(keys: readonly string[], askedAt: number): Promise<Outcome<V>> {
    const { fetch } = this.#options;
    try {
      return this.#takeIn(keys, await fetch(keys, this.#atLeast(keys)), askedAt);
    } catch {
      // The store counts and reports its own failures; here only the consequence matters.
      const known = keys.map((key) => [key, this.#recordFailure(key, askedAt)] as const);
      return new Map(known.flatMap(([key, entry]) => (entry === undefined ? [] : [[key, entry] as const])));
    }
  }

  #takeIn(keys: readonly string[], answer: BatchAnswer<V>, askedAt: number): Outcome<V> {
    const { value, deviations, untold } = answer;
    const outcome = new Map<string, Entry<V>>();
    const parts = new Map<Worth, Part>();
    for (const key of keys) {
      if (untold?.has(key) === true) {
        const entry = this.#recordFailure(key, askedAt);
        if (entry !== undefined) outcome.set(key, entry);
        continue;
      }
      const worth = deviations?.get(key) ?? answer;
      let part = parts.get(worth);
      if (part === undefined) {
        const readAt = askedAt - worth.ageMs;
        part = { stamp: { version: worth.version, askedAt, readAt }, keys: [] };
        parts.set(worth, part);
      }
      const { stamp } = part;
      const known = this.peek(key);
      const previous = known === undefined ? "none" : this.#demands.has(key) ? "outdated" : "good";
      const entry = this.#remember(key, known, { value: value.get(key), worth, stamp });
      outcome.set(key, entry);
      if (entry.stamp !== stamp) continue;
      this.#options.onLearnt?.(key, previous);
      part.keys.push(key);
    }
    for (const part of parts.values())
      if (part.keys.length > 0) this.#options.onAnswer?.(part.keys, answer, part.stamp);
    return outcome;
  }

  /** The newest version that is known to exist, and that any of these keys has to be of. */
  #atLeast(keys: readonly string[]): Version | undefined {
    let newest = this.#options.floor()?.version;
    for (const key of keys) {
      const needed = this.#demands.get(key)?.needed.version;
      if (needed === undefined) continue;
      if (newest === undefined || (newest.epoch === needed.epoch && newest.revision < needed.revision)) {
        newest = needed;
      }
    }
    return newest;
  }

  /** A question that set out before a notice arrived cannot have satisfied it; one that set out after it has had its chance. */
  #askAgain(keys: Iterable<string>, askedAt: number): void {
    for (const key of keys) {
      // As it is now: the notice may have arrived together with the answer.
      const demand = this.#demands.get(key);
      if (demand === undefined || askedAt >= demand.since) continue;
      if (this.peek(key)?.failed === false) void this.#fetch(key);
    }
  }

  #remember(key: string, known: Entry<V> | undefined, { value, worth, stamp }: Learnt<V>): Entry<V> {
    const { ttlMs, clock } = this.#options;
    const now = clock.now();
    // An answer older than what is known changes nothing, but the store did answer.
    if (known !== undefined && isOlder(stamp, known.stamp)) {
      const retryFrom = ttlMs > 0 ? now + RETRY_OLD_AFTER_MS : 0;
      return this.#replace(key, { ...known, failed: false, retryFrom });
    }

    const demanded = known === undefined ? undefined : this.#demands.get(key);
    const needed = this.#unsatisfied(stamp, demanded?.needed);
    const { ttl, waitTtl } = this.#spreadTtls(key, value, worth.version);
    const readAt = stamp.askedAt - worth.ageMs;
    const freshUntil = needed === undefined ? readAt + ttl : now;
    const entry = {
      value,
      stamp,
      readAt,
      freshUntil,
      waitFrom: readAt + 2 * waitTtl,
      failed: false,
      retryFrom: ttlMs > 0 && freshUntil <= now ? now + RETRY_OLD_AFTER_MS : 0,
    };
    const since = demanded !== undefined && needed === demanded.needed ? demanded.since : now;
    return this.#keep(key, entry, needed === undefined ? undefined : { needed, since, kind: "expired" });
  }

  /** How long a value is fresh, and half of how long nothing has to wait for a newer one. */
  #spreadTtls(
    key: string,
    value: V | undefined,
    version: Version | undefined,
  ): { readonly ttl: number; readonly waitTtl: number } {
    const { ttlMs, negativeTtlMs, jitter, random, isRefreshedAhead } = this.#options;
    const spread = 1 + jitter * (2 * random() - 1);
    const ttl = (value === undefined && version === undefined ? negativeTtlMs : ttlMs) * spread;
    return { ttl, waitTtl: isRefreshedAhead?.(key) === true ? ttlMs * spread : ttl };
  }

  /** What an answer with this stamp should have been as new as, and is not. */
  #unsatisfied(stamp: Stamp, needed: Stamp | undefined): Stamp | undefined {
    if (needed !== undefined && isOlder(stamp, needed)) return needed;
    const floor = this.#options.floor();
    // Without versions a poll tells of nothing but kills.
    return floor?.version !== undefined && isOlder(stamp, floor) ? floor : undefined;
  }

  #recordFailure(key: string, askedAt: number): Entry<V> | undefined {
    const known = this.#options.memory.peek(key);
    // A later fetch that succeeded knows better.
    if (known === undefined || known.stamp.askedAt > askedAt) return known;
    return this.#replace(key, { ...known, failed: true });
  }

  #keep(key: string, entry: Entry<V>, demand: Demand | undefined): Entry<V> {
    if (demand === undefined) this.#demands.delete(key);
    else this.#demands.set(key, demand);
    return this.#replace(key, entry);
  }

  /** What it falls short of is the same. */
  #replace(key: string, entry: Entry<V>): Entry<V> {
    this.#options.memory.set(key, entry);
    this.#revision += 1;
    return entry;
  }
}

/** What can be answered where nothing fresh can. */
function toFallback<V>({ value }: Entry<V>, demand: Demand | undefined, kind: "stale" | "cached"): Found<V> {
  return demand?.kind === "withdrawn" ? { kind: "unavailable" } : { kind, value };
}

/** Each kind of demand, for all keys of which one notice tells. */
function demandOf(needed: Stamp, since: number): { readonly [K in Demand["kind"]]: Demand } {
  return {
    expired: { needed, since, kind: "expired" },
    dropped: { needed, since, kind: "dropped" },
    withdrawn: { needed, since, kind: "withdrawn" },
  };
}

/** At which version something holds: at that of the last poll too, unless it is known to be outdated. */
export function holdsAt(
  { stamp, isOutdated }: Pick<Known<unknown>, "stamp" | "isOutdated">,
  polled: Version | undefined,
): Version | undefined {
  return !isOutdated && isAtLeast(polled, stamp.version) ? polled : stamp.version;
}

function isKnown<T>(found: Found<T> | undefined): found is Found<T> {
  return found !== undefined;
}

function isMiss(found: Found<unknown> | undefined): boolean {
  return found === undefined || found.kind === "unavailable";
}
