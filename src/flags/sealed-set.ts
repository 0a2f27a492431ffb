import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import type { DescriptorSet } from "./definition.ts";
import { hashSet } from "./hash-set.ts";

/**
 * The highest field number there is. In a FileDescriptorSet it is one for extensions, which readers pass over: a sealed
 * set is still a descriptor set, for us and for buf and protoc.
 */
const SEAL_FIELD = 2 ** 29 - 1;

/** What goes behind the bytes of a set to tell later whether they are whole: their hash, as a field of the set. */
export function sealOf(hash: string): Uint8Array {
  return new BinaryWriter()
    .tag(SEAL_FIELD, WireType.LengthDelimited)
    .bytes(Buffer.from(hash, "hex"))
    .finish();
}

/** Bytes that a seal adds. */
export const sealBytes = sealOf("00".repeat(32)).length;

/** The set in front of its seal. Undefined: there is no seal, or it is of other bytes. */
export async function unseal(sealed: Uint8Array): Promise<DescriptorSet | undefined> {
  if (sealed.length < sealBytes) return undefined;
  const bytes = sealed.subarray(0, -sealBytes);
  const hash = await hashSet(bytes);
  const isWhole = Buffer.from(sealOf(hash)).equals(sealed.subarray(-sealBytes));
  return isWhole ? { bytes, hash } : undefined;
}
