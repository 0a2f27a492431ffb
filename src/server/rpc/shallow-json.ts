/** As deep as protobuf messages may be. Our own requests are two levels deep. */
const DEPTH_MAX = 100;

const utf8 = new TextDecoder();

/**
 * Options for Connect's JSON that refuse a document nested too deeply, in fields we do not know as well. A megabyte of
 * brackets is parsed without overflow, but takes the event loop a third of a second and 100 MB.
 */
export const shallowJson = {
  // A newer client may send what we do not know yet.
  ignoreUnknownFields: true,
  textDecoder: {
    decode(document: Uint8Array): string {
      if (isDeep(document)) throw new Error(`cannot decode JSON: nested more than ${DEPTH_MAX} levels deep`);
      return utf8.decode(document);
    },
  },
};

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING = new Set([0x5b, 0x7b]);
const CLOSING = new Set([0x5d, 0x7d]);

/** Whether UTF-8 that may be JSON has more than `DEPTH_MAX` brackets open at any place. */
export function isDeep(document: Uint8Array): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < document.length; i++) {
    const byte = document[i] ?? 0;
    if (byte === QUOTE) inString = !inString;
    else if (inString) i += byte === BACKSLASH ? 1 : 0;
    else if (OPENING.has(byte)) depth += 1;
    else if (CLOSING.has(byte)) depth -= 1;
    if (depth > DEPTH_MAX) return true;
  }
  return false;
}
