import { LRUCache } from "lru-cache";
import type { FlagState, Override, Overrides } from "../evaluation/state.ts";
import { FlagEvaluatorService } from "../gen/pbflags/v1/evaluator_pb.ts";
import type { Reached } from "../upstream/pool/upstream-pool.ts";
import { DeadlineError } from "../upstream/transport/deadline.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import type { Answer, Batch, Kills } from "./flag-store.ts";
import { byId, toFlagState, toOverrides, untoldFlagState } from "./upstream-rows.ts";

const { getFlagState, getOverrides, getKilledFlags } = FlagEvaluatorService.method;

/** A plain evaluator has no batches: one RPC for each flag and entity, so many at a time. */
const CALLS_AT_ONCE = 16;
/** Flags whose last state is kept for when the upstream cannot tell it, and flags that it could not tell. */
const REMEMBERED_MAX = 10_000;

/** Reads state over the RPCs that pbflagd and pbflags have in common. These know no versions and no ages. */
export class PlainReads {
  readonly #remembered = new LRUCache<string, FlagState>({ max: REMEMBERED_MAX });
  /** Flags that it could not tell when it was last asked. True: although it could tell others. */
  readonly #refused = new LRUCache<string, boolean>({ max: REMEMBERED_MAX });

  /**
   * What was told when the time is over counts, the rest is untold. Where nothing at all could be told, all flags are
   * untold: that says nothing of the upstream. Rejects if nothing was answered.
   *
   * A flag that it cannot tell although it can tell others has a row nevertheless. Absence would be wrong: it says that
   * there is no row. So is leaving it untold for good, for then a proxy would wait for ever for one flag that its
   * upstream cannot read. It keeps the last state told, except a kill, which the kill set alone may keep in force;
   * without one, it is invalid.
   */
  async flagStates(upstream: Reached, flagIds: readonly string[]): Promise<Batch<FlagState>> {
    // Those come last that would only be refused again: where time is short, others are to have their turn.
    const isRefused = (flagId: string) => this.#refused.has(flagId);
    const inTurn = [...flagIds.filter((flagId) => !isRefused(flagId)), ...flagIds.filter(isRefused)];
    const answers = await askEach(inTurn, (flagId) => fetchFlagState(upstream, flagId));
    const tellsSome = [...answers.values()].some(({ kind }) => kind !== "refused");
    // What was refused as the time ran out may have been refused for that.
    const isWhole = answers.size === flagIds.length;
    const states = new Map<string, FlagState>();
    const untold = new Set<string>();
    for (const flagId of flagIds) {
      const answer = answers.get(flagId);
      if (answer === undefined) untold.add(flagId);
      else if (answer.kind === "refused") {
        const isAlone = this.#refused.get(flagId) === true || (tellsSome && isWhole);
        this.#refused.set(flagId, isAlone || tellsSome);
        if (isAlone) states.set(flagId, this.#lastStateOf(flagId, answer.error));
        else untold.add(flagId);
      } else {
        this.#refused.delete(flagId);
        if (answer.kind === "row") states.set(flagId, answer.state);
        this.#remember(flagId, answer);
      }
    }
    return { ...UNVERSIONED, value: states, untold };
  }

  /** What was told when the time is over counts; the rest is untold, as is what it says it cannot tell. */
  async overrides(upstream: Reached, entityIds: readonly string[]): Promise<Batch<Overrides>> {
    const answers = await askEach(entityIds, (entityId) => fetchOverrides(upstream, entityId));
    const rows = [...answers.values()].flatMap((overrides) => overrides ?? []);
    const untold = new Set(entityIds.filter((entityId) => answers.get(entityId) === undefined));
    return { ...UNVERSIONED, value: groupByEntity(rows), untold };
  }

  async kills(upstream: Reached): Promise<Answer<Kills>> {
    const { flagIds, killedOverrides } = await upstream.call(getKilledFlags, {});
    const overrides = killedOverrides.map(({ flagId, entityId }) => ({ flagId, entityId }));
    const changes = { kind: "unknown" as const };
    const value = { flagIds: new Set(flagIds), overrides, changes, committedAgoMs: undefined };
    return { ...UNVERSIONED, value };
  }

  #remember(flagId: string, told: Exclude<Told, { readonly kind: "refused" }>): void {
    if (told.kind === "row") this.#remembered.set(flagId, told.state);
    else this.#remembered.delete(flagId);
  }

