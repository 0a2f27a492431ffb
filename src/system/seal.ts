import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { hashBytes } from "./hash-bytes.ts";

/**
 * The highest field number there is. Readers of a message pass over a field that they do not know, and in a
 * FileDescriptorSet it is one for extensions: a sealed message is still that message, for us and for buf and protoc.
 */
const SEAL_FIELD = 2 ** 29 - 1;

/** What goes behind the bytes of a message to tell later whether they are whole: their hash, as a field of it. */
export function sealOf(hash: string): Uint8Array {
  return new BinaryWriter()
    .tag(SEAL_FIELD, WireType.LengthDelimited)
    .bytes(Buffer.from(hash, "hex"))
    .finish();
}

/** Bytes that a seal adds. */
export const sealBytes = sealOf("00".repeat(32)).length;

/** Bytes that are as they were written, and their SHA-256 in hexadecimal. */
export interface Unsealed {
  readonly bytes: Uint8Array;
  readonly hash: string;
}

/** What stands in front of its seal. Undefined: there is no seal, or it is of other bytes. */
export async function unseal(sealed: Uint8Array): Promise<Unsealed | undefined> {
  if (sealed.length < sealBytes) return undefined;
  const bytes = sealed.subarray(0, -sealBytes);
  const hash = await hashBytes(bytes);
  const isWhole = Buffer.from(sealOf(hash)).equals(sealed.subarray(-sealBytes));
  return isWhole ? { bytes, hash } : undefined;
}
