import { toBinary } from "@bufbuild/protobuf";
import { canExist, canHaveOverrides } from "../evaluation/ids.ts";
import type { Mode, Override } from "../evaluation/state.ts";
import { typeOf } from "../flags/flag-value.ts";
import { type FlagValue, FlagValueSchema } from "../gen/pbflags/v1/types_pb.ts";
import type { Clock } from "../system/clock.ts";
import {
  GlobalFlagError,
  InvalidEntityError,
  InvalidValueError,
  toAdminError,
  UnknownFlagError,
} from "./admin-errors.ts";
import {
  type AuditEntry,
  readAuditLog,
  readFeatures,
  readOverridesOf,
  readStoredFlag,
  type StoredFeature,
  type StoredFlag,
} from "./admin-rows.ts";
import { type Query, type ReadAt, Transactions } from "./transactions.ts";

export interface FlagAdminOptions {
  /** `postgres://…`, of a role that may write states and overrides: docs/database.md calls it the operator. */
  readonly url: string;
  /** For everything that is asked, as a whole; 5 s unless set. */
  readonly timeoutMs?: number;
  readonly clock: Clock;
}

/** What is to become of a flag, or of an entity's override. */
export interface Setting {
  readonly mode: Mode;
  /** Undefined: `enabled` and `killed` keep what is stored, `default` forgets it. */
  readonly value: FlagValue | undefined;
}

/**
 * Shows and changes what is stored, for the admin service. Flags are named by id or alias. What is written is
 * audited and announced by the database, as for every writer; `actor` is who the audit log says did it.
 *
 * Writes return `epoch:revision` of a state that has the change; undefined where the database was lost just then.
 * Everything is done, or has failed, in time. Rejects with the errors of admin-errors.ts, a
 * DatabaseAwayError or an AnswerTooLargeError.
 */
export interface FlagAdmin extends AsyncDisposable {
  features(): Promise<ReadAt<readonly StoredFeature[]>>;
  flag(flag: string): Promise<ReadAt<{ readonly flag: StoredFlag; readonly overrides: readonly Override[] }>>;
  /** The newest first. Undefined: of all flags. */
  auditLog(flag: string | undefined, limit: number): Promise<ReadAt<readonly AuditEntry[]>>;

  /** To enable a killed flag without a value brings back what it had before the kill. */
  setState(flag: string, setting: Setting, actor: string): Promise<string | undefined>;
  setOverride(flag: string, entity: string, setting: Setting, actor: string): Promise<string | undefined>;
  /** Also where there is none. */
  removeOverride(flag: string, entity: string, actor: string): Promise<string | undefined>;
}

/** People are few, but one who waits for a lock must not keep the others from a kill. */
const POOL_SIZE = 4;
const TIMEOUT_MS = 5_000;

/** Connects when first asked. Throws a StoreError for a URL that cannot be one. */
export function openFlagAdmin({ url, timeoutMs = TIMEOUT_MS, clock }: FlagAdminOptions): FlagAdmin {
  const transactions = new Transactions({ url, poolSize: POOL_SIZE, timeoutMs, clock });

  return {
    features: () => orAdminError(() => transactions.read(readFeatures)),

    flag: (flag) =>
      orAdminError(() => {
        requirePossible(flag, "Cannot show");
        return transactions.read(async (query) => {
          const found = await readStoredFlag(query, flag);
          if (found === undefined) throw unknownFlag(flag, "Cannot show");
          return { flag: found, overrides: await readOverridesOf(query, found.flagId) };
        });
      }),

    auditLog: (flag, limit) =>
      orAdminError(() => {
        if (flag !== undefined) requirePossible(flag, "Cannot show changes of");
        return transactions.read((query) => readAuditLog(query, flag, limit));
      }),

    setState: (flag, setting, actor) =>
      orAdminError(() => {
        requirePossible(flag, "Cannot update");
        return transactions.write(actor, (query) => writeState(query, flag, setting));
      }),

    setOverride: (flag, entity, setting, actor) =>
      orAdminError(() => {
        requirePossible(flag, "Cannot override");
        requireEntity(entity, `Cannot override "${flag}"`);
        return transactions.write(actor, (query) => writeOverride(query, flag, entity, setting));
      }),

    removeOverride: (flag, entity, actor) =>
      orAdminError(() => {
        requirePossible(flag, "Cannot remove an override of");
        requireEntity(entity, `Cannot remove an override of "${flag}"`);
        return transactions.write(
          actor,
          async (query) => void (await query("SELECT feature_flags.remove_override($1, $2)", [flag, entity])),
        );
      }),

    [Symbol.asyncDispose]: () => transactions[Symbol.asyncDispose](),
  };
}

/** As stored. */
interface Target {
  readonly flag_id: string;
  readonly flag_type: string;
  readonly layer: string;
}

