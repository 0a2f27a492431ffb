import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { FlagState, Override, Overrides } from "../evaluation/state.ts";
import { isSameVersion, type Version } from "../evaluation/version.ts";
import { toWireVersion } from "../evaluation/wire-version.ts";
import type { FlagType } from "../flags/definition.ts";
import { type DeviationSchema, FlagRowSchema, OverrideRowSchema } from "../gen/pbflagd/v1/state_pb.ts";
import { FlagType as WireType } from "../gen/pbflags/v1/types_pb.ts";
import type { KnownRow } from "../namespaces/namespace.ts";
import { toWireState } from "./to-wire.ts";

/** A version and an age, as messages carry them. */
type Worth = { readonly version?: ReturnType<typeof toWireVersion>; readonly ageMs: bigint };
type Deviation = Extract<MessageInitShape<typeof DeviationSchema>, { readonly id?: string }>;

/** Rows with what they are worth, as messages carry it. */
export interface Told<V> {
  readonly worth: Worth;
  readonly rows: readonly (readonly [id: string, value: V])[];
  readonly unknown: readonly string[];
  readonly deviations: readonly Deviation[];
}

/** Most rows are of one version, which is told once; throws UNAVAILABLE where nothing at all is known. */
export function gather<V>(ids: readonly string[], rows: readonly KnownRow<V>[], now: number): Told<V> {
  const all = ids.map((id, i) => [id, rows[i] ?? { kind: "unknown" as const }] as const);
  const known = all.flatMap(([id, row]) => (row.kind === "known" ? [{ id, ...row }] : []));
  if (known.length === 0 && ids.length > 0) {
    throw new ConnectError("Cannot tell the state: the store has not answered yet", Code.Unavailable);
  }
  const version = mostFrequent(known.map((row) => row.version));
  const common = known.filter((row) => isOf(row.version, version));
  const oldest = common.reduce((at, { readAt }) => Math.min(at, readAt), now);
  return {
    worth: toWorth(version, now - oldest),
    rows: known.flatMap(({ id, value }) => (value === undefined ? [] : [[id, value] as const])),
    unknown: all.flatMap(([id, { kind }]) => (kind === "unknown" ? [id] : [])),
    deviations: known
      .filter((row) => !isOf(row.version, version))
      .map((row) => ({ id: row.id, ...toWorth(row.version, now - row.readAt) })),
  };
}

function mostFrequent(versions: readonly (Version | undefined)[]): Version | undefined {
  const counts = new Map<string, { readonly version: Version | undefined; count: number }>();
  for (const version of versions) {
    const key = version === undefined ? "" : `${version.revision}:${version.epoch}`;
    const known = counts.get(key);
    if (known === undefined) counts.set(key, { version, count: 1 });
    else known.count += 1;
  }
  return [...counts.values()].reduce<{ readonly version: Version | undefined; count: number } | undefined>(
    (best, each) => (best === undefined || each.count > best.count ? each : best),
    undefined,
  )?.version;
}

function isOf(version: Version | undefined, other: Version | undefined): boolean {
  if (version === undefined || other === undefined) return version === other;
  return isSameVersion(version, other);
}

/** The version is left out where there is none. */
export function toWorth(version: Version | undefined, ageMs: number): Worth {
  const age = { ageMs: BigInt(Math.max(0, Math.round(ageMs))) };
  return version === undefined ? age : { version: toWireVersion(version), ...age };
}

const WIRE_TYPE: Readonly<Record<FlagType, WireType>> = {
  BOOL: WireType.BOOL,
  STRING: WireType.STRING,
  INT64: WireType.INT64,
  DOUBLE: WireType.DOUBLE,
  BOOL_LIST: WireType.BOOL_LIST,
  STRING_LIST: WireType.STRING_LIST,
  INT64_LIST: WireType.INT64_LIST,
  DOUBLE_LIST: WireType.DOUBLE_LIST,
};

/** For another evaluator: with what it needs to know to treat it as this one does. */
export function toFlagRow({ flagId, mode, value, archived, type, invalid }: FlagState) {
  return create(FlagRowSchema, {
    flagId,
    state: toWireState[mode],
    archived,
    ...(value === undefined ? {} : { value }),
    ...(type === undefined ? {} : { flagType: WIRE_TYPE[type] }),
    ...(invalid === undefined ? {} : { invalid }),
  });
}

/** The same for all overrides of one entity. */
export function toOverrideRows(overrides: Overrides) {
  return [...overrides.values()].map(({ flagId, entityId, mode, value, invalid }: Override) =>
    create(OverrideRowSchema, {
      flagId,
      entityId,
      state: toWireState[mode],
      ...(value === undefined ? {} : { value }),
      ...(invalid === undefined ? {} : { invalid }),
    }),
  );
}
