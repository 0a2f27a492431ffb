import { isDeep } from "../rpc/shallow-json.ts";
import { type BulkQuestion, decode, type EvaluateQuestion } from "./read-message.ts";

/** The names of each field, as proto3's JSON allows them. */
const FLAG_ID = ["flagId", "flag_id"];
const FLAG_IDS = ["flagIds", "flag_ids"];
const ENTITY_ID = ["entityId", "entity_id"];

/** Reads an `EvaluateRequest`. Undefined for everything unusual, be it valid or not: unknown fields, null. */
export function readEvaluateJson(document: Buffer): EvaluateQuestion | undefined {
  const fields = readFields(document, FLAG_ID);
  if (fields === undefined) return undefined;
  const { first = "", entityId } = fields;
  return isText(first) ? { flagId: first, entityId } : undefined;
}

/** The same for a `BulkEvaluateRequest`. */
export function readBulkJson(document: Buffer): BulkQuestion | undefined {
  const fields = readFields(document, FLAG_IDS);
  if (fields === undefined) return undefined;
  const { first = [], entityId } = fields;
  return Array.isArray(first) && first.every(isText) ? { flagIds: first, entityId } : undefined;
}

interface Fields {
  /** Whatever stands under one of the first field's names. */
  readonly first: unknown;
  readonly entityId: string;
}

function readFields(document: Buffer, firstNames: readonly string[]): Fields | undefined {
  const object = parseObject(document);
  if (object === undefined) return undefined;
  let first: unknown;
  let entityId: unknown;
  for (const [name, value] of Object.entries(object)) {
    if (firstNames.includes(name) && first === undefined) first = value;
    else if (ENTITY_ID.includes(name) && entityId === undefined) entityId = value;
    else return undefined;
  }
  entityId ??= "";
  return first !== null && isText(entityId) ? { first, entityId } : undefined;
}

function parseObject(document: Buffer): object | undefined {
  const text = decode(document);
  if (text === undefined || isDeep(document)) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Half a surrogate pair, which an escape can smuggle in, cannot be repeated in an answer. */
const HALF_A_PAIR = /\p{Surrogate}/u;

function isText(value: unknown): value is string {
  return typeof value === "string" && !HALF_A_PAIR.test(value);
}