/** A kill, or a plain UPDATE as other writers do it: triggers keep what a kill takes. */
async function writeState(query: Query, flag: string, { mode, value }: Setting): Promise<void> {
  if (mode === "killed" && value === undefined) {
    await query("SELECT feature_flags.kill($1)", [flag]);
    return;
  }
  // Locked, so that the flag's type is still the same when the value is written.
  const target = await findTarget(query, flag, { cannot: "Cannot update", lock: "FOR NO KEY UPDATE" });
  await query(
    `UPDATE feature_flags.flags AS f SET
       state = $2::text,
       value = CASE
         WHEN $3::bytea IS NOT NULL THEN $3
         WHEN $2::text = 'DEFAULT' THEN NULL
         WHEN f.restore_state IS NOT NULL THEN f.restore_value
         ELSE f.value
       END,
       updated_at = now()
     WHERE f.flag_id = $1`,
    [target.flag_id, toStored(mode), encode(value, target, "Cannot update")],
  );
}

async function writeOverride(
  query: Query,
  flag: string,
  entity: string,
  { mode, value }: Setting,
): Promise<void> {
  const cannot = "Cannot override";
  const target = await findTarget(query, flag, { cannot, lock: "" });
  if (["GLOBAL", ""].includes(target.layer.trim().toUpperCase()))
    throw new GlobalFlagError(
      `${cannot} "${target.flag_id}" for "${entity}": the flag does not vary, its layer is GLOBAL; UpdateFlagState sets it for all`,
    );
  const bytes = encode(value, target, cannot);
  if (mode === "enabled" && bytes !== undefined) {
    await query("SELECT feature_flags.store_override(f, $2, $3) FROM feature_flags.find_flag($1, $4) AS f", [
      target.flag_id,
      entity,
      bytes,
      cannot,
    ]);
    return;
  }
  await query(
    `INSERT INTO feature_flags.flag_overrides AS o (flag_id, entity_id, state, value) VALUES ($1, $2, $3, $4)
     ON CONFLICT (flag_id, entity_id) DO UPDATE SET
       state = EXCLUDED.state,
       value = CASE EXCLUDED.state WHEN 'DEFAULT' THEN EXCLUDED.value ELSE coalesce(EXCLUDED.value, o.value) END,
       updated_at = now()`,
    [target.flag_id, entity, toStored(mode), bytes],
  );
}

async function findTarget(
  query: Query,
  flag: string,
  { cannot, lock }: { readonly cannot: string; readonly lock: "" | "FOR NO KEY UPDATE" },
): Promise<Target> {
  const [target] = await query<Target>(
    `SELECT f.flag_id, f.flag_type, f.layer FROM feature_flags.flags AS f
     WHERE f.flag_id = (SELECT g.flag_id FROM feature_flags.find_flag($1, $2) AS g) ${lock}`,
    [flag, cannot],
  );
  if (target === undefined) throw unknownFlag(flag, cannot);
  return target;
}

function toStored(mode: Mode): string {
  return mode.toUpperCase();
}

/** What the database stores; undefined for no value. Throws an InvalidValueError for one that the flag cannot have. */
function encode(
  value: FlagValue | undefined,
  { flag_id: flagId, flag_type: flagType }: Target,
  cannot: string,
): Uint8Array | undefined {
  if (value === undefined) return undefined;
  const given = typeOf(value);
  const wrong = (reason: string) => new InvalidValueError(`${cannot} "${flagId}" (${flagType}): ${reason}`);
  if (given !== flagType)
    throw wrong(`expected a value of this type, got ${given ?? "one that holds nothing"}`);
  const contents = typeof value.value.value === "object" ? value.value.value.values : [value.value.value];
  // As the database's own functions have it.
  if (contents.some((item) => Number.isNaN(item))) throw wrong("expected a number, got NaN");
  if (contents.some((item) => typeof item === "string" && item.includes("\0")))
    throw wrong("expected a text that a database can hold, got one with a zero byte");
  return toBinary(FlagValueSchema, value, { writeUnknownFields: false });
}

/** What no database can hold is not asked for: it may be as long as a request. */
function requirePossible(flag: string, cannot: string): void {
  if (!canExist(flag)) throw unknownFlag(flag, cannot);
}

function unknownFlag(flag: string, cannot: string): UnknownFlagError {
  return new UnknownFlagError(`${cannot} ${shown(flag)}: no such flag`);
}

function requireEntity(entity: string, cannot: string): void {
  if (canHaveOverrides(entity)) return;
  throw new InvalidEntityError(
    `${cannot}: expected an entity id of 1 to 255 printable characters, got ${shown(entity)}`,
  );
}

function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

async function orAdminError<T>(answer: () => Promise<T>): Promise<T> {
  try {
    return await answer();
  } catch (error) {
    throw toAdminError(error);
  }
}
