import { create } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import type { Mode, Override } from "../evaluation/state.ts";
import { toWireState, toWireType } from "../evaluation/wire-rows.ts";
import {
  type AuditLogEntry,
  AuditLogEntrySchema,
  FeatureDetailSchema,
  type FlagAdminService,
  type FlagDetail,
  FlagDetailSchema,
  GetAuditLogResponseSchema,
  GetFlagResponseSchema,
  ListFeaturesResponseSchema,
} from "../gen/pbflags/v1/admin_pb.ts";
import { type FlagValue, State } from "../gen/pbflags/v1/types_pb.ts";
import type { AuditEntry, StoredFlag } from "../store/admin-rows.ts";
import type { FlagAdmin } from "../store/flag-admin.ts";
import { VERSION } from "./worth.ts";

export interface AdminServiceOptions {
  readonly admin: FlagAdmin;
  /** Something is wrong that callers cannot mend: the database is away, or lacks our functions or rights. */
  readonly onTrouble: (error: Error, procedure: string) => void;
}

/** Who it was if a request does not say. */
const ANONYMOUS = "admin";
/** As the audit log has room for. */
const ACTOR_LENGTH_MAX = 255;
const ENTRIES_DEFAULT = 50;
const ENTRIES_MAX = 1_000;

/** The admin's RPCs. All need the database, and all say at which version it is with what they did or read. */
export function createAdminService(options: AdminServiceOptions): ServiceImpl<typeof FlagAdminService> {
  const { admin } = options;

  /** Does it, and has the answer say its version. */
  async function tell<T>(
    procedure: string,
    call: Pick<HandlerContext, "responseHeader">,
    run: () => Promise<{ readonly value: T; readonly version: string | undefined }>,
  ): Promise<T> {
    try {
      const { value, version } = await run();
      if (version !== undefined) call.responseHeader.set(VERSION, version);
      return value;
    } catch (error) {
      throw toConnectError(error, procedure, options.onTrouble);
    }
  }

  const done = async (version: Promise<string | undefined>) => ({ value: {}, version: await version });

  return {
    listFeatures: (_, call) =>
      tell("ListFeatures", call, async () => {
        const { value, version } = await admin.features();
        const features = value.map(({ id, description, owner, flags }) =>
          create(FeatureDetailSchema, {
            featureId: id,
            description,
            owner,
            flags: flags.map((flag) => toFlagDetail(flag, [])),
          }),
        );
        return { value: create(ListFeaturesResponseSchema, { features }), version };
      }),

    getFlag({ flagId }, call) {
      requireText(flagId, "GetFlag", "flag_id");
      return tell("GetFlag", call, async () => {
        const { value, version } = await admin.flag(flagId);
        const flag = toFlagDetail(value.flag, value.overrides);
        return { value: create(GetFlagResponseSchema, { flag }), version };
      });
    },

    updateFlagState({ flagId, state, value, actor }, call) {
      requireText(flagId, "UpdateFlagState", "flag_id");
      const setting = { mode: toMode(state, "UpdateFlagState"), value };
      const who = toActor(actor, "UpdateFlagState");
      return tell("UpdateFlagState", call, () => done(admin.setState(flagId, setting, who)));
    },

    setFlagOverride({ flagId, entityId, state, value, actor }, call) {
      requireText(flagId, "SetFlagOverride", "flag_id");
      requireText(entityId, "SetFlagOverride", "entity_id");
      const setting = { mode: toMode(state, "SetFlagOverride"), value };
      const who = toActor(actor, "SetFlagOverride");
      return tell("SetFlagOverride", call, () => done(admin.setOverride(flagId, entityId, setting, who)));
    },

    removeFlagOverride({ flagId, entityId, actor }, call) {
      requireText(flagId, "RemoveFlagOverride", "flag_id");
      requireText(entityId, "RemoveFlagOverride", "entity_id");
      const who = toActor(actor, "RemoveFlagOverride");
      return tell("RemoveFlagOverride", call, () => done(admin.removeOverride(flagId, entityId, who)));
    },

    getAuditLog({ flagId, limit }, call) {
      const count = toCount(limit);
      return tell("GetAuditLog", call, async () => {
        const { value, version } = await admin.auditLog(flagId === "" ? undefined : flagId, count);
        return { value: create(GetAuditLogResponseSchema, { entries: value.map(toEntry) }), version };
      });
    },
  };
}

