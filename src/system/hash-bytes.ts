import { createHash } from "node:crypto";
import { runInSlices } from "./run-in-slices.ts";

/** Takes a fraction of a millisecond. */
const STEP_BYTES = 256 * 1024;

/** SHA-256 in hexadecimal, without holding up the process. */
export function hashBytes(bytes: Uint8Array): Promise<string> {
  return runInSlices(hashInSteps(bytes));
}

function* hashInSteps(bytes: Uint8Array): Generator<void, string> {
  const hash = createHash("sha256");
  for (let at = 0; at < bytes.length; at += STEP_BYTES) {
    hash.update(bytes.subarray(at, at + STEP_BYTES));
    yield;
  }
  return hash.digest("hex");
}
