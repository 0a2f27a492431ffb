import type { Clock } from "./clock.ts";

/** The time of day as answers tell it (RFC 9110, section 6.6.1), written once a second. */
export function createHttpDate(clock: Pick<Clock, "wallNow">): () => string {
  let second = Number.NaN;
  let text = "";
  return () => {
    const now = Math.floor(clock.wallNow() / 1_000);
    if (now !== second) {
      second = now;
      text = new Date(now * 1_000).toUTCString();
    }
    return text;
  };
}
