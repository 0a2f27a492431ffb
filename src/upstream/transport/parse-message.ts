import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { UpstreamError } from "../upstream-error.ts";

/** The message that an upstream answered with. Throws an UpstreamError if it is another, or none. */
export function parseMessage<O extends DescMessage>(
  target: string,
  schema: O,
  bytes: Uint8Array,
): MessageShape<O> {
  try {
    return fromBinary(schema, bytes);
  } catch (cause) {
    const message = `Cannot use what ${target} answered: must be a ${schema.typeName}, got ${bytes.length} other bytes`;
    throw new UpstreamError("answer", message, { cause });
  }
}