function toFlagDetail(flag: StoredFlag, overrides: readonly Override[]): FlagDetail {
  const { defaultValue, value, supportedValues, type } = flag;
  return create(FlagDetailSchema, {
    flagId: flag.flagId,
    displayName: flag.name,
    description: flag.description,
    ...(type === undefined ? {} : { flagType: toWireType[type] }),
    layer: flag.layer,
    state: toWireState[flag.mode],
    ...(defaultValue === undefined ? {} : { defaultValue }),
    ...(value === undefined ? {} : { currentValue: value }),
    overrides: overrides.map((override) => ({
      entityId: override.entityId,
      state: toWireState[override.mode],
      ...optional(override.value),
    })),
    ...(supportedValues === undefined ? {} : { supportedValues }),
    archived: flag.archived,
  });
}

function optional(value: FlagValue | undefined): { readonly value?: FlagValue } {
  return value === undefined ? {} : { value };
}

function toEntry({ oldValue, newValue, createdAtMicros, ...entry }: AuditEntry): AuditLogEntry {
  return create(AuditLogEntrySchema, {
    ...entry,
    ...(oldValue === undefined ? {} : { oldValue }),
    ...(newValue === undefined ? {} : { newValue }),
    ...(createdAtMicros === undefined ? {} : { createdAt: toTimestamp(createdAtMicros) }),
  });
}

const MICROS = 1_000_000n;

function toTimestamp(micros: bigint): Timestamp {
  // Nanoseconds count forwards, before 1970, too.
  const rest = ((micros % MICROS) + MICROS) % MICROS;
  return create(TimestampSchema, { seconds: (micros - rest) / MICROS, nanos: Number(rest) * 1_000 });
}

function requireText(text: string, procedure: string, field: string): void {
  if (text === "") throw invalid(`Cannot ${procedure}: ${field} is empty`);
}

const MODES: ReadonlyMap<State, Mode> = new Map([
  [State.ENABLED, "enabled"],
  [State.DEFAULT, "default"],
  [State.KILLED, "killed"],
]);

function toMode(state: State, procedure: string): Mode {
  const mode = MODES.get(state);
  if (mode !== undefined) return mode;
  const got = state === State.UNSPECIFIED ? "none" : state;
  throw invalid(`Cannot ${procedure}: state must be ENABLED, DEFAULT or KILLED, got ${got}`);
}

function toActor(actor: string, procedure: string): string {
  if (actor === "") return ANONYMOUS;
  if (actor.length <= ACTOR_LENGTH_MAX && !/\p{Cc}/u.test(actor)) return actor;
  throw invalid(
    `Cannot ${procedure}: actor must have at most ${ACTOR_LENGTH_MAX} characters, none of them a control character, got ${actor.length} characters`,
  );
}

function toCount(limit: number): number {
  if (limit === 0) return ENTRIES_DEFAULT;
  if (limit > 0 && limit <= ENTRIES_MAX) return limit;
  throw invalid(
    `Cannot GetAuditLog: limit must be from 1 to ${ENTRIES_MAX}, or 0 for ${ENTRIES_DEFAULT}, got ${limit}`,
  );
}

function invalid(message: string): ConnectError {
  return new ConnectError(message, Code.InvalidArgument);
}

/** By name: what the store could not do, and whose mistake that is. */
const CODES: ReadonlyMap<string, Code> = new Map([
  ["UnknownFlagError", Code.NotFound],
  ["InvalidEntityError", Code.InvalidArgument],
  ["InvalidValueError", Code.FailedPrecondition],
  ["GlobalFlagError", Code.FailedPrecondition],
  ["AnswerTooLargeError", Code.ResourceExhausted],
  ["SchemaError", Code.FailedPrecondition],
  ["DatabaseAwayError", Code.Unavailable],
]);

const TROUBLES: ReadonlySet<string> = new Set(["SchemaError", "DatabaseAwayError"]);

/** Messages travel in a header. */
const MESSAGE_LENGTH_MAX = 2_000;

/** Without halves of characters, which cannot be sent. */
function toMessage(text: string): string {
  return Buffer.from(text.slice(0, MESSAGE_LENGTH_MAX)).toString();
}

function toConnectError(
  error: unknown,
  procedure: string,
  onTrouble: AdminServiceOptions["onTrouble"],
): unknown {
  const code = error instanceof Error ? CODES.get(error.name) : undefined;
  if (!(error instanceof Error) || code === undefined) return error;
  if (TROUBLES.has(error.name)) onTrouble(error, procedure);
  const message = error.message.startsWith("Cannot ")
    ? error.message
    : `Cannot ${procedure}: ${error.message}`;
  return new ConnectError(toMessage(message), code);
}
