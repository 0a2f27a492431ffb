import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import type { RememberedKills } from "../../evaluation/kill-set.ts";
import type { Remembered } from "../../evaluation/remembered.ts";
import type { FlagState, Overrides } from "../../evaluation/state.ts";
import type { Version } from "../../evaluation/version.ts";
import { fromWireVersion } from "../../evaluation/wire-version.ts";
import {
  type RememberedEntity,
  type RememberedFlag,
  type RememberedVersion,
  type Remembrance,
  type Snapshot,
  SnapshotSchema,
} from "../../gen/pbflagd/v1/snapshot_pb.ts";
import { fromFlagRow, fromOverrideRow } from "../../store/upstream-rows.ts";
import { SNAPSHOT_FORMAT } from "./encode-snapshot.ts";
import type { SnapshotContent } from "./snapshot-content.ts";

/** What is made of the bytes of a snapshot. */
export type Decoded =
  | { readonly kind: "usable"; readonly content: SnapshotContent }
  /** `reason` says what it must be, and what it is. */
  | { readonly kind: "unusable"; readonly reason: string };

/** Decoding so many takes about a millisecond. */
const CHUNK_BYTES = 32 * 1024;

/** Reads what `encodeSnapshot` has written, strung together. Each `yield` is a place to pause. Never throws. */
export function* decodeSnapshot(bytes: Uint8Array): Generator<void, Decoded> {
  try {
    return yield* decode(bytes);
  } catch (error) {
    const got = error instanceof Error ? error.message : String(error);
    return { kind: "unusable", reason: `it must be a snapshot, got ${got}` };
  }
}

function* decode(bytes: Uint8Array): Generator<void, Decoded> {
  const pieces: Piece[] = [];
  let head: Head | undefined;
  for (const part of splitMessage(bytes)) {
    const snapshot = fromBinary(SnapshotSchema, part);
    if (head === undefined) {
      if (snapshot.format !== SNAPSHOT_FORMAT) return ofOtherFormat(snapshot.format);
      head = toHead(snapshot);
    }
    pieces.push(toPiece(snapshot, head.version));
    yield;
  }
  if (head === undefined) return ofOtherFormat(0);
  const { store, version, readAtWallMs } = head;
  return {
    kind: "usable",
    content: {
      store,
      kills: {
        version,
        readAtWallMs,
        flagIds: pieces.flatMap(({ flagIds }) => flagIds),
        overrides: pieces.flatMap(({ overrides }) => overrides),
        corrections: pieces.flatMap(({ corrections }) => corrections),
      },
      flags: pieces.flatMap(({ flags }) => flags),
      entities: pieces.flatMap(({ entities }) => entities),
    },
  };
}

function ofOtherFormat(format: number): Decoded {
  const later = format > SNAPSHOT_FORMAT ? ", as a later pbflagd writes it" : "";
  return { kind: "unusable", reason: `it must be of format ${SNAPSHOT_FORMAT}, got ${format}${later}` };
}

/** The message in pieces that begin and end between two of its fields. */
function* splitMessage(bytes: Uint8Array): Generator<Uint8Array, void> {
  const reader = new BinaryReader(bytes);
  let from = 0;
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    reader.skip(wireType, field);
    if (reader.pos - from < CHUNK_BYTES && reader.pos < reader.len) continue;
    yield bytes.subarray(from, reader.pos);
    from = reader.pos;
  }
}

type Head = Pick<SnapshotContent, "store"> & Pick<RememberedKills, "version" | "readAtWallMs">;

function toHead({ store, version, readAtMs }: Snapshot): Head {
  return { store, version: fromWireVersion(version), readAtWallMs: Number(readAtMs) };
}

type Piece = Pick<RememberedKills, "flagIds" | "overrides" | "corrections"> &
  Pick<SnapshotContent, "flags" | "entities">;

function toPiece(snapshot: Snapshot, common: Version | undefined): Piece {
  return {
    flagIds: snapshot.killedFlagIds,
    overrides: snapshot.killedOverrides.map(({ flagId, entityId }) => ({ flagId, entityId })),
    corrections: snapshot.corrections.map(({ flagId, killed, version }) => ({
      flagId,
      killed,
      version: fromOwnVersion(version, common),
    })),
    flags: snapshot.flags.map((flag) => fromFlag(flag, common)),
    entities: snapshot.entities.map((entity) => fromEntity(entity, common)),
  };
}

function fromFlag(
  { flagId, row, remembrance }: RememberedFlag,
  common: Version | undefined,
): Remembered<FlagState> {
  const value = row === undefined ? undefined : fromFlagRow(row);
  return { id: flagId, value, ...fromRemembrance(remembrance, common) };
}

function fromEntity(
  { entityId, rows, remembrance }: RememberedEntity,
  common: Version | undefined,
): Remembered<Overrides> {
  const overrides = rows.map(fromOverrideRow);
  const value =
    overrides.length === 0 ? undefined : new Map(overrides.map((override) => [override.flagId, override]));
  return { id: entityId, value, ...fromRemembrance(remembrance, common) };
}

function fromRemembrance(
  remembrance: Remembrance | undefined,
  common: Version | undefined,
): Omit<Remembered<unknown>, "id" | "value"> {
  if (remembrance === undefined) throw new TypeError("something without a time");
  const { version, readAtMs, outdated, withdrawn } = remembrance;
  return {
    version: fromOwnVersion(version, common),
    readAtWallMs: Number(readAtMs),
    isOutdated: outdated,
    isWithdrawn: withdrawn,
  };
}

function fromOwnVersion(
  version: RememberedVersion | undefined,
  common: Version | undefined,
): Version | undefined {
  if (version === undefined) return undefined;
  const { epoch, revision } = version;
  return fromWireVersion({ epoch: epoch === "" ? (common?.epoch ?? "") : epoch, revision });
}
