import { JsonScanner } from "./json-scanner.ts";
import { type BulkQuestion, decode, type EvaluateQuestion } from "./read-message.ts";

/** Reads an `EvaluateRequest`. Undefined for everything unusual, be it valid or not: unknown fields, null. */
export function readEvaluateJson(document: Buffer): EvaluateQuestion | undefined {
  let flagId: string | undefined;
  const entityId = readFields(document, (name, scanner) => {
    if ((name !== "flagId" && name !== "flag_id") || flagId !== undefined) return false;
    flagId = scanner.text();
    return flagId !== undefined;
  });
  return entityId === undefined ? undefined : { flagId: flagId ?? "", entityId };
}

/** The same for a `BulkEvaluateRequest`. */
export function readBulkJson(document: Buffer): BulkQuestion | undefined {
  let flagIds: readonly string[] | undefined;
  const entityId = readFields(document, (name, scanner) => {
    if ((name !== "flagIds" && name !== "flag_ids") || flagIds !== undefined) return false;
    flagIds = scanner.texts();
    return flagIds !== undefined;
  });
  return entityId === undefined ? undefined : { flagIds: flagIds ?? [], entityId };
}

/** Returns the entity's id, "" for none; undefined if there is a field that is neither that nor one that `take` takes. */
function readFields(
  document: Buffer,
  take: (name: string, scanner: JsonScanner) => boolean,
): string | undefined {
  const text = decode(document);
  if (text === undefined) return undefined;
  const scanner = new JsonScanner(text);
  if (!scanner.takes("{")) return undefined;
  let entityId: string | undefined;
  if (!scanner.takes("}")) {
    do {
      const name = scanner.text();
      if (name === undefined || !scanner.takes(":")) return undefined;
      if (name === "entityId" || name === "entity_id") {
        if (entityId !== undefined) return undefined;
        entityId = scanner.text();
        if (entityId === undefined) return undefined;
      } else if (!take(name, scanner)) return undefined;
    } while (scanner.takes(","));
    if (!scanner.takes("}")) return undefined;
  }
  return scanner.isAtEnd ? (entityId ?? "") : undefined;
}
