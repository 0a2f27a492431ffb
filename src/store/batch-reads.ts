import type { FlagState, Overrides } from "../evaluation/state.ts";
import { isSameVersion, type Version } from "../evaluation/version.ts";
import { fromWireVersion, toWireVersion } from "../evaluation/wire-version.ts";
import type { Deviation } from "../gen/pbflagd/v1/state_pb.ts";
import { type GetKillsResponse, StateService } from "../gen/pbflagd/v1/state_pb.ts";
import type { Version as WireVersion } from "../gen/pbflagd/v1/version_pb.ts";
import type { Reached } from "../upstream/pool/upstream-pool.ts";
import { type Answer, type Batch, type Kills, StoreError, type Worth } from "./flag-store.ts";
import { groupByEntity } from "./plain-reads.ts";
import { fromFlagRow, fromOverrideRow } from "./upstream-rows.ts";

const { getFlagStates, getEntityOverrides, getKills } = StateService.method;

/** Reads state from another pbflagd: a batch in one RPC, with the version and the age it has there. */
export class BatchReads {
  /** What an upstream may say has not changed. */
  #lastKills: { readonly version: Version; readonly flagIds: ReadonlySet<string> } | undefined;

  async flagStates(
    upstream: Reached,
    flagIds: readonly string[],
    atLeast: Version | undefined,
  ): Promise<Batch<FlagState>> {
    const asked = new Set(flagIds);
    const answer = await upstream.call(getFlagStates, { flagIds: [...flagIds], ...minVersion(atLeast) });
    const states = answer.rows.map((row) => fromFlagRow(row));
    requireAsked(states, asked, ({ flagId }) => flagId);
    return toBatch(new Map(states.map((state) => [state.flagId, state])), answer, answer.unknownFlagIds);
  }

  async overrides(
    upstream: Reached,
    entityIds: readonly string[],
    atLeast: Version | undefined,
  ): Promise<Batch<Overrides>> {
    const asked = new Set(entityIds);
    const answer = await upstream.call(getEntityOverrides, {
      entityIds: [...entityIds],
      ...minVersion(atLeast),
    });
    const overrides = answer.rows.map((row) => fromOverrideRow(row));
    requireAsked(overrides, asked, ({ entityId }) => entityId);
    return toBatch(groupByEntity(overrides), answer, answer.unknownEntityIds);
  }

  async kills(
    upstream: Reached,
    since: Version | undefined,
    atLeast: Version | undefined,
  ): Promise<Answer<Kills>> {
    // Without the kill set of then, "as it was then" says nothing.
    const last = this.#lastKills;
    const known =
      since !== undefined && last !== undefined && isSameVersion(since, last.version) ? last : undefined;
    const answer = await upstream.call(getKills, {
      ...(since === undefined ? {} : { since: toWireVersion(since) }),
      ...minVersion(atLeast),
    });
    if (answer.unchanged && known === undefined) {
      return this.#takeIn(await upstream.call(getKills, minVersion(atLeast)), undefined);
    }
    return this.#takeIn(answer, known?.flagIds);
  }

  #takeIn(answer: GetKillsResponse, before: ReadonlySet<string> | undefined): Answer<Kills> {
    const worth = toWorth(answer);
    const { unchanged, changes } = answer;
    if (unchanged && before === undefined)
      throw new StoreError("it says that nothing has changed, but not since when");
    const flagIds = unchanged && before !== undefined ? before : new Set(answer.flagIds);
    if (worth.version !== undefined) this.#lastKills = { version: worth.version, flagIds };
    return {
      ...worth,
      value: {
        flagIds,
        overrides: unchanged
          ? undefined
          : answer.killedOverrides.map(({ flagId, entityId }) => ({ flagId, entityId })),
        changes:
          changes === undefined
            ? { kind: "unknown" }
            : { kind: "listed", flagIds: changes.flagIds, entityIds: changes.entityIds },
      },
    };
  }
}

interface WireWorth {
  readonly version?: WireVersion | undefined;
  readonly ageMs: bigint;
}

function toBatch<V>(
  value: ReadonlyMap<string, V>,
  answer: WireWorth & { readonly deviations: readonly Deviation[] },
  unknown: readonly string[],
): Batch<V> {
  const deviations = answer.deviations.map((deviation) => [deviation.id, toWorth(deviation)] as const);
  return { value, ...toWorth(answer), deviations: new Map(deviations), untold: new Set(unknown) };
}

/** An age that makes no sense counts as none: what it is for is to expire earlier. */
function toWorth({ version, ageMs }: WireWorth): Worth {
  return { version: fromWireVersion(version), ageMs: Math.max(0, Number(ageMs)) };
}

function minVersion(atLeast: Version | undefined) {
  return atLeast === undefined ? {} : { minVersion: toWireVersion(atLeast) };
}

function requireAsked<T>(rows: readonly T[], asked: ReadonlySet<string>, idOf: (row: T) => string): void {
  const stray = rows.map(idOf).find((id) => !asked.has(id));
  if (stray === undefined) return;
  throw new StoreError(`its rows must be of what was asked for, got ${JSON.stringify(stray.slice(0, 100))}`);
}
