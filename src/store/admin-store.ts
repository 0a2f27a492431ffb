import { toAdminError } from "./admin-errors.ts";
import type { Database } from "./database.ts";
import {
  type FlagRow,
  type OverrideFilter,
  type OverrideRow,
  readFlag,
  readFlags,
  readOverrides,
} from "./flag-status.ts";

/** What a write led to. */
export interface Written {
  /** The flag's state, or the override's. */
  readonly state: string;
  /** `epoch:revision` of a state that has the change. */
  readonly version: string;
}

export interface OverrideRemoved {
  /** Whether there was one. */
  readonly removed: boolean;
  readonly version: string;
}

/**
 * What people do with flags: through the functions in the database, so that every writer means the same.
 * Flags are named by id or alias. What the functions have to say beside their answers comes as a notice of
 * the database.
 *
 * Rejects with the errors of admin-errors.ts.
 */
export interface AdminStore {
  kill(flag: string): Promise<Written>;
  /** Brings back the state and value from before the kill. */
  revive(flag: string): Promise<Written>;
  /** Reads the text by the flag's type: `weekly`, `true`, `5`, `0.5`, `[1, 2]`. */
  setValue(flag: string, text: string): Promise<Written>;
  /** Forgets the stored value, so that the compiled default is served. */
  reset(flag: string): Promise<Written>;
  setOverride(flag: string, entity: string, text: string): Promise<Written>;
  removeOverride(flag: string, entity: string): Promise<OverrideRemoved>;

  /** All of them, ordered by feature id, then field number. */
  flags(): Promise<readonly FlagRow[]>;
  flag(flag: string): Promise<FlagRow>;
  overrides(filter?: OverrideFilter): Promise<readonly OverrideRow[]>;
}

export interface AdminStoreOptions {
  /** Who the audit log says did it. */
  readonly actor: string;
}

export function createAdminStore(database: Database, options: AdminStoreOptions): AdminStore {
  const write = async (call: string, ...values: readonly string[]): Promise<Written> => {
    const state = await database.transaction(async () => {
      await database.query("SELECT set_config('pbflags.actor', $1, true)", [options.actor]);
      return readText(database, `SELECT feature_flags.${call}::text AS text`, values);
    });
    return { state, version: await readText(database, "SELECT feature_flags.version() AS text") };
  };

  return {
    kill: (flag) => orAdminError(write("kill($1)", flag)),
    revive: (flag) => orAdminError(write("revive($1)", flag)),
    // The casts pick the overload that reads texts.
    setValue: (flag, text) => orAdminError(write("set_value($1, $2::text)", flag, text)),
    reset: (flag) => orAdminError(write("reset($1)", flag)),
    setOverride: (flag, entity, text) =>
      orAdminError(write("set_override($1, $2, $3::text)", flag, entity, text)),
    async removeOverride(flag, entity) {
      const { state, version } = await orAdminError(write("remove_override($1, $2)", flag, entity));
      return { removed: state === "true", version };
    },
    flags: () => orAdminError(readFlags(database)),
    flag: (flag) => orAdminError(readFlag(database, flag)),
    overrides: (filter) => orAdminError(readOverrides(database, filter)),
  };
}

async function readText(
  database: Database,
  statement: string,
  values: readonly string[] = [],
): Promise<string> {
  const { rows } = await database.query<{ text: string }>(statement, values);
  return rows[0]?.text ?? "";
}

async function orAdminError<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw toAdminError(error);
  }
}
