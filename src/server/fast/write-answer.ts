import { toBinary, toJsonString } from "@bufbuild/protobuf";
import type { Evaluation } from "../../evaluation/precedence.ts";
import { EvaluationSourceSchema } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { FlagValueSchema } from "../../gen/pbflags/v1/types_pb.ts";
import { type ByteText, bytesOfText, byteText } from "../byte-text.ts";
import { toWireSource } from "../to-wire.ts";

// Fields with their wire types, of `EvaluateResponse` and of `BulkEvaluateResponse`.
const FLAG_ID = "\u000a";
const VALUE = "\u0012";
const SOURCE = "\u0018";
const EVALUATIONS = "\u000a";

/**
 * An `EvaluateResponse`. By hand, though Connect's implementation could do it: a bulk may ask for thousands of flags that
 * nobody knows, and of those nothing is kept. `name` is the flag's id or alias: whichever was asked for.
 */
export function writeMessage(name: string, { value, source }: Evaluation): ByteText {
  const flagId = name === "" ? "" : field(FLAG_ID, utf8(name));
  const content = value === undefined ? "" : field(VALUE, byteText(toBinary(FlagValueSchema, value)));
  return flagId + content + SOURCE + String.fromCharCode(toWireSource[source]);
}

/** Such a message as an element of a `BulkEvaluateResponse`. */
export function toEntry(message: ByteText): ByteText {
  return field(EVALUATIONS, message);
}

function field(tag: string, content: ByteText): ByteText {
  let length = "";
  let rest = content.length;
  for (; rest >= 0x80; rest >>>= 7) length += String.fromCharCode((rest & 0x7f) | 0x80);
  return tag + length + String.fromCharCode(rest) + content;
}

/** An `EvaluateResponse` in proto3's JSON. */
export function writeJson(name: string, { value, source }: Evaluation): ByteText {
  const flagId = name === "" ? "" : `"flagId":${JSON.stringify(name)},`;
  const content = value === undefined ? "" : `"value":${toJsonString(FlagValueSchema, value)},`;
  const { name: sourceName } = EvaluationSourceSchema.value[toWireSource[source]] ?? { name: "" };
  return utf8(`{${flagId}${content}"source":"${sourceName}"}`);
}

/** A message that is not compressed, as gRPC frames it: a flag and four bytes of length stand before it. */
export function toFrame(message: ByteText, isCompressed = false): ByteText {
  const { length } = message;
  const flag = isCompressed ? 1 : 0;
  return (
    String.fromCharCode(flag, length >>> 24, (length >>> 16) & 255, (length >>> 8) & 255, length & 255) +
    message
  );
}

/** The same text. One that was put together of others would be put together anew whenever it is written behind a head. */
export function inOnePiece(text: ByteText): ByteText {
  return byteText(bytesOfText(text));
}

function utf8(text: string): ByteText {
  return Buffer.from(text).toString("latin1");
}
