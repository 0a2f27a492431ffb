import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { BulkEvaluateRequestSchema, EvaluateRequestSchema } from "../../src/gen/pbflags/v1/evaluator_pb.ts";
import { evaluatorPath } from "../wire/serve-memory.ts";

/** A call, over either version of HTTP. */
export interface GeneratedCall {
  readonly http: "1.1" | "2";
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

export interface CallWorld {
  /** Ids and aliases, also of flags that nobody defined. */
  readonly names: readonly string[];
  readonly entities: readonly string[];
  /** For `pbflags-min-version`. */
  readonly versions: readonly string[];
  /** Of a message. */
  readonly bytesMax: number;
}

interface Question {
  readonly rpc: "evaluate" | "bulkEvaluate";
  readonly flagIds: readonly string[];
  readonly entityId: string;
}

/** Texts that are no ordinary ids. */
const ODD_TEXTS = [
  "",
  "x".repeat(512),
  "é".repeat(513),
  "emoji 😀 and \u2028",
  '"quoted"\\ and \u0007',
  "\ufeffmark",
  "\ufffd",
  "gone/1",
  "notifications/1/",
];

/**
 * Calls of Evaluate and BulkEvaluate: three in four as clients send them, the others with something odd about them, be
 * it allowed or not. `random` gives numbers from 0 to 1.
 */
export function createCallGenerator(world: CallWorld, random: () => number): () => GeneratedCall {
  const chance = (share: number) => random() < share;
  const below = (n: number) => Math.floor(random() * n);
  function pick<T>(items: readonly T[]): T {
    const item = items[below(items.length)];
    if (item === undefined) throw new Error("Cannot pick from nothing");
    return item;
  }

  // As a program asks for them, over and over. One begins as another does.
  const usualLists = [3, 5, 20].map((length) => world.names.slice(0, length));

  function question(): Question {
    const text = (usual: readonly string[]) => (chance(0.04) ? pick(ODD_TEXTS) : pick(usual));
    const entityId = chance(0.3) ? "" : text(world.entities);
    if (chance(0.6)) return { rpc: "evaluate", flagIds: [text(world.names)], entityId };
    if (chance(0.3)) return { rpc: "bulkEvaluate", flagIds: pick(usualLists), entityId };
    const length = chance(0.4) ? 0 : below(chance(0.1) ? 120 : 12);
    return { rpc: "bulkEvaluate", flagIds: Array.from({ length }, () => text(world.names)), entityId };
  }

  function usualCall(): GeneratedCall {
    const asked = question();
    const accepts = pick<Readonly<Record<string, string>>>([
      {},
      {},
      { "accept-encoding": "gzip" },
      { "accept-encoding": "gzip, br" },
      { "accept-encoding": "identity" },
    ]);
    const path = evaluatorPath(asked.rpc);
    const isJson = chance(0.4);
    const message = isJson ? toJson(asked) : toProto(asked);
    const http = chance(0.65) ? "1.1" : "2";
    if (http === "2" && chance(0.7)) return { http, method: "POST", path, ...grpcCall(toProto(asked)) };
    if (http === "1.1" && chance(0.15)) return { ...getCall(asked.rpc, isJson, message), headers: accepts };
    const headers = { "content-type": isJson ? "application/json" : "application/proto", ...accepts };
    return { http, method: "POST", path, headers, body: message };
  }

  function grpcCall(message: Buffer): Pick<GeneratedCall, "headers" | "body"> {
    const accepts = pick<Readonly<Record<string, string>>>([
      {},
      { "grpc-accept-encoding": "gzip" },
      { "grpc-accept-encoding": "identity,deflate,gzip" },
    ]);
    const type = pick(["application/grpc", "application/grpc+proto"]);
    return { headers: { "content-type": type, te: "trailers", ...accepts }, body: toFrame(message) };
  }

  function getCall(rpc: Question["rpc"], isJson: boolean, message: Buffer): GeneratedCall {
    const query = new URLSearchParams({ encoding: isJson ? "json" : "proto", connect: "v1" });
    if (!isJson || chance(0.3)) {
      query.set("base64", "1");
      query.set("message", message.toString(chance(0.8) ? "base64url" : "base64"));
    } else {
      query.set("message", message.toString());
    }
    const path = `${evaluatorPath(rpc)}?${query.toString()}`;
    return { http: "1.1", method: "GET", path, headers: {}, body: Buffer.alloc(0) };
  }

  const oddities: readonly ((call: GeneratedCall) => GeneratedCall)[] = [
    // A header that changes what is asked for, or is not understood.
    (call) => withHeaders(call, { "content-type": pick(ODD_TYPES) }),
    (call) => withHeaders(call, { "content-encoding": pick(["identity", "gzip", "br", "", "Gzip"]) }),
    (call) => withHeaders(call, { "grpc-encoding": pick(["identity", "gzip", "snappy"]) }),
    (call) => withHeaders(call, { "accept-encoding": pick(["", "br", "gzip;q=0.5", "br,gzip", "*"]) }),
    (call) => withHeaders(call, { "connect-timeout-ms": pick(ODD_CONNECT_TIMEOUTS) }),
    (call) => withHeaders(call, { "grpc-timeout": pick(ODD_GRPC_TIMEOUTS) }),
    (call) => withHeaders(call, { "pbflags-min-version": pick(world.versions) }),
    (call) => withHeaders(call, { traceparent: pick(["00-1-2-01", "none", ""]) }),
    (call) => withHeaders(call, { "connect-protocol-version": pick(["1", "2"]), "x-unknown": "1" }),
    (call) => ({ ...withHeaders(call, { "content-encoding": "gzip" }), body: gzipSync(call.body) }),
    // A body that is damaged, or is another message's.
    (call) => ({ ...call, body: cut(call.body, below(call.body.length + 1)) }),
    (call) => ({ ...call, body: flip(call.body, below(call.body.length * 8 + 1)) }),
    (call) => ({ ...call, body: flip(call.body, below(call.body.length * 8 + 1)) }),
    (call) => ({ ...call, body: Buffer.concat([call.body, pick(TAILS)]) }),
    (call) => ({ ...call, body: Buffer.concat([call.body, call.body]) }),
    (call) => ({ ...call, body: pick(ODD_BODIES) }),
    (call) => ({ ...call, body: toFrame(pick(ODD_BODIES)) }),
    (call) => ({ ...call, body: Buffer.alloc(world.bytesMax + below(12) - 6, "\n\u0003abc") }),
    // Another method, or another query.
    (call) => ({ ...call, method: pick(["GET", "POST", "PUT", "OPTIONS"]) }),
    (call) => ({ ...call, path: call.path + pick(["?", "?a=b", "#", "#?encoding=json", "&message=%7B%7D"]) }),
    (call) => ({
      ...call,
      path: call.path.replace(/encoding=\w+/, pick(["encoding=xml", "encoding=PROTO", ""])),
    }),
    (call) => ({
      ...call,
      path: call.path.replace("message=", pick(["message=%ff", "message=*", "nothing="])),
    }),
    (call) => ({ ...call, path: `${call.path}&${pick(["compression=gzip", "base64=1", "base64=0"])}` }),
  ];

  return () => {
    let call = usualCall();
    if (chance(0.25)) {
      do call = pick(oddities)(call);
      while (chance(0.3));
    }
    return call;
  };
}

const ODD_TYPES = [
  "application/proto",
  "application/json",
  "application/grpc",
  "application/grpc+json",
  "application/grpc-web+proto",
  "Application/Proto",
  "application/json; charset=utf-8",
  "application/json;charset=utf8",
  "application/connect+proto",
  "text/plain",
  "",
];
const ODD_CONNECT_TIMEOUTS = ["5000", "1", "0", "-1", "soon", "9999999999", "99999999999", ""];
const ODD_GRPC_TIMEOUTS = ["5S", "1n", "99999999H", "100000000S", "0m", "5", "", "1.5S"];

/** What may follow a message: an unknown field of each wire type, a half one, one of ours again. */
const TAILS = [
  "1801",
  "22026869",
  "2901000000000000000",
  "350000",
  "0a",
  "0a8300",
  "1203616263",
  "7b7c",
  " ",
].map((hex) => (hex === " " ? Buffer.from(hex) : Buffer.from(hex, "hex")));

const ODD_BODIES = [
  Buffer.alloc(0),
  Buffer.from("0a8f006e6f74696669636174696f6e732f31", "hex"),
  Buffer.from("0a8f80006e6f74696669636174696f6e732f31", "hex"),
  Buffer.from("0a02c328", "hex"),
  Buffer.from("0a0fefbbbf6e6f74696669636174696f6e73", "hex"),
  Buffer.from("1a0361626312016f0a0361626310", "hex"),
  ...[
    "{}",
    "[]",
    "null",
    '{"flagId":null}',
    '{"flagIds":null,"entityId":null}',
    '{"flag_id":"notifications/1","entity_id":"user-1"}',
    '{"flagId":"notifications/1","flag_id":"notifications/2"}',
    '{"flagId":"notifications/1","flagId":"notifications/2"}',
    '{"flagId":7}',
    '{"flagIds":"notifications/1"}',
    '{"flagIds":["notifications/1",null]}',
    '{"flagIds":[]}',
    '{"flag_ids":["notifications\\/1"],"entityId":""}',
    '{"flagId":"notifications\\/1","entityId":"\\u0075ser-1"}',
    '{"flagId":"\\ud800"}',
    '{"flagIds":["\\udc00\\ud800"]}',
    '{"flagId":"\\ud83d\\ude00"}',
    '{"flagId":"notifications/1","context":{"a":[1]}}',
    '{"__proto__":{"flagId":"notifications/1"}}',
    '{"flagId":"notifications/1"}}',
    '\ufeff{"flagId":"notifications/1"}',
    ' {"flagId" : "notifications/1" }\n',
    `{"flagId":"notifications/1","a":${"[".repeat(101)}${"]".repeat(101)}}`,
    `{"flagId":"notifications/1","a":${"[".repeat(90)}${"]".repeat(90)}}`,
  ].map((text) => Buffer.from(text)),
  Buffer.from('{"flagId":"\xff"}', "latin1"),
];

function withHeaders(call: GeneratedCall, headers: Readonly<Record<string, string>>): GeneratedCall {
  return { ...call, headers: { ...call.headers, ...headers } };
}

function toProto({ rpc, flagIds, entityId }: Question): Buffer {
  const [flagId = ""] = flagIds;
  const bytes =
    rpc === "evaluate"
      ? toBinary(EvaluateRequestSchema, create(EvaluateRequestSchema, { flagId, entityId }))
      : toBinary(
          BulkEvaluateRequestSchema,
          create(BulkEvaluateRequestSchema, { flagIds: [...flagIds], entityId }),
        );
  return Buffer.from(bytes);
}

function toJson({ rpc, flagIds, entityId }: Question): Buffer {
  const [flagId = ""] = flagIds;
  return Buffer.from(JSON.stringify(rpc === "evaluate" ? { flagId, entityId } : { flagIds, entityId }));
}

function toFrame(message: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(message.length, 1);
  return Buffer.concat([header, message]);
}

function cut(body: Buffer, length: number): Buffer {
  return body.subarray(0, length);
}

function flip(body: Buffer, bit: number): Buffer {
  const flipped = Buffer.from(body);
  const at = bit >> 3;
  flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7));
  return flipped;
}
