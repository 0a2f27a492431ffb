import type { FlagState, Override, Overrides } from "../evaluation/state.ts";
import { formatVersion, type Version } from "../evaluation/version.ts";
import type { Clock } from "../system/clock.ts";
import { giveWay, runInSlices } from "../system/run-in-slices.ts";
import type { Answer, Changes, FlagStore, Kills } from "./flag-store.ts";
import { PostgresReader } from "./postgres-reader.ts";
import {
  type FlagsRow,
  type KillsRow,
  type OverrideRow,
  toFlagStates,
  toKilledOverrides,
  toOverride,
} from "./postgres-rows.ts";
import { readFlagStates, readKills, readOverrides } from "./postgres-statements.ts";

export interface PostgresStoreOptions {
  /** `postgres://…`, as pg reads it. */
  readonly url: string;
  /** Sessions at most; evaluation needs few. */
  readonly poolSize: number;
  /** `off` for poolers that cannot carry them; `auto` finds out. */
  readonly preparedStatements: "auto" | "off";
  /** For every call as a whole: the wait for a session, connecting, and all tries. */
  readonly fetchTimeoutMs: number;
  readonly clock: Clock;
}

/** A flag store that can also be asked whether it is there. */
export interface PostgresStore extends FlagStore {
  /** Rejects with a StoreError unless the database answers in time. */
  ping(): Promise<void>;
  /** Connects ahead of the first questions. */
  prepare(): void;
}

/**
 * Reads flag state from a database made by pbflagd or by pbflags. Needs to read the tables, and no more.
 * Connects when first asked, or to prepare for that; throws a StoreError only for a URL that cannot be one.
 */
export function openPostgresStore(options: PostgresStoreOptions): PostgresStore {
  const reader = new PostgresReader(options);
  return {
    // One is answered while another is taken in.
    questionsAtOnce: 2,
    async flagStates(flagIds) {
      const { rows, version } = await reader.read<FlagsRow | NoFlags>(readFlagStates, [toTexts(flagIds)]);
      const found = rows.filter((row) => row.flags !== null);
      return toAnswer(await runInSlices(byFlagId(found)), version);
    },
    async overrides(entityIds) {
      const { rows, version } = await reader.read<OverrideRow | NoOverride>(readOverrides, [
        toTexts(entityIds),
      ]);
      const found = rows.filter((row) => row.flag_id !== null);
      return toAnswer(await runInSlices(byEntityId(found)), version);
    },
    async kills(since) {
      const { rows, version } = await reader.read<KillsRow>(readKills, [
        since?.revision ?? null,
        since === undefined ? null : formatVersion(since),
      ]);
      const [row] = rows;
      // A large answer took its time to be read, and takes as long to be taken in.
      await giveWay();
      const kills: Kills = {
        flagIds: new Set(row.flag_ids),
        overrides: toKilledOverrides(row),
        changes: toChanges(row, since, version),
        // A server's clock may be set back between the two.
        committedAgoMs: row.committed_ago_ms === null ? undefined : Math.max(0, row.committed_ago_ms),
      };
      return toAnswer(kills, version);
    },
    ping: () => reader.ping(),
    prepare: () => reader.prepare(),
    [Symbol.asyncDispose]: () => reader[Symbol.asyncDispose](),
  };
}

/** Stands in for rows where there are none. */
interface NoFlags {
  readonly flags: null;
}

interface NoOverride {
  readonly flag_id: null;
}

function toAnswer<T>(value: T, version: Version | undefined): Answer<T> {
  return { value, version, ageMs: 0 };
}

/**
 * The ids as Postgres writes a text[], which pg would do letter by letter. It refuses text with a zero byte: there is no row
 * of such a name, and one must not fail the others.
 */
function toTexts(ids: readonly string[]): string {
  const possible = ids.filter((id) => !id.includes("\0"));
  return `{${possible.map((id) => `"${id.replaceAll(/["\\]/g, "\\$&")}"`).join()}}`;
}

// A few at a time, so that many, or many that cannot be read, hold nobody up. Asking the clock after each would take as
// long as they do.

const READ_A_STEP = 16;

function* byFlagId(rows: readonly FlagsRow[]): Generator<void, ReadonlyMap<string, FlagState>> {
  const states = new Map<string, FlagState>();
  for (const row of rows) {
    for (const state of toFlagStates(row)) {
      if (states.size % READ_A_STEP === 0) yield;
      states.set(state.flagId, state);
    }
  }
  return states;
}

function* byEntityId(rows: readonly OverrideRow[]): Generator<void, ReadonlyMap<string, Overrides>> {
  const byEntity = new Map<string, Map<string, Override>>();
  for (const [i, row] of rows.entries()) {
    if (i % READ_A_STEP === 0) yield;
    const override = toOverride(row);
    const ofEntity = byEntity.get(override.entityId) ?? new Map<string, Override>();
    byEntity.set(override.entityId, ofEntity.set(override.flagId, override));
  }
  return byEntity;
}

/** Revisions compare within one epoch only. */
function toChanges(row: KillsRow, since: Version | undefined, now: Version | undefined): Changes {
  if (!row.known || since === undefined || since.epoch !== now?.epoch) return { kind: "unknown" };
  const { changed_flag_ids: flagIds, changed_entity_ids: entityIds, changed_ago_ms: ago } = row;
  if (ago === null) return { kind: "listed", flagIds, entityIds };
  const committedAgo = { flagsMs: agesOf(flagIds, ago.flags), entitiesMs: agesOf(entityIds, ago.entities) };
  return { kind: "listed", flagIds, entityIds, committedAgo };
}

function agesOf(ids: readonly string[], agoMs: Readonly<Record<string, number>> | null): readonly number[] {
  return ids.map((id) => Math.max(0, agoMs?.[id] ?? 0));
}
