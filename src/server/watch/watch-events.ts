import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { KillSet } from "../../evaluation/kill-set.ts";
import { formatVersion, isAtLeast, isSameVersion, type Version } from "../../evaluation/version.ts";
import { type WatchResponse, WatchResponseSchema } from "../../gen/pbflagd/v1/watch_pb.ts";
import type { Namespace } from "../../namespaces/namespace.ts";
import type { Changes } from "../../store/flag-store.ts";
import type { Clock } from "../../system/clock.ts";
import { toWholeMs, toWorth } from "../told-state.ts";
import { encodeMessage, type MessageBytes } from "./message-bytes.ts";
import { type Format, ToldKills } from "./told-kills.ts";

/** What telling followers needs of a namespace. */
export type Watched = Pick<Namespace, "killSet" | "committedAt" | "changesSince">;

/** All that is remembered of a follower: however far it falls behind, it holds no more than this. */
export interface Told {
  readonly version: Version | undefined;
  /** Which kill set it has, by number. Undefined: none, or not known which. */
  readonly kills: number | undefined;
}

/** How a follower is told. */
export interface Manner {
  readonly format: Format;
  readonly omitsKills: boolean;
  /** Its stream begins with it. */
  readonly isFirst: boolean;
}

/** Something to tell, and what the follower knows then. */
export interface News {
  readonly message: MessageBytes;
  readonly told: Told;
}

/** What followers are told of. */
interface Known {
  readonly killSet: KillSet;
  readonly kills: ToldKills;
  readonly committedAt: number | undefined;
}

type Event = NonNullable<MessageInitShape<typeof WatchResponseSchema>["event"]>;

/** The longest silence of a stream. */
export const HEARTBEAT_MS = 2_000;

/**
 * What changes are listed of, in characters. A follower that has missed more is told to look at everything: each may have
 * missed something else, and be held a message of its own until it takes it.
 */
const CHANGES_LENGTH_MAX = 64 * 1_024;

/** Works out what is news to a follower. What many are told alike is worked out once, and is the same memory. */
export class WatchEvents {
  readonly #namespace: Watched;
  readonly #clock: Pick<Clock, "now">;
  /** How many followers are told of kills in a format. */
  readonly #wanted = new Map<Format, number>();
  #known: Known | undefined;
  #changes: { readonly from: string; readonly of: Known; readonly changes: Changes } | undefined;
  /** What is told in this millisecond. */
  #now:
    | { readonly of: Known | undefined; readonly at: number; readonly told: Map<string, MessageBytes> }
    | undefined;

  constructor(namespace: Watched, clock: Pick<Clock, "now">) {
    this.#namespace = namespace;
    this.#clock = clock;
  }

  /** Somebody is going to be told of kills, until what is returned is called. */
  want(format: Format): () => void {
    const count = (by: number) => this.#wanted.set(format, by + (this.#wanted.get(format) ?? 0));
    count(1);
    return () => void count(-1);
  }

