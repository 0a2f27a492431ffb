import {
  type DescMessage,
  fromBinary,
  fromJsonString,
  type MessageShape,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import type { Load } from "./load.ts";

/** How a message is put on the wire. */
export interface Protocol {
  readonly with: Load["with"];
  readonly headers: Readonly<Record<string, string>>;
  readonly encode: <D extends DescMessage>(schema: D, message: MessageShape<D>) => Uint8Array;
  readonly decode: <D extends DescMessage>(schema: D, body: Uint8Array) => MessageShape<D>;
}

/** Length, and that nothing is compressed. */
const GRPC_PREFIX_BYTES = 5;

const proto: Pick<Protocol, "encode" | "decode"> = { encode: toBinary, decode: fromBinary };

/** All that are measured, by what the table calls them. */
export const PROTOCOLS = {
  "Connect proto": {
    ...proto,
    with: "wrk",
    headers: { "Content-Type": "application/proto", "Connect-Protocol-Version": "1" },
  },
  "Connect JSON": {
    with: "wrk",
    headers: { "Content-Type": "application/json", "Connect-Protocol-Version": "1" },
    encode: (schema, message) => Buffer.from(toJsonString(schema, message)),
    decode: (schema, body) => fromJsonString(schema, Buffer.from(body).toString()),
  },
  gRPC: {
    with: "h2load",
    headers: { "content-type": "application/grpc", te: "trailers" },
    encode: (schema, message) => {
      const body = proto.encode(schema, message);
      const frame = Buffer.alloc(GRPC_PREFIX_BYTES + body.length);
      frame.writeUInt32BE(body.length, 1);
      frame.set(body, GRPC_PREFIX_BYTES);
      return frame;
    },
    decode: (schema, frame) => proto.decode(schema, frame.subarray(GRPC_PREFIX_BYTES)),
  },
} as const satisfies Readonly<Record<string, Protocol>>;

export type ProtocolName = keyof typeof PROTOCOLS;

export const PROTOCOL_NAMES = [
  "Connect proto",
  "Connect JSON",
  "gRPC",
] as const satisfies readonly ProtocolName[];
