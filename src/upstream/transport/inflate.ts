import { gunzip } from "node:zlib";
import { UpstreamError } from "../upstream-error.ts";
import type { Speaker } from "./upstream-words.ts";

/** More than any kill set or entity that makes sense, inflated or not. */
export const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

export interface InflateOptions extends Speaker {
  /** As the answer names it; empty or `identity`: as it is. */
  readonly encoding: string;
  /** What the upstream was offered. */
  readonly offered: "none" | "gzip";
  readonly signal: AbortSignal;
}

/**
 * What was sent, at most ANSWER_BYTES_MAX: it stops inflating there. Rejects with an UpstreamError for more, for what is
 * not gzip and for an encoding that was not offered; with the signal's reason once it aborts.
 */
export async function inflate(
  bytes: Uint8Array,
  { target, words, encoding, offered, signal }: InflateOptions,
): Promise<Uint8Array> {
  if (encoding === "" || encoding === "identity") return bytes;
  if (encoding !== offered) {
    const expected = offered === "none" ? "not encoded" : `encoded as ${offered} or not at all`;
    throw cannotUse(target, `${expected}, got ${words(encoding).slice(0, 50)}`);
  }
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    // Not the synchronous one: megabytes would hold up everybody else.
    gunzip(bytes, { maxOutputLength: ANSWER_BYTES_MAX }, (error, inflated) => {
      signal.removeEventListener("abort", abort);
      if (error === null) resolve(inflated);
      else reject(cannotUse(target, describe(error), error));
    });
  });
}

/** An answer that is longer than ANSWER_BYTES_MAX. */
export function tooLong(target: string): UpstreamError {
  return cannotUse(target, `at most ${ANSWER_BYTES_MAX} bytes, got more`);
}

function describe(error: NodeJS.ErrnoException): string {
  return error.code === "ERR_BUFFER_TOO_LARGE"
    ? `at most ${ANSWER_BYTES_MAX} bytes, got more`
    : "gzip, got other bytes";
}

function cannotUse(target: string, what: string, cause?: Error): UpstreamError {
  return new UpstreamError("answer", `Cannot use what ${target} answered: must be ${what}`, { cause });
}
