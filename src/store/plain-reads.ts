import { LRUCache } from "lru-cache";
import type { FlagState, Override, Overrides } from "../evaluation/state.ts";
import { FlagEvaluatorService } from "../gen/pbflags/v1/evaluator_pb.ts";
import type { Reached } from "../upstream/pool/upstream-pool.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import type { Answer, Batch, Kills } from "./flag-store.ts";
import { toFlagState, toOverrides, untoldFlagState } from "./upstream-rows.ts";

const { getFlagState, getOverrides, getKilledFlags } = FlagEvaluatorService.method;

/** A plain evaluator has no batches: one RPC for each flag and entity, so many at a time. */
const CALLS_AT_ONCE = 16;
/** Flags whose last state is kept for when the upstream cannot tell it. */
const REMEMBERED_MAX = 10_000;

/** Reads state over the RPCs that pbflagd and pbflags have in common. These know no versions and no ages. */
export class PlainReads {
  readonly #remembered = new LRUCache<string, FlagState>({ max: REMEMBERED_MAX });

  /** Where nothing at all could be told, all flags are untold: that says nothing of the upstream. */
  async flagStates(upstream: Reached, flagIds: readonly string[]): Promise<Batch<FlagState>> {
    const told = await mapSome(flagIds, (flagId) => fetchFlagState(upstream, flagId));
    if (told.every(({ kind }) => kind === "untold")) {
      return { ...toBatch(new Map<string, FlagState>()), untold: new Set(flagIds) };
    }
    const states = settleUntold(told, this.#remembered);
    return toBatch(new Map(states.map((state) => [state.flagId, state])));
  }

  async overrides(upstream: Reached, entityIds: readonly string[]): Promise<Batch<Overrides>> {
    const rows = await mapSome(entityIds, async (entityId) =>
      toOverrides(entityId, await upstream.call(getOverrides, { entityId })),
    );
    return toBatch(groupByEntity(rows.flat()));
  }

  async kills(upstream: Reached): Promise<Answer<Kills>> {
    const { flagIds, killedOverrides } = await upstream.call(getKilledFlags, {});
    const overrides = killedOverrides.map(({ flagId, entityId }) => ({ flagId, entityId }));
    const value = { flagIds: new Set(flagIds), overrides, changes: { kind: "unknown" as const } };
    return { value, version: undefined, ageMs: 0 };
  }
}

function toBatch<V>(value: ReadonlyMap<string, V>): Batch<V> {
  return { value, version: undefined, ageMs: 0 };
}

export function groupByEntity(overrides: readonly Override[]): ReadonlyMap<string, Overrides> {
  const byEntity = new Map<string, Map<string, Override>>();
  for (const override of overrides) {
    const siblings = byEntity.get(override.entityId) ?? new Map<string, Override>();
    byEntity.set(override.entityId, siblings.set(override.flagId, override));
  }
  return byEntity;
}

/** What an upstream says of one flag. */
type Told =
  | { readonly kind: "row"; readonly state: FlagState }
  | { readonly kind: "absent"; readonly flagId: string }
  /** It answered that it cannot tell. */
  | { readonly kind: "untold"; readonly flagId: string; readonly error: UpstreamError };

/**
 * Codes that speak of one flag and not of the upstream. pbflags wraps whatever its own store says as `internal`;
 * pbflagd answers `unavailable` for a flag that it has never heard of while its store is away.
 */
const CODES_OF_ONE_FLAG = new Set(["internal", "unavailable", "unknown", "invalid_argument"]);

async function fetchFlagState(upstream: Reached, flagId: string): Promise<Told> {
  try {
    return { kind: "row", state: toFlagState(flagId, await upstream.call(getFlagState, { flagId })) };
  } catch (error) {
    if (!(error instanceof UpstreamError) || !error.answered) throw error;
    if (error.code === "not_found") return { kind: "absent", flagId };
    if (CODES_OF_ONE_FLAG.has(error.code)) return { kind: "untold", flagId, error };
    throw error;
  }
}

/**
 * Rows for what could be told, and for what could not. Absence would be wrong for those: it says that there is no
 * row. So is failing altogether, for then one flag that the upstream cannot read would hide all others. They keep
 * the last state told, except a kill, which the kill set alone may keep in force; without one, they are invalid.
 */
function settleUntold(told: readonly Told[], remembered: LRUCache<string, FlagState>): readonly FlagState[] {
  return told.flatMap((each) => {
    if (each.kind === "row") {
      remembered.set(each.state.flagId, each.state);
      return [each.state];
    }
    if (each.kind === "absent") {
      remembered.delete(each.flagId);
      return [];
    }
    const last = remembered.get(each.flagId);
    return [
      last === undefined || last.mode === "killed" ? untoldFlagState(each.flagId, each.error.message) : last,
    ];
  });
}

/** Maps, in order, with at most `CALLS_AT_ONCE` under way. Rejects with the first failure, and begins no more then. */
async function mapSome<T, U>(items: readonly T[], run: (item: T) => Promise<U>): Promise<readonly U[]> {
  const results: U[] = [];
  const queue = items.entries();
  const work = async () => {
    for (const [index, item] of queue) results[index] = await run(item);
  };
  const workers = Array.from({ length: Math.min(CALLS_AT_ONCE, items.length) }, work);
  await Promise.all(workers);
  return results;
}
