import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { KillSet } from "../../evaluation/kill-set.ts";
import { formatVersion, isSameVersion, type Version } from "../../evaluation/version.ts";
import {
  type KillSetSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "../../gen/pbflagd/v1/watch_pb.ts";
import type { Namespace } from "../../namespaces/namespace.ts";
import type { Changes } from "../../store/flag-store.ts";
import type { Clock } from "../../system/clock.ts";
import { toWholeMs, toWorth } from "../told-state.ts";

/** What telling followers needs of a namespace. */
export type Watched = Pick<Namespace, "killSet" | "committedAt" | "changesSince">;

/** All that is remembered of a follower: however far it falls behind, it holds no more than this. */
export interface Told {
  readonly version: Version | undefined;
  /** Which kill set it has, by number. Undefined: none, or not known which. */
  readonly kills: number | undefined;
}

/** Something to tell, and what the follower knows then. */
export interface News {
  readonly message: WatchResponse;
  readonly told: Told;
}

type WireKills = Extract<MessageInitShape<typeof KillSetSchema>, { readonly flagIds?: string[] }>;
type Event = NonNullable<MessageInitShape<typeof WatchResponseSchema>["event"]>;

interface Kills {
  readonly number: number;
  readonly of: KillSet;
  readonly wire: WireKills;
}

/** The longest silence of a stream. */
export const HEARTBEAT_MS = 2_000;

/** Works out what is news to a follower. What many are told alike is worked out once. */
export class WatchEvents {
  readonly #namespace: Watched;
  readonly #clock: Pick<Clock, "now">;
  #kills: Kills | undefined;
  #last: { readonly of: KillSet; readonly key: string; readonly news: News } | undefined;
  #changes: { readonly from: string; readonly of: KillSet; readonly changes: Changes } | undefined;

  constructor(namespace: Watched, clock: Pick<Clock, "now">) {
    this.#namespace = namespace;
    this.#clock = clock;
  }

  /** The first event for somebody who knows a version, or nothing. Undefined: nothing is known here yet. */
  first(since: Version | undefined, omitsKills: boolean): News | undefined {
    const killSet = this.#namespace.killSet.value;
    if (killSet === undefined) return undefined;
    const { version } = killSet.stamp;
    // At the same version the kill sets are the same: what newer rows have corrected here is not told with it.
    const hasKills = since !== undefined && version !== undefined && isSameVersion(since, version);
    const told = { version: since, kills: hasKills ? this.#killsOf(killSet).number : undefined };
    return this.#tell(killSet, told, omitsKills);
  }

  /** What has changed since. Undefined: nothing has. The same object for all who are told the same. */
  next(told: Told, omitsKills: boolean): News | undefined {
    const killSet = this.#namespace.killSet.value;
    if (killSet === undefined) return undefined;
    const { version } = killSet.stamp;
    const isSame =
      told.version === undefined || version === undefined
        ? told.version === version
        : isSameVersion(told.version, version);
    if (isSame && told.kills === this.#killsOf(killSet).number) return undefined;
    const key = `${keyOf(told.version)} ${told.kills} ${omitsKills} ${Math.round(this.#clock.now())}`;
    if (this.#last?.of !== killSet || this.#last.key !== key)
      this.#last = { of: killSet, key, news: this.#tell(killSet, told, omitsKills) };
    return this.#last.news;
  }

  /** Only that this evaluator is there, and how old its knowledge is. */
  heartbeat(): WatchResponse {
    return this.#message({ case: "heartbeat", value: {} });
  }

  #tell(killSet: KillSet, told: Told, omitsKills: boolean): News {
    const { number, wire } = this.#killsOf(killSet);
    const changes = this.#changesSince(told.version, killSet);
    const isKnown = changes.kind === "listed";
    const kills = omitsKills || (isKnown && told.kills === number) ? {} : { kills: wire };
    const message = isKnown
      ? this.#message({ case: "changed", value: { changes: toWireChanges(changes), ...kills } })
      : this.#message({ case: "resync", value: kills });
    return { message, told: { version: killSet.stamp.version, kills: number } };
  }

  #message(event: Event): WatchResponse {
    const now = this.#clock.now();
    const killSet = this.#namespace.killSet.value;
    if (killSet === undefined) return create(WatchResponseSchema, { event });
    const { committedAt } = this.#namespace;
    return create(WatchResponseSchema, {
      ...toWorth(killSet.stamp.version, now - killSet.readAt),
      ...(committedAt === undefined ? {} : { committedAgoMs: toWholeMs(now - committedAt) }),
      event,
    });
  }

  /** Polls bring a new set each time: only one that holds something else has another number. */
  #killsOf(killSet: KillSet): Kills {
    const last = this.#kills;
    if (last?.of === killSet) return last;
    const isSame = last !== undefined && hasSameKills(last.of, killSet);
    const number = last === undefined ? 0 : isSame ? last.number : last.number + 1;
    this.#kills = { number, of: killSet, wire: isSame ? last.wire : toWireKills(killSet) };
    return this.#kills;
  }

  #changesSince(version: Version | undefined, killSet: KillSet): Changes {
    const from = keyOf(version);
    if (this.#changes?.of !== killSet || this.#changes.from !== from) {
      this.#changes = { from, of: killSet, changes: this.#namespace.changesSince(version) };
    }
    return this.#changes.changes;
  }
}

function keyOf(version: Version | undefined): string {
  return version === undefined ? "" : formatVersion(version);
}

function hasSameKills(a: KillSet, b: KillSet): boolean {
  if (a.polledIds.size !== b.polledIds.size || a.overrides.length !== b.overrides.length) return false;
  for (const flagId of a.polledIds) if (!b.polledIds.has(flagId)) return false;
  // In the store's order, which only changes when they do. If it does not, they are told once more.
  return a.overrides.every(({ flagId, entityId }, i) => {
    const other = b.overrides[i];
    return other?.flagId === flagId && other.entityId === entityId;
  });
}

function toWireKills({ polledIds, overrides }: KillSet): WireKills {
  return {
    flagIds: [...polledIds],
    killedOverrides: overrides.map(({ flagId, entityId }) => ({ flagId, entityId })),
  };
}

function toWireChanges({ flagIds, entityIds }: Extract<Changes, { readonly kind: "listed" }>) {
  return { flagIds: [...flagIds], entityIds: [...entityIds] };
}
