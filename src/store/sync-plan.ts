/** What a row of `flags` says about a flag's definition. Bytes as hexadecimal, so that rows compare as text. */
export interface FlagRecord {
  readonly flagId: string;
  readonly featureId: string;
  readonly fieldNumber: number;
  readonly displayName: string;
  readonly flagType: string;
  readonly layer: string;
  readonly description: string;
  readonly defaultHex: string | null;
  readonly supportedHex: string | null;
}

export interface StoredFlagRecord extends FlagRecord {
  readonly archived: boolean;
}

/** What has to be written so that the rows say what the definitions say. Ordered by flag id. */
export interface SyncPlan {
  readonly create: readonly FlagRecord[];
  readonly update: readonly FlagRecord[];
  /** Defined again after having been archived. */
  readonly restore: readonly FlagRecord[];
  readonly archive: readonly string[];
  readonly unchanged: number;
  /** Among `update` and `restore`. */
  readonly retyped: readonly { readonly flagId: string; readonly from: string; readonly to: string }[];
}

/** `stored` holds all rows of the features that `wanted` belongs to. */
export function planSync(wanted: readonly FlagRecord[], stored: readonly StoredFlagRecord[]): SyncPlan {
  const rows = new Map(stored.map((row) => [row.flagId, row]));
  const ids = new Set(wanted.map(({ flagId }) => flagId));
  const known = wanted.flatMap((flag) => {
    const row = rows.get(flag.flagId);
    return row === undefined ? [] : [{ flag, row, same: isSame(flag, row) }];
  });
  return {
    create: sorted(wanted.filter(({ flagId }) => !rows.has(flagId))),
    update: sorted(known.filter(({ row, same }) => !row.archived && !same).map(({ flag }) => flag)),
    restore: sorted(known.filter(({ row }) => row.archived).map(({ flag }) => flag)),
    archive: sorted(stored.filter((row) => !row.archived && !ids.has(row.flagId))).map(
      ({ flagId }) => flagId,
    ),
    unchanged: known.filter(({ row, same }) => !row.archived && same).length,
    retyped: known
      .filter(({ flag, row }) => flag.flagType !== row.flagType)
      .map(({ flag, row }) => ({ flagId: flag.flagId, from: row.flagType, to: flag.flagType })),
  };
}

function isSame(a: FlagRecord, b: FlagRecord): boolean {
  return (
    a.featureId === b.featureId &&
    a.fieldNumber === b.fieldNumber &&
    a.displayName === b.displayName &&
    a.flagType === b.flagType &&
    a.layer === b.layer &&
    a.description === b.description &&
    a.defaultHex === b.defaultHex &&
    a.supportedHex === b.supportedHex
  );
}

/** So that two writers take row locks in the same order. */
function sorted<F extends { readonly flagId: string }>(flags: readonly F[]): readonly F[] {
  return flags.toSorted((a, b) => (a.flagId < b.flagId ? -1 : 1));
}
