import { compressionGzip } from "@connectrpc/connect-node";
import type { MaybeLater } from "../../evaluation/evaluator.ts";
import { type ByteText, bytesOfText, byteText, inOnePiece } from "../byte-text.ts";
import { COMPRESS_MIN_BYTES } from "../rpc/rpc-handlers.ts";
import type { Form } from "./fast-rpcs.ts";
import { FRAME_HEADER_BYTES } from "./read-frame.ts";
import { toFrame } from "./write-answer.ts";

/** An answer that is sent again and again. It is compressed once: when it is first asked for so. */
export class KeptAnswer {
  readonly text: ByteText;
  readonly #form: Form;
  #compressed: MaybeLater<ByteText> | undefined;

  /** `text` is in one piece. */
  constructor(text: ByteText, form: Form) {
    this.text = text;
    this.#form = form;
  }

  /** Whoever asks while it is being made waits for the same. Rejects if it cannot be made; then the next one tries again. */
  compressed(): MaybeLater<ByteText> {
    return (this.#compressed ??= this.#compress());
  }

  async #compress(): Promise<ByteText> {
    try {
      return (this.#compressed = inOnePiece(await compress(this.text, this.#form)));
    } catch (error) {
      this.#compressed = undefined;
      throw error;
    }
  }
}

/** As `compressionGzip` is named, for which Node has to load zlib: nearly all clients accept it, and few answers are so long. */
const GZIP = "gzip";

/** The encoding that we have and a client accepts which says this; undefined: none. */
export function acceptedBy(accepts: string | undefined): string | undefined {
  if (accepts === undefined) return undefined;
  return accepts.split(",").some((each) => each.trim() === GZIP) ? GZIP : undefined;
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
