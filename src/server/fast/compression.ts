import { compressionGzip } from "@connectrpc/connect-node";
import { COMPRESS_MIN_BYTES } from "../rpc/rpc-handlers.ts";
import type { Form } from "./fast-rpcs.ts";
import { FRAME_HEADER_BYTES } from "./read-frame.ts";
import { type ByteText, bytesOfText, byteText, toFrame } from "./write-answer.ts";

/** The encoding that we have and a client accepts which says this; undefined: none. */
export function acceptedBy(accepts: string | undefined): string | undefined {
  const { name } = compressionGzip;
  if (accepts === undefined) return undefined;
  return accepts.split(",").some((each) => each.trim() === name) ? name : undefined;
}

/** Whether an answer is so long that compressing it pays. */
export function isWorthCompressing(answer: ByteText, form: Form): boolean {
  return answer.length - (form === "grpc" ? FRAME_HEADER_BYTES : 0) >= COMPRESS_MIN_BYTES;
}

/** The same answer, compressed. */
export async function compress(answer: ByteText, form: Form): Promise<ByteText> {
  const message = form === "grpc" ? answer.slice(FRAME_HEADER_BYTES) : answer;
  const compressed = byteText(await compressionGzip.compress(bytesOfText(message)));
  return form === "grpc" ? toFrame(compressed, true) : compressed;
}
