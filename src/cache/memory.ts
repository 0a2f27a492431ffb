import { LRUCache } from "lru-cache";

/** Where a cache keeps its entries. What is bounded, and what is evicted first, is the memory's affair. */
export interface Memory<E> {
  /** Counts as a use. */
  get(key: string): E | undefined;
  set(key: string, entry: E): void;
  /** Without counting as a use; the least recently used first, so that setting all again keeps their order. */
  keys(): Iterable<string>;
  /** In the order of `keys()`; without counting as a use. */
  forEach(visit: (entry: E, key: string) => void): void;
  /** What would be missed most first; without counting as a use. */
  byWorth(): Iterable<string>;
  /** Without counting as a use. */
  peek(key: string): E | undefined;
  readonly size: number;
}

interface MayBeAbsent {
  /** Undefined: the store holds nothing under this key. */
  readonly value: unknown;
}

/**
 * Remembers at most `entriesMax` entities. Absences make room first, then the least recently used:
 * an entity without overrides costs one query to learn again, one with overrides a wrong answer in an outage.
 */
export function createEntityMemory<E extends MayBeAbsent>(entriesMax: number): Memory<E> {
  const present = new LRUCache<string, E & object>({ max: entriesMax });
  const absent = new LRUCache<string, E & object>({ max: entriesMax });

  return {
    get: (key) => present.get(key) ?? absent.get(key),
    peek: (key) => present.peek(key) ?? absent.peek(key),
    set(key, entry) {
      const [home, other] = entry.value === undefined ? [absent, present] : [present, absent];
      other.delete(key);
      home.set(key, entry);
      if (present.size + absent.size > entriesMax) (absent.size > 0 ? absent : present).pop();
    },
    *keys() {
      yield* present.rkeys();
      yield* absent.rkeys();
    },
    forEach(visit) {
      present.rforEach(visit);
      absent.rforEach(visit);
    },
    *byWorth() {
      yield* present.keys();
      yield* absent.keys();
    },
    get size() {
      return present.size + absent.size;
    },
  };
}

/**
 * Remembers every flag that is defined, and at most `othersMax` that are not: archived ones, and ids that
 * somebody made up.
 */
export function createFlagMemory<E extends object>(
  isDefined: (flagId: string) => boolean,
  othersMax: number,
): Memory<E> {
  const defined = new Map<string, E>();
  const others = new LRUCache<string, E>({ max: othersMax });

  return {
    get: (key) => defined.get(key) ?? others.get(key),
    peek: (key) => defined.get(key) ?? (others.size === 0 ? undefined : others.peek(key)),
    set(key, entry) {
      const [home, other] = isDefined(key) ? [defined, others] : [others, defined];
      if (other.size > 0) other.delete(key);
      home.set(key, entry);
    },
    *keys() {
      yield* defined.keys();
      yield* others.rkeys();
    },
    forEach(visit) {
      defined.forEach(visit);
      others.rforEach(visit);
    },
    *byWorth() {
      yield* defined.keys();
      yield* others.keys();
    },
    get size() {
      return defined.size + others.size;
    },
  };
}
