import type { Evaluation } from "../../evaluation/precedence.ts";
import { EvaluationSource } from "../../gen/pbflags/v1/evaluator_pb.ts";
import { type ByteText, uint32, utf8 } from "../byte-text.ts";
import { toWireSource } from "../to-wire.ts";
import { field } from "./write-field.ts";
import { writeJsonValue, writeValue } from "./write-value.ts";

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
  const content = value === undefined ? "" : field(VALUE, writeValue(value));
  return flagId + content + SOURCE + String.fromCharCode(toWireSource[source]);
}

/** Such a message as an element of a `BulkEvaluateResponse`. */
export function toEntry(message: ByteText): ByteText {
  return field(EVALUATIONS, message);
}

/** An `EvaluateResponse` in proto3's JSON. */
export function writeJson(name: string, { value, source }: Evaluation): ByteText {
  const flagId = name === "" ? "" : `"flagId":${JSON.stringify(name)},`;
  const content = value === undefined ? "" : `"value":${writeJsonValue(value)},`;
  return utf8(`{${flagId}${content}"source":"EVALUATION_SOURCE_${EvaluationSource[toWireSource[source]]}"}`);
}

/** A message that is not compressed, as gRPC frames it: a flag and four bytes of length stand before it. */
export function toFrame(message: ByteText, isCompressed = false): ByteText {
  return (isCompressed ? "\x01" : "\0") + uint32(message.length) + message;
}
