import type { ChangeNotice } from "./change-feed.ts";

/** Postgres carries less than 8,000 bytes; more than this nobody has to look at. */
const PAYLOAD_MAX = 8_000;
const EPOCH_MAX = 200;

/** Whether it is worth parsing; costs nothing. All that our triggers send is an object. */
export function mayBeNotice(payload: string): boolean {
  return payload.length <= PAYLOAD_MAX && payload.startsWith("{") && payload.endsWith("}");
}

/**
 * What a notice of the database says that `mayBeNotice` let through. Anybody who may connect can send one, so nothing is
 * taken for granted; one that makes no sense still says that something happened.
 */
export function parseNotice(payload: string): Pick<ChangeNotice, "version"> {
  return { version: toVersion(parseJson(payload)) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function toVersion(told: unknown): ChangeNotice["version"] {
  if (typeof told !== "object" || told === null || !("epoch" in told) || !("revision" in told))
    return undefined;
  const { epoch, revision } = told;
  if (typeof epoch !== "string" || epoch === "" || epoch.length > EPOCH_MAX) return undefined;
  if (typeof revision !== "number" || !Number.isSafeInteger(revision) || revision < 0) return undefined;
  return { epoch, revision };
}
