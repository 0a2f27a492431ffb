import type { Version as WireVersion } from "../gen/pbflagd/v1/version_pb.ts";
import type { Version } from "./version.ts";

/** A version as messages of `pbflagd.v1` carry it. */
export function toWireVersion({ epoch, revision }: Version): {
  readonly epoch: string;
  readonly revision: bigint;
} {
  return { epoch, revision: BigInt(revision) };
}

/** Undefined where the message has none. Throws a RangeError for what no database can have said. */
export function fromWireVersion(
  version: Pick<WireVersion, "epoch" | "revision"> | undefined,
): Version | undefined {
  if (version === undefined) return undefined;
  const { epoch, revision } = version;
  if (epoch === "" || epoch.length > EPOCH_MAX)
    throw new RangeError(
      `Cannot use a version: its epoch must have 1 to ${EPOCH_MAX} characters, got ${epoch.length}`,
    );
  if (revision < 0n || revision > BigInt(Number.MAX_SAFE_INTEGER))
    throw new RangeError(`Cannot use a version: its revision must be from 0 to 2^53 - 1, got ${revision}`);
  return { epoch, revision: Number(revision) };
}

const EPOCH_MAX = 200;
