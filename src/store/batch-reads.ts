import type { FlagState, Overrides } from "../evaluation/state.ts";
import { formatVersion, isAtLeast, isSameVersion, type Version } from "../evaluation/version.ts";
import { toWireVersion } from "../evaluation/wire-version.ts";
import {
  type Deviation,
  type GetKillsResponse,
  StateService,
  type Changes as WireChanges,
} from "../gen/pbflagd/v1/state_pb.ts";
import type { Version as WireVersion } from "../gen/pbflagd/v1/version_pb.ts";
import type { Reached } from "../upstream/pool/upstream-pool.ts";
import { toldVersion } from "../upstream/told-version.ts";
import type { Answer, Batch, Changes, Kills, Worth } from "./flag-store.ts";
import { groupByEntity } from "./plain-reads.ts";
import { byId, fromFlagRow, fromOverrideRow, quoted, senseless } from "./upstream-rows.ts";

const { getFlagStates, getEntityOverrides, getKills } = StateService.method;

const AGE_MAX_MS = 100 * 365 * 86_400_000;

interface KnownKills {
  readonly version: Version;
  readonly flagIds: ReadonlySet<string>;
}

/** Reads state from another pbflagd: a batch in one RPC, with the version and the age it has there. */
export class BatchReads {
  /** What an upstream may say has not changed. */
  #lastKills: KnownKills | undefined;

  async flagStates(
    upstream: Reached,
    flagIds: readonly string[],
    atLeast: Version | undefined,
  ): Promise<Batch<FlagState>> {
    const asked = new Set(flagIds);
    const answer = await upstream.call(getFlagStates, { flagIds: [...flagIds], ...minVersion(atLeast) });
    const states = answer.rows.map((row) => fromFlagRow(row));
    requireAsked(states, asked, ({ flagId }) => flagId);
    return toBatch(
      byId(states, ({ flagId }) => flagId),
      answer,
      answer.unknownFlagIds,
    );
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
    return this.#takeIn(answer, known);
  }

  #takeIn(answer: GetKillsResponse, before: KnownKills | undefined): Answer<Kills> {
    const worth = toWorth(answer);
    const { unchanged, changes, committedAgoMs } = answer;
    if (unchanged && !isAtLeast(worth.version, before?.version)) {
      const got = worth.version === undefined ? "none" : quoted(formatVersion(worth.version));
      throw senseless(`a kill set that is unchanged must be of the known version or a later one, got ${got}`);
    }
    const flagIds = unchanged && before !== undefined ? before.flagIds : new Set(answer.flagIds);
    if (worth.version !== undefined) this.#lastKills = { version: worth.version, flagIds };
    return {
      ...worth,
      value: {
        flagIds,
        overrides:
          unchanged || answer.overridesUnchanged
            ? undefined
            : answer.killedOverrides.map(({ flagId, entityId }) => ({ flagId, entityId })),
        changes: toChanges(changes),
        committedAgoMs: committedAgoMs === undefined ? undefined : toAge(committedAgoMs),
      },
    };
  }
}

function toChanges(changes: WireChanges | undefined): Changes {
  if (changes === undefined) return { kind: "unknown" };
  const { flagIds, entityIds, flagCommittedAgoMs, entityCommittedAgoMs } = changes;
  const isTold =
    flagCommittedAgoMs.length === flagIds.length && entityCommittedAgoMs.length === entityIds.length;
  if (!isTold) return { kind: "listed", flagIds, entityIds };
  const committedAgo = {
    flagsMs: flagCommittedAgoMs.map(toAge),
    entitiesMs: entityCommittedAgoMs.map(toAge),
  };
  return { kind: "listed", flagIds, entityIds, committedAgo };
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
  const deviations = answer.deviations.map((deviation) => ({ id: deviation.id, worth: toWorth(deviation) }));
  const worthById = new Map([...byId(deviations, ({ id }) => id)].map(([id, { worth }]) => [id, worth]));
  return { value, ...toWorth(answer), deviations: worthById, untold: new Set(unknown) };
}

function toWorth({ version, ageMs }: WireWorth): Worth {
  return { version: toldVersion(version), ageMs: toAge(ageMs) };
}

/**
 * An age that makes no sense counts as none: what it is for is to expire earlier. One of more than a hundred years counts
 * as that: it has to grow here, and to be shown as a date.
 */
function toAge(ms: bigint): number {
  return Math.min(Math.max(0, Number(ms)), AGE_MAX_MS);
}

function minVersion(atLeast: Version | undefined) {
  return atLeast === undefined ? {} : { minVersion: toWireVersion(atLeast) };
}

function requireAsked<T>(rows: readonly T[], asked: ReadonlySet<string>, idOf: (row: T) => string): void {
  const stray = rows.map(idOf).find((id) => !asked.has(id));
  if (stray === undefined) return;
  throw senseless(`its rows must be of what was asked for, got ${quoted(stray)}`);
}
