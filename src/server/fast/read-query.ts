import { base64Decode } from "@bufbuild/protobuf/wire";
import type { Form } from "./fast-rpcs.ts";

/** A message that came in a URL. */
export interface QueryMessage {
  readonly form: Form;
  readonly message: Buffer;
}

/** Printable ASCII without `#`, behind which a URL has something else. */
const USUAL = /^[!"$-~]*$/;

/** What a Connect GET asks. Undefined for everything unusual. */
export function readQuery(url: string): QueryMessage | undefined {
  const start = url.indexOf("?");
  if (start === -1 || !USUAL.test(url)) return undefined;
  const query = new URLSearchParams(url.slice(start + 1));
  const encoding = query.get("encoding");
  if ((encoding !== "proto" && encoding !== "json") || query.has("compression")) return undefined;
  const text = query.get("message") ?? "";
  const message = query.get("base64") === "1" ? fromBase64(text) : Buffer.from(text);
  return message === undefined ? undefined : { form: encoding, message };
}

function fromBase64(text: string): Buffer | undefined {
  try {
    return Buffer.from(base64Decode(text));
  } catch {
    return undefined;
  }
}
