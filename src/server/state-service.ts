import { create, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { isAtLeast, isSameVersion, type Version } from "../evaluation/version.ts";
import { toFlagRow, toOverrideRow } from "../evaluation/wire-rows.ts";
import { fromWireVersion, toWireVersion } from "../evaluation/wire-version.ts";
import {
  FlagRowSchema,
  GetDescriptorSetResponseSchema,
  GetEntityOverridesResponseSchema,
  GetFlagStatesResponseSchema,
  GetKillsResponseSchema,
  GetStatusResponseSchema,
  OverrideRowSchema,
  type StateService,
} from "../gen/pbflagd/v1/state_pb.ts";
import type { Version as WireVersion } from "../gen/pbflagd/v1/version_pb.ts";
import type { KnownRow, Namespace } from "../namespaces/namespace.ts";
import type { ListedChanges } from "../store/flag-store.ts";
import type { Clock } from "../system/clock.ts";
import { fitAnswer } from "./fit-answer.ts";
import { toWireStatus } from "./to-wire.ts";
import { gather, toWholeMs, toWorth } from "./told-state.ts";

/** What the service needs of a namespace. */
export type HandedOn = Pick<
  Namespace,
  "flags" | "killSet" | "committedAt" | "health" | "flagRows" | "overrideRows" | "changesSince" | "catchUp"
>;

export interface StateServiceOptions {
  readonly namespace: HandedOn;
  /** Longest wait for a version that a caller asks for. */
  readonly catchUpTimeoutMs: number;
  /** Of the program. */
  readonly version: string;
  readonly clock: Clock;
}

type Caller = Pick<HandlerContext, "signal" | "timeoutMs">;

/** In one request. Proxies ask for a few hundred. */
const IDS_MAX = 1_000;

/** Of a descriptor set in one answer. */
const DESCRIPTOR_BYTES_MAX = 4 * 1024 * 1024;

/** Hands state on to other pbflagd daemons, with the version and the age it has here. */
export function createStateService(options: StateServiceOptions): ServiceImpl<typeof StateService> {
  const { namespace, catchUpTimeoutMs, clock } = options;

  /** Whoever asks knows that this version exists. If it cannot be had, the answer says how far this is. */
  async function reach(version: Version | undefined, { signal: caller, timeoutMs }: Caller): Promise<void> {
    if (version === undefined || isAtLeast(killVersion(), version)) return;
    const done = new AbortController();
    const end = () => done.abort();
    caller.addEventListener("abort", end, { once: true });
    // Half of what the caller has: an older answer is of more use to it than none.
    const waitMs = Math.min(catchUpTimeoutMs, (timeoutMs() ?? Infinity) / 2);
    clock.sleep(waitMs, done.signal).then(end, () => {});
    await namespace.catchUp(version, done.signal);
    caller.removeEventListener("abort", end);
    end();
  }

  function killVersion(): Version | undefined {
    return namespace.killSet.value?.stamp.version;
  }

  return {
    getStatus() {
      const version = killVersion();
      return create(GetStatusResponseSchema, {
        status: toWireStatus[namespace.health.status],
        ...(version === undefined ? {} : { version: toWireVersion(version) }),
        descriptorHash: namespace.flags.value.descriptorSet?.hash ?? "",
        serverVersion: options.version,
      });
    },

    async getFlagStates({ flagIds, minVersion }, caller) {
      requireIds(flagIds, "GetFlagStates", "flag_ids");
      await reach(fromRequest(minVersion), caller);
      const rows = (await namespace.flagRows(flagIds)).map((row) =>
        withRows(row, (state) => [toFlagRow(state)]),
      );
      const fitting = fitAnswer(rows, (row) => toBinary(FlagRowSchema, row).length);
      const told = gather(flagIds, fitting, clock.now());
      return create(GetFlagStatesResponseSchema, {
        ...told.worth,
        rows: [...told.rows],
        unknownFlagIds: [...told.unknown],
        deviations: [...told.deviations],
      });
    },

    async getEntityOverrides({ entityIds, minVersion }, caller) {
      requireIds(entityIds, "GetEntityOverrides", "entity_ids");
      await reach(fromRequest(minVersion), caller);
      const rows = (await namespace.overrideRows(entityIds)).map((row) =>
        withRows(row, (overrides) => Array.from(overrides.values(), toOverrideRow)),
      );
      const fitting = fitAnswer(rows, (row) => toBinary(OverrideRowSchema, row).length);
      const told = gather(entityIds, fitting, clock.now());
      return create(GetEntityOverridesResponseSchema, {
        ...told.worth,
        rows: [...told.rows],
        unknownEntityIds: [...told.unknown],
        deviations: [...told.deviations],
      });
    },

    async getKills({ since, minVersion }, caller) {
      await reach(fromRequest(minVersion), caller);
      const killSet = namespace.killSet.value;
      if (killSet === undefined)
        throw new ConnectError("Cannot tell the kill set: the store has not answered yet", Code.Unavailable);
      const { stamp, readAt, polledIds, overrides } = killSet;
      const known = fromRequest(since);
      const changes = namespace.changesSince(known);
      const unchanged =
        known !== undefined &&
        stamp.version !== undefined &&
        isSameVersion(known, stamp.version) &&
        changes.kind === "listed";
      const overridesUnchanged =
        known !== undefined && changes.kind === "listed" && changes.entityIds.length === 0;
      const { committedAt } = namespace;
      return create(GetKillsResponseSchema, {
        ...toWorth(stamp.version, clock.now() - readAt),
        ...(committedAt === undefined ? {} : { committedAgoMs: toWholeMs(clock.now() - committedAt) }),
        unchanged,
        flagIds: unchanged ? [] : [...polledIds],
        overridesUnchanged,
        killedOverrides: overridesUnchanged
          ? []
          : overrides.map(({ flagId, entityId }) => ({ flagId, entityId })),
        ...(changes.kind === "listed" ? { changes: toWireChanges(changes) } : {}),
      });
    },

    getDescriptorSet({ knownHash, offset }) {
      const set = namespace.flags.value.descriptorSet;
      if (set === undefined)
        throw new ConnectError("Cannot tell the descriptor set: there is none yet", Code.Unavailable);
      const { hash, bytes } = set;
      const from = Number(offset);
      if (from < 0 || from > bytes.length) throw outside(bytes.length, offset);
      return create(GetDescriptorSetResponseSchema, {
        hash,
        descriptorSet:
          hash === knownHash ? new Uint8Array() : bytes.subarray(from, from + DESCRIPTOR_BYTES_MAX),
        totalBytes: BigInt(bytes.length),
      });
    },
  };
}

/** What a caller says it knows, or asks for. Throws INVALID_ARGUMENT for what no database can have said. */
export function fromRequest(version: WireVersion | undefined): Version | undefined {
  try {
    return fromWireVersion(version);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ConnectError(error.message, Code.InvalidArgument);
  }
}

/** As messages carry what is known. */
function withRows<V, R>(known: KnownRow<V>, toRows: (value: V) => readonly R[]): KnownRow<readonly R[]> {
  if (known.kind === "unknown") return known;
  return { ...known, value: known.value === undefined ? undefined : toRows(known.value) };
}

function toWireChanges({ flagIds, entityIds, committedAgo }: ListedChanges) {
  return {
    flagIds: [...flagIds],
    entityIds: [...entityIds],
    flagCommittedAgoMs: (committedAgo?.flagsMs ?? []).map(toWholeMs),
    entityCommittedAgoMs: (committedAgo?.entitiesMs ?? []).map(toWholeMs),
  };
}

function requireIds(ids: readonly string[], procedure: string, field: string): void {
  if (ids.length > IDS_MAX) {
    throw new ConnectError(
      `Cannot ${procedure}: at most ${IDS_MAX} ${field} in one request, got ${ids.length}`,
      Code.InvalidArgument,
    );
  }
  if (ids.includes(""))
    throw new ConnectError(`Cannot ${procedure}: one of ${field} is empty`, Code.InvalidArgument);
}

function outside(length: number, offset: bigint): ConnectError {
  return new ConnectError(
    `Cannot GetDescriptorSet: offset must be from 0 to ${length}, got ${offset}`,
    Code.InvalidArgument,
  );
}
