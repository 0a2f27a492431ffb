import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { isSameVersion, type Version } from "../evaluation/version.ts";
import { toWireVersion } from "../evaluation/wire-version.ts";
import type { DeviationSchema } from "../gen/pbflagd/v1/state_pb.ts";
import type { KnownRow } from "../namespaces/namespace.ts";

/** A version and an age, as messages carry them. */
type Worth = { readonly version?: ReturnType<typeof toWireVersion>; readonly ageMs: bigint };
type Deviation = Extract<MessageInitShape<typeof DeviationSchema>, { readonly id?: string }>;

/** Rows with what they are worth, as messages carry it. */
export interface Told<R> {
  readonly worth: Worth;
  readonly rows: readonly R[];
  readonly unknown: readonly string[];
  readonly deviations: readonly Deviation[];
}

/** Rows of each id. Most are of one version, which is told once; throws UNAVAILABLE where nothing at all is known. */
export function gather<R>(
  ids: readonly string[],
  rows: readonly KnownRow<readonly R[]>[],
  now: number,
): Told<R> {
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
    rows: known.flatMap(({ value }) => value ?? []),
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
  const age = { ageMs: toWholeMs(ageMs) };
  return version === undefined ? age : { version: toWireVersion(version), ...age };
}

/** A time span as messages carry it. */
export function toWholeMs(ms: number): bigint {
  return BigInt(Math.max(0, Math.round(ms)));
}
