import { create, fromBinary, fromJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { compressedFlag } from "@connectrpc/connect/protocol";
import { compressionGzip } from "@connectrpc/connect-node";
import { type WatchRequest, WatchRequestSchema } from "../../gen/pbflagd/v1/watch_pb.ts";
import { shallowJson } from "../rpc/shallow-json.ts";
import type { Format } from "./told-kills.ts";

export interface Wrapped {
  readonly format: Format;
  /** As a header says. Undefined: none. */
  readonly compression: string | undefined;
  /** Of the message, inflated. */
  readonly bytesMax: number;
}

/** A flag and four bytes of length stand before a message. */
const PREFIX_BYTES = 5;

/**
 * The one message of a call, from its body. Rejects with INVALID_ARGUMENT if it is another, none, or not the only one, and
 * with UNIMPLEMENTED if it is compressed in a way that is not known.
 */
export async function parseRequest(body: Uint8Array, wrapped: Wrapped): Promise<WatchRequest> {
  const { format, compression = "identity" } = wrapped;
  const known = ["identity", compressionGzip.name];
  if (!known.includes(compression))
    throw new ConnectError(
      `Cannot read the request: expected ${known.join(" or ")}, got ${JSON.stringify(compression)}`,
      Code.Unimplemented,
    );
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const isCompressed = bytes[0] === compressedFlag && compression !== "identity";
  const isOne =
    bytes.length >= PREFIX_BYTES &&
    (bytes[0] === 0 || isCompressed) &&
    bytes.readUInt32BE(1) === bytes.length - PREFIX_BYTES;
  if (!isOne) throw new ConnectError("Cannot read the request: must be one message", Code.InvalidArgument);
  const message = bytes.subarray(PREFIX_BYTES);
  // As most callers have it.
  if (message.length === 0) return create(WatchRequestSchema);
  return parse(isCompressed ? await inflate(message, wrapped.bytesMax) : message, format);
}

/** Rejects with RESOURCE_EXHAUSTED if it is too large. */
async function inflate(message: Uint8Array, bytesMax: number): Promise<Uint8Array> {
  try {
    return await compressionGzip.decompress(message, bytesMax);
  } catch (cause) {
    if (cause instanceof ConnectError && cause.code === Code.ResourceExhausted) throw cause;
    throw notAMessage(cause);
  }
}

function parse(message: Uint8Array, format: Format): WatchRequest {
  try {
    return format === "proto"
      ? fromBinary(WatchRequestSchema, message)
      : fromJsonString(WatchRequestSchema, shallowJson.textDecoder.decode(message), shallowJson);
  } catch (cause) {
    throw notAMessage(cause);
  }
}

function notAMessage(cause: unknown): ConnectError {
  const message = `Cannot read the request: must be a ${WatchRequestSchema.typeName}`;
  return new ConnectError(message, Code.InvalidArgument, undefined, undefined, cause);
}
