/** What an Evaluate asks for. */
export interface EvaluateQuestion {
  readonly flagId: string;
  readonly entityId: string;
}

/** What a BulkEvaluate asks for. */
export interface BulkMessage {
  readonly flagIds: readonly string[];
  readonly entityId: string;
  /** Where, in bytes, the names of the flags end, and nothing but them was before. Undefined: something else was, or may have been. */
  readonly flagsEnd: number | undefined;
}

/** A field of both requests: wire type 2, length-delimited. */
const FIELD_1 = 0x0a;
const FIELD_2 = 0x12;

/** Reads an `EvaluateRequest`. Undefined for everything unusual, be it valid or not: unknown fields, huge texts. */
export function readEvaluate(message: Buffer): EvaluateQuestion | undefined {
  let flagId = "";
  let entityId = "";
  const isRead = readFields(message, (field, text) => {
    if (field === FIELD_1) flagId = text;
    else entityId = text;
  });
  return isRead ? { flagId, entityId } : undefined;
}

/** The same for a `BulkEvaluateRequest`. */
export function readBulk(message: Buffer): BulkMessage | undefined {
  const flagIds: string[] = [];
  let entityId = "";
  let flagsEnd: number | undefined = 0;
  let hasEntity = false;
  const isRead = readFields(message, (field, text, end) => {
    if (field === FIELD_1) {
      flagIds.push(text);
      flagsEnd = hasEntity ? undefined : end;
    } else {
      entityId = text;
      hasEntity = true;
    }
  });
  return isRead ? { flagIds, entityId, flagsEnd } : undefined;
}

/** The entity's id in a `BulkEvaluateRequest`, "" for none, where nothing but the flags stands before `flagsEnd`. */
export function readEntity(message: Buffer, flagsEnd: number): string | undefined {
  const rest = readBulk(message.subarray(flagsEnd));
  return rest?.flagIds.length === 0 ? rest.entityId : undefined;
}

/** False: there is something else in it. */
function readFields(message: Buffer, take: (field: number, text: string, end: number) => void): boolean {
  let at = 0;
  while (at < message.length) {
    const field = message[at] ?? 0;
    if (field !== FIELD_1 && field !== FIELD_2) return false;
    let length = message[at + 1] ?? 0;
    let start = at + 2;
    if (length >= 0x80) {
      const high = message[start] ?? 0x80;
      if (high >= 0x80) return false;
      length = (length & 0x7f) | (high << 7);
      start += 1;
    }
    at = start + length;
    if (at > message.length) return false;
    const text = textIn(message, start, at);
    if (text === undefined) return false;
    take(field, text, at);
  }
  return true;
}

function textIn(message: Buffer, start: number, end: number): string | undefined {
  for (let i = start; i < end; i++) {
    if ((message[i] ?? 0) >= 0x80) return decode(message.subarray(start, end));
  }
  return message.toString("latin1", start, end);
}

/** Stands in decoded text where there was none: then whether the bytes were UTF-8 is not known here. */
const REPLACEMENT = "\ufffd";

/** Undefined for what may not be UTF-8. */
export function decode(utf8: Buffer): string | undefined {
  const text = utf8.toString("utf8");
  return text.includes(REPLACEMENT) ? undefined : text;
}
