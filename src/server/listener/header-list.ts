/** What HTTP/2 adds for each field when it measures a header list (RFC 9113, section 6.5.2). */
const FIELD_OVERHEAD_BYTES = 32;

/**
 * The size of a request's header list as HTTP/2 counts it. nghttp2 holds clients to the announced limit only once
 * they have acknowledged it, so what came before that has to be measured here. `rawHeaders` is Node's: names and
 * values in turn, one character a byte.
 */
export function headerListBytes(rawHeaders: readonly string[]): number {
  let bytes = (rawHeaders.length / 2) * FIELD_OVERHEAD_BYTES;
  for (const text of rawHeaders) bytes += text.length;
  return bytes;
}
