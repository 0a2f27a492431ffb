import { toBinary, toJsonString } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  ChangedSchema,
  ResyncSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "../../gen/pbflagd/v1/watch_pb.ts";
import type { Format } from "./told-kills.ts";

/** A message in its envelope, in parts to be sent one after the other. */
export type MessageBytes = readonly Uint8Array[];

/** What stands before a message, in every protocol: a flag and the length. */
const ENVELOPE_BYTES = 5;

/**
 * Encodes a message whose event has no kill set, and puts `kills` into it, which is one in the same format: the very
 * bytes, so that all who are told the same kill set are sent the same memory.
 */
export function encodeMessage(
  message: WatchResponse,
  kills: Uint8Array | undefined,
  format: Format,
): MessageBytes {
  if (format === "json") return inEnvelope(jsonParts(toJsonString(WatchResponseSchema, message), kills));
  return inEnvelope(
    kills === undefined ? [toBinary(WatchResponseSchema, message)] : protoParts(message, kills),
  );
}

function inEnvelope([first = new Uint8Array(), ...rest]: MessageBytes): MessageBytes {
  const beginning = Buffer.alloc(ENVELOPE_BYTES + first.length);
  beginning.writeUInt32BE(
    rest.reduce((length, part) => length + part.length, first.length),
    1,
  );
  beginning.set(first, ENVELOPE_BYTES);
  return [beginning, ...rest];
}

/** The kill set goes to the end of the event, and the event to the end of the message. */
function protoParts({ event, ...rest }: WatchResponse, kills: Uint8Array): MessageBytes {
  const { changed, resync } = WatchResponseSchema.field;
  const [field, own, killsField] =
    event.case === "changed"
      ? [changed, toBinary(ChangedSchema, event.value), ChangedSchema.field.kills]
      : [resync, new Uint8Array(), ResyncSchema.field.kills];
  const killsStart = new BinaryWriter()
    .tag(killsField.number, WireType.LengthDelimited)
    .uint32(kills.length)
    .finish();
  const beginning = new BinaryWriter()
    .raw(toBinary(WatchResponseSchema, { ...rest, event: { case: undefined } }))
    .tag(field.number, WireType.LengthDelimited)
    .uint32(own.length + killsStart.length + kills.length)
    .raw(own)
    .raw(killsStart);
  return [beginning.finish(), kills];
}

/** The message ends with its event's bracket and its own. */
function jsonParts(json: string, kills: Uint8Array | undefined): MessageBytes {
  if (kills === undefined) return [Buffer.from(json)];
  const open = json.slice(0, -2);
  const comma = open.endsWith("{") ? "" : ",";
  return [Buffer.from(`${open}${comma}"kills":`), kills, Buffer.from("}}")];
}
