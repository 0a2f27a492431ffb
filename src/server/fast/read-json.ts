import { JsonScanner } from "./json-scanner.ts";
import { type BulkMessage, decode, type EvaluateQuestion } from "./read-message.ts";

/** Reads an `EvaluateRequest`. Undefined for everything unusual, be it valid or not: unknown fields, null. */
export function readEvaluateJson(document: Buffer): EvaluateQuestion | undefined {
  let flagId: string | undefined;
  const entityId = readFields(decode(document), (name, scanner) => {
    if ((name !== "flagId" && name !== "flag_id") || flagId !== undefined) return false;
    flagId = scanner.text();
    return flagId !== undefined;
  });
  return entityId === undefined ? undefined : { flagId: flagId ?? "", entityId };
}

/** The same for a `BulkEvaluateRequest`. */
export function readBulkJson(document: Buffer): BulkMessage | undefined {
  const text = decode(document);
  let flagIds: readonly string[] | undefined;
  let flagsEnd: number | undefined;
  const entityId = readFields(text, (name, scanner, isFirst) => {
    if ((name !== "flagIds" && name !== "flag_ids") || flagIds !== undefined) return false;
    flagIds = scanner.texts();
    // Where characters are bytes.
    if (isFirst && text?.length === document.length) flagsEnd = scanner.at;
    return flagIds !== undefined;
  });
  return entityId === undefined ? undefined : { flagIds: flagIds ?? [], entityId, flagsEnd };
}

/** The entity's id in a `BulkEvaluateRequest`, "" for none, where nothing but the flags stands before `flagsEnd`. */
export function readEntityJson(document: Buffer, flagsEnd: number): string | undefined {
  const rest = decode(document.subarray(flagsEnd));
  // What follows a comma is a field.
  if (rest?.startsWith(',"') !== true && rest?.startsWith("}") !== true) return undefined;
  return readFields(`{${rest.startsWith(",") ? rest.slice(1) : rest}`, () => false);
}

/** Returns the entity's id, "" for none; undefined if there is a field that is neither that nor one that `take` takes. */
function readFields(
  text: string | undefined,
  take: (name: string, scanner: JsonScanner, isFirst: boolean) => boolean,
): string | undefined {
  if (text === undefined) return undefined;
  const scanner = new JsonScanner(text);
  if (!scanner.takes("{")) return undefined;
  let entityId: string | undefined;
  let isFirst = true;
  if (!scanner.takes("}")) {
    do {
      const name = scanner.text();
      if (name === undefined || !scanner.takes(":")) return undefined;
      if (name === "entityId" || name === "entity_id") {
        if (entityId !== undefined) return undefined;
        entityId = scanner.text();
        if (entityId === undefined) return undefined;
      } else if (!take(name, scanner, isFirst)) return undefined;
      isFirst = false;
    } while (scanner.takes(","));
    if (!scanner.takes("}")) return undefined;
  }
  return scanner.isAtEnd ? (entityId ?? "") : undefined;
}
