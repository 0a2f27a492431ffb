import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { LRUCache } from "lru-cache";
import type { FlagState, Override } from "../evaluation/state.ts";
import { FlagEvaluatorService } from "../gen/pbflags/v1/evaluator_pb.ts";
import type { Clock } from "../system/clock.ts";
import { withDeadline } from "../upstream/deadline.ts";
import {
  openUpstreamClient,
  type UnaryMethod,
  type UpstreamClientOptions,
} from "../upstream/upstream-client.ts";
import { UpstreamError } from "../upstream/upstream-error.ts";
import { type Answer, type FlagStore, StoreError } from "./flag-store.ts";
import { toFlagState, toOverrides, untoldFlagState } from "./upstream-rows.ts";

export interface UpstreamStoreOptions extends Pick<UpstreamClientOptions, "url" | "headers"> {
  /** For every call as a whole, however many RPCs it takes; for each 200 flags where one asks for more. */
  readonly fetchTimeoutMs: number;
  readonly clock: Clock;
}

/** A flag store that can also be asked whether it is there. */
export interface UpstreamStore extends FlagStore {
  /** Rejects with a StoreError unless the upstream answers in time. How its own store does is not asked. */
  ping(): Promise<void>;
}

const { getFlagState, getOverrides, getKilledFlags, health } = FlagEvaluatorService.method;

/** A plain evaluator has no batches: one RPC for each flag and entity, so many at a time. */
const CALLS_AT_ONCE = 16;
/**
 * Flags that share a deadline. One RPC each, thousands of them cannot be had within the time that a request may wait:
 * a proxy would never finish its first load. An upstream that hangs is still given up after one deadline.
 */
const FLAGS_PER_DEADLINE = 200;
/** Flags whose last state is kept for when the upstream cannot tell it. */
const REMEMBERED_MAX = 10_000;

/**
 * Reads flag state from another evaluator, pbflagd or pbflags, over the RPCs that they have in common. These know
 * no versions and no ages. Connects when first asked; throws an UpstreamError only for a URL that cannot be one.
 */
export function openUpstreamStore({
  url,
  headers,
  fetchTimeoutMs,
  clock,
}: UpstreamStoreOptions): UpstreamStore {
  const client = openUpstreamClient({ url, clock, ...(headers === undefined ? {} : { headers }) });
  const remembered = new LRUCache<string, FlagState>({ max: REMEMBERED_MAX });

  /** All RPCs that answer one question, within one deadline. */
  async function ask<T>(what: string, run: (call: Call) => Promise<T>): Promise<T> {
    try {
      return await withDeadline({ timeoutMs: fetchTimeoutMs, clock }, (deadline) =>
        run((method, request) => client.call(method, request, deadline)),
      );
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new StoreError(`Cannot read ${what} from ${client.name}: ${reason}`, { cause: error });
    }
  }

  return {
    async flagStates(flagIds) {
      const told: Told[] = [];
      for (const page of pagesOf(flagIds)) {
        told.push(
          ...(await ask("flag states", (call) => mapSome(page, (flagId) => fetchFlagState(call, flagId)))),
        );
      }
      const states = settleUntold(told, remembered);
      return toAnswer(new Map(states.map((state) => [state.flagId, state])));
    },

    overrides: (entityIds) =>
      ask("overrides", async (call) => {
        const rows = await mapSome(entityIds, async (entityId) =>
          toOverrides(entityId, await call(getOverrides, { entityId })),
        );
        return toAnswer(groupByEntity(rows.flat()));
      }),

    kills: () =>
      ask("the kill set", async (call) => {
        const { flagIds, killedOverrides } = await call(getKilledFlags, {});
        const overrides = killedOverrides.map(({ flagId, entityId }) => ({ flagId, entityId }));
        return toAnswer({ flagIds: new Set(flagIds), overrides, changes: { kind: "unknown" as const } });
      }),

    async ping() {
      await ask("health", (call) => call(health, {}));
    },

    [Symbol.asyncDispose]: () => client[Symbol.asyncDispose](),
  };
}

type Call = <I extends DescMessage, O extends DescMessage>(
  method: UnaryMethod<I, O>,
  request: MessageInitShape<I>,
) => Promise<MessageShape<O>>;

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

async function fetchFlagState(call: Call, flagId: string): Promise<Told> {
  try {
    return { kind: "row", state: toFlagState(flagId, await call(getFlagState, { flagId })) };
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
 * Throws a StoreError only if nothing at all could be told.
 */
function settleUntold(told: readonly Told[], remembered: LRUCache<string, FlagState>): readonly FlagState[] {
  const untold = told.filter((each) => each.kind === "untold");
  const [first] = untold;
  if (first !== undefined && untold.length === told.length) {
    throw new StoreError(`Cannot read flag states: ${first.error.message}`, { cause: first.error });
  }
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

function groupByEntity(overrides: readonly Override[]): ReadonlyMap<string, ReadonlyMap<string, Override>> {
  const byEntity = new Map<string, Map<string, Override>>();
  for (const override of overrides) {
    const siblings = byEntity.get(override.entityId) ?? new Map<string, Override>();
    byEntity.set(override.entityId, siblings.set(override.flagId, override));
  }
  return byEntity;
}

function toAnswer<T>(value: T): Answer<T> {
  return { value, version: undefined, ageMs: 0 };
}

function* pagesOf<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let i = 0; i < items.length; i += FLAGS_PER_DEADLINE) yield items.slice(i, i + FLAGS_PER_DEADLINE);
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
