import type { Version } from "../evaluation/version.ts";
import { fromWireVersion } from "../evaluation/wire-version.ts";
import { UpstreamError } from "./upstream-error.ts";

/** The version that an upstream tells; undefined if none. Throws an UpstreamError for what no database can have said. */
export function toldVersion(version: Parameters<typeof fromWireVersion>[0]): Version | undefined {
  try {
    return fromWireVersion(version);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UpstreamError("answer", cause.message, { cause });
  }
}