  /** Takes in what the namespace has learnt, with places to pause. Until then followers are told what was known before. */
  *takeIn(): Generator<undefined, void> {
    const killSet = this.#namespace.killSet.value;
    if (killSet === undefined) return;
    const { committedAt } = this.#namespace;
    const kills = this.#killsOf(killSet);
    for (const [format, count] of this.#wanted) if (count > 0) yield* kills.prepare(format);
    if (this.#known?.killSet !== killSet) this.#known = { killSet, kills, committedAt };
  }

  /**
   * The first event for somebody who knows a version, or nothing. Undefined: nothing is known here yet, or less than it
   * knows: there is nothing to tell before this evaluator has caught up.
   */
  first(since: Version | undefined, manner: Manner): News | undefined {
    const known = this.#known;
    if (known === undefined) return undefined;
    const { version } = known.killSet.stamp;
    // At the same version the kill sets are the same: what newer rows have corrected here is not told with it.
    const isSame = since !== undefined && version !== undefined && isSameVersion(since, version);
    if (isAtLeast(since, version) && !isSame) return undefined;
    return this.#tell(known, { version: since, kills: isSame ? known.kills.number : undefined }, manner);
  }

  /** What has changed since. Undefined: nothing has. */
  next(told: Told, manner: Manner): News | undefined {
    const known = this.#known;
    if (known === undefined) return undefined;
    const { version } = known.killSet.stamp;
    const isSame =
      told.version === undefined || version === undefined
        ? told.version === version
        : isSameVersion(told.version, version);
    return isSame && told.kills === known.kills.number ? undefined : this.#tell(known, told, manner);
  }

  /** Only that this evaluator is there, and how old its knowledge is. */
  heartbeat(manner: Manner): MessageBytes {
    return this.#encode("heartbeat", { case: "heartbeat", value: {} }, undefined, manner);
  }

  #tell(known: Known, told: Told, manner: Manner): News {
    const { kills } = known;
    const changes = this.#changesSince(told.version, known);
    const isListed = changes.kind === "listed";
    const hasKills = !manner.omitsKills && !(isListed && told.kills === kills.number);
    const event: Event = isListed
      ? { case: "changed", value: { changes: toWireChanges(changes) } }
      : { case: "resync", value: {} };
    return {
      message: this.#encode(keyOf(told.version), event, hasKills ? kills : undefined, manner),
      told: { version: known.killSet.stamp.version, kills: kills.number },
    };
  }

  /** `what` tells events apart that are told at the same time. */
  #encode(what: string, event: Event, kills: ToldKills | undefined, manner: Manner): MessageBytes {
    const { format, isFirst } = manner;
    const at = Math.round(this.#clock.now());
    if (this.#now?.of !== this.#known || this.#now?.at !== at)
      this.#now = { of: this.#known, at, told: new Map() };
    const key = `${what} ${kills?.number} ${format} ${isFirst}`;
    const encoded =
      this.#now.told.get(key) ?? encodeMessage(this.#message(event, isFirst), kills?.in(format), format);
    this.#now.told.set(key, encoded);
    return encoded;
  }

  #message(event: Event, isFirst: boolean): WatchResponse {
    const heartbeatIntervalMs = isFirst ? BigInt(HEARTBEAT_MS) : 0n;
    if (this.#known === undefined) return create(WatchResponseSchema, { heartbeatIntervalMs, event });
    const { killSet, committedAt } = this.#known;
    const now = this.#clock.now();
    return create(WatchResponseSchema, {
      ...toWorth(killSet.stamp.version, now - killSet.readAt),
      ...(committedAt === undefined ? {} : { committedAgoMs: toWholeMs(now - committedAt) }),
      heartbeatIntervalMs,
      event,
    });
  }

  /** Polls bring a new set each time: only one that holds something else is told anew. */
  #killsOf(killSet: KillSet): ToldKills {
    const known = this.#known;
    if (known === undefined) return new ToldKills(0, killSet);
    const isSame = known.killSet === killSet || hasSameKills(known.killSet, killSet);
    return isSame ? known.kills : new ToldKills(known.kills.number + 1, killSet);
  }

  #changesSince(version: Version | undefined, known: Known): Changes {
    const from = keyOf(version);
    if (this.#changes?.of !== known || this.#changes.from !== from)
      this.#changes = { from, of: known, changes: unlessLong(this.#namespace.changesSince(version)) };
    return this.#changes.changes;
  }
}

function unlessLong(changes: Changes): Changes {
  if (changes.kind === "unknown") return changes;
  let length = 0;
  for (const id of [...changes.flagIds, ...changes.entityIds]) length += id.length;
  return length > CHANGES_LENGTH_MAX ? { kind: "unknown" } : changes;
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

function toWireChanges({ flagIds, entityIds }: Extract<Changes, { readonly kind: "listed" }>) {
  return { flagIds: [...flagIds], entityIds: [...entityIds] };
}
