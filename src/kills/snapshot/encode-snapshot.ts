import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { Remembered } from "../../evaluation/remembered.ts";
import type { FlagState, Overrides } from "../../evaluation/state.ts";
import type { Version } from "../../evaluation/version.ts";
import { toFlagRow, toOverrideRow } from "../../evaluation/wire-rows.ts";
import { toWireVersion } from "../../evaluation/wire-version.ts";
import {
  type RememberedEntitySchema,
  type RememberedFlagSchema,
  type RememberedVersionSchema,
  type RemembranceSchema,
  SnapshotSchema,
} from "../../gen/pbflagd/v1/snapshot_pb.ts";
import type { SnapshotContent } from "./snapshot-content.ts";

type Part = MessageInitShape<typeof SnapshotSchema>;
type Init<S extends typeof RememberedFlagSchema | typeof RememberedEntitySchema | typeof RemembranceSchema> =
  Extract<MessageInitShape<S>, { readonly $typeName?: never }>;

/** The one that is written, and read. */
export const SNAPSHOT_FORMAT = 1;
export const SNAPSHOT_BYTES_MAX = 64 * 1024 * 1024;

/** Encoding so many takes about a millisecond. */
const ROWS_A_CHUNK = 200;
const IDS_A_CHUNK = 2_000;

/**
 * A snapshot in pieces, to be written one behind the other: strung together they are one message. Entities are left
 * out, from the last on, where they would make it too large. Throws a RangeError if it is too large without any.
 */
export function* encodeSnapshot(
  content: SnapshotContent,
  bytesMax = SNAPSHOT_BYTES_MAX,
): Generator<Uint8Array, void> {
  const { version } = content.kills;
  let bytes = 0;
  for (const part of essentialParts(content)) {
    const chunk = toBinary(SnapshotSchema, create(SnapshotSchema, part));
    bytes += chunk.length;
    if (bytes > bytesMax) throw new RangeError(`more than ${bytesMax} bytes without any entity`);
    yield chunk;
  }
  for (const entities of inChunks(content.entities, ROWS_A_CHUNK, countRows)) {
    const part = { entities: entities.map((entity) => toEntity(entity, version)) };
    const chunk = toBinary(SnapshotSchema, create(SnapshotSchema, part));
    bytes += chunk.length;
    if (bytes > bytesMax) return;
    yield chunk;
  }
}

function* essentialParts({ store, kills, flags }: SnapshotContent): Generator<Part, void> {
  const { version, readAtWallMs } = kills;
  yield {
    format: SNAPSHOT_FORMAT,
    store,
    readAtMs: BigInt(readAtWallMs),
    ...(version === undefined ? {} : { version: toWireVersion(version) }),
  };
  for (const killedFlagIds of inChunks(kills.flagIds, IDS_A_CHUNK)) yield { killedFlagIds };
  for (const overrides of inChunks(kills.overrides, IDS_A_CHUNK)) {
    yield { killedOverrides: overrides.map(({ flagId, entityId }) => ({ flagId, entityId })) };
  }
  for (const corrections of inChunks(kills.corrections, IDS_A_CHUNK)) {
    yield {
      corrections: corrections.map(({ flagId, killed, version: own }) => ({
        flagId,
        killed,
        ...toOwnVersion(own, version),
      })),
    };
  }
  for (const some of inChunks(flags, ROWS_A_CHUNK)) {
    yield { flags: some.map((flag) => toFlag(flag, version)) };
  }
}

function countRows({ value }: Remembered<Overrides>): number {
  return 1 + (value?.size ?? 0);
}

/** In their order, so many in each that their weights come to at least `weightMax`. */
function* inChunks<T>(
  items: readonly T[],
  weightMax: number,
  weigh: (item: T) => number = () => 1,
): Generator<T[], void> {
  let chunk: T[] = [];
  let weight = 0;
  for (const item of items) {
    chunk.push(item);
    weight += weigh(item);
    if (weight < weightMax) continue;
    yield chunk;
    chunk = [];
    weight = 0;
  }
  if (chunk.length > 0) yield chunk;
}

function toFlag(flag: Remembered<FlagState>, common: Version | undefined): Init<typeof RememberedFlagSchema> {
  const { id, value } = flag;
  return {
    flagId: id,
    ...(value === undefined ? {} : { row: toFlagRow(value) }),
    remembrance: toRemembrance(flag, common),
  };
}

function toEntity(
  entity: Remembered<Overrides>,
  common: Version | undefined,
): Init<typeof RememberedEntitySchema> {
  const { id, value } = entity;
  return {
    entityId: id,
    rows: value === undefined ? [] : Array.from(value.values(), toOverrideRow),
    remembrance: toRemembrance(entity, common),
  };
}

function toRemembrance(
  { version, readAtWallMs, isOutdated, isWithdrawn }: Remembered<unknown>,
  common: Version | undefined,
): Init<typeof RemembranceSchema> {
  return {
    ...toOwnVersion(version, common),
    readAtMs: BigInt(readAtWallMs),
    outdated: isOutdated,
    withdrawn: isWithdrawn,
  };
}

/** Nearly everything is of one epoch, which is written once. */
function toOwnVersion(
  version: Version | undefined,
  common: Version | undefined,
): { readonly version?: MessageInitShape<typeof RememberedVersionSchema> } {
  if (version === undefined) return {};
  const { epoch, revision } = version;
  return { version: { epoch: epoch === common?.epoch ? "" : epoch, revision: BigInt(revision) } };
}