  #lastStateOf(flagId: string, { message }: UpstreamError): FlagState {
    const last = this.#remembered.get(flagId);
    return last === undefined || last.mode === "killed" ? untoldFlagState(flagId, message) : last;
  }
}

const UNVERSIONED = { version: undefined, ageMs: 0 };

/** Throws an UpstreamError where one entity has two overrides of one flag. */
export function groupByEntity(overrides: readonly Override[]): ReadonlyMap<string, Overrides> {
  const byEntity = new Map<string, Override[]>();
  for (const override of overrides) {
    const siblings = byEntity.get(override.entityId);
    if (siblings === undefined) byEntity.set(override.entityId, [override]);
    else siblings.push(override);
  }
  return new Map([...byEntity].map(([entityId, own]) => [entityId, byId(own, ({ flagId }) => flagId)]));
}

/** What an upstream says of one flag. */
type Told =
  | { readonly kind: "row"; readonly state: FlagState }
  | { readonly kind: "absent" }
  /** It answered that it cannot tell. */
  | { readonly kind: "refused"; readonly error: UpstreamError };

async function fetchFlagState(upstream: Reached, flagId: string): Promise<Told> {
  try {
    return { kind: "row", state: toFlagState(flagId, await upstream.call(getFlagState, { flagId })) };
  } catch (error) {
    if (isRefusal(error)) return { kind: "refused", error };
    if (error instanceof UpstreamError && error.answered && error.code === "not_found")
      return { kind: "absent" };
    throw error;
  }
}

/** Undefined: it answered that it cannot tell. */
async function fetchOverrides(upstream: Reached, entityId: string): Promise<readonly Override[] | undefined> {
  try {
    return toOverrides(entityId, await upstream.call(getOverrides, { entityId }));
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}

/**
 * Codes that speak of one flag or entity and not of the upstream. pbflags wraps whatever its own store says as
 * `internal`; pbflagd answers `unavailable` for what it has never heard of while its store is away.
 */
const CODES_OF_ONE_KEY: ReadonlySet<string> = new Set([
  "internal",
  "unavailable",
  "unknown",
  "invalid_argument",
]);

function isRefusal(error: unknown): error is UpstreamError {
  return error instanceof UpstreamError && error.answered && CODES_OF_ONE_KEY.has(error.code);
}

/**
 * Asks for each, in order, with at most `CALLS_AT_ONCE` under way. Keys of which nothing was heard in time are missing
 * from what it resolves with; it rejects if that is all of them, and with the first other failure. No more are asked
 * for then.
 */
async function askEach<T>(
  keys: readonly string[],
  ask: (key: string) => Promise<T>,
): Promise<ReadonlyMap<string, T>> {
  const answers = new Map<string, T>();
  let tooLate: unknown;
  const queue = keys.values();
  const work = async () => {
    for (const key of queue) {
      try {
        answers.set(key, await ask(key));
      } catch (error) {
        if (!isTooLate(error)) throw error;
        tooLate = error;
        // Whoever says so itself was late with this one alone.
        if (error instanceof DeadlineError) return;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(CALLS_AT_ONCE, keys.length) }, work));
  if (answers.size === 0 && tooLate !== undefined) throw tooLate;
  return answers;
}

function isTooLate(error: unknown): boolean {
  if (error instanceof DeadlineError) return true;
  return error instanceof UpstreamError && error.code === "deadline_exceeded";
}
