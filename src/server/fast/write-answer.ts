import { toBinary, toJsonString } from "@bufbuild/protobuf";
import type { Evaluation } from "../../evaluation/precedence.ts";
import { EvaluationSourceSchema } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { FlagValueSchema } from "../../gen/pbflags/v1/types_pb.ts";
import { toWireSource } from "../to-wire.ts";

// By hand, though Connect's implementation could do it: a bulk may ask for thousands of flags that nobody knows, and of
// those nothing is kept.

/** Fields of `EvaluateResponse`, with their wire types. */
const FLAG_ID = 0x0a;
const VALUE = 0x12;
const SOURCE = 0x18;
/** The field `evaluations` of `BulkEvaluateResponse`. */
const EVALUATIONS = 0x0a;

/** An `EvaluateResponse` as an element of a `BulkEvaluateResponse`. The message itself begins at `messageAt`. */
export interface Entry {
  readonly bytes: Buffer;
  readonly messageAt: number;
}

/** `name` is the flag's id or alias: whichever was asked for. */
export function writeEntry(name: string, { value, source }: Evaluation): Entry {
  const nameBytes = Buffer.byteLength(name);
  const valueBytes = value === undefined ? undefined : toBinary(FlagValueSchema, value);
  const nameField = nameBytes === 0 ? 0 : prefixBytes(nameBytes) + nameBytes;
  const valueField = valueBytes === undefined ? 0 : prefixBytes(valueBytes.length) + valueBytes.length;
  const length = nameField + valueField + 2;
  const messageAt = prefixBytes(length);
  const bytes = Buffer.allocUnsafe(messageAt + length);
  let at = writePrefix(bytes, 0, EVALUATIONS, length);
  if (nameBytes > 0) {
    at = writePrefix(bytes, at, FLAG_ID, nameBytes);
    at += bytes.write(name, at);
  }
  if (valueBytes !== undefined) {
    at = writePrefix(bytes, at, VALUE, valueBytes.length);
    bytes.set(valueBytes, at);
    at += valueBytes.length;
  }
  bytes[at] = SOURCE;
  bytes[at + 1] = toWireSource[source];
  return { bytes, messageAt };
}

/** How long a field's tag and its length are. */
function prefixBytes(length: number): number {
  let bytes = 2;
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) bytes += 1;
  return bytes;
}

/** Returns where the field's content begins. */
function writePrefix(bytes: Buffer, start: number, tag: number, length: number): number {
  bytes[start] = tag;
  let at = start + 1;
  let rest = length;
  for (; rest >= 0x80; rest >>>= 7) bytes[at++] = (rest & 0x7f) | 0x80;
  bytes[at] = rest;
  return at + 1;
}

/** The same message in proto3's JSON. */
export function writeJson(name: string, { value, source }: Evaluation): Buffer {
  const fields = [
    ...(name === "" ? [] : [`"flagId":${JSON.stringify(name)}`]),
    ...(value === undefined ? [] : [`"value":${toJsonString(FlagValueSchema, value)}`]),
    `"source":"${EvaluationSourceSchema.value[toWireSource[source]].name}"`,
  ];
  return Buffer.from(`{${fields.join(",")}}`);
}
