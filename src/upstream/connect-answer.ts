import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import type { HttpAnswer } from "./http-post.ts";
import { UpstreamError } from "./upstream-error.ts";

/** The message in an answer of Connect's unary protocol. Throws the error that is there instead, as an UpstreamError. */
export function fromAnswer<O extends DescMessage>(
  upstream: string,
  schema: O,
  answer: HttpAnswer,
): MessageShape<O> {
  if (answer.status !== 200 || !answer.contentType.startsWith("application/proto"))
    throw toError(upstream, answer);
  try {
    return fromBinary(schema, answer.body);
  } catch (cause) {
    const message = `Cannot use what ${upstream} answered: must be a ${schema.typeName}, got ${answer.body.length} other bytes`;
    throw new UpstreamError("answer", message, { cause });
  }
}

/** Connect's own table, for answers that did not come from a Connect server. */
const CODE_OF_STATUS: Readonly<Record<number, string>> = {
  400: "internal",
  401: "unauthenticated",
  403: "permission_denied",
  404: "unimplemented",
  429: "unavailable",
  502: "unavailable",
  503: "unavailable",
  504: "unavailable",
};

/** An upstream's words go into logs: as many of them as help. */
const WORDS_MAX = 500;

function toError(upstream: string, { status, contentType, body }: HttpAnswer): UpstreamError {
  const said = status !== 200 && contentType.startsWith("application/json") ? parseError(body) : undefined;
  if (said !== undefined) {
    const message = `${upstream} answered ${said.code}: ${said.message.slice(0, WORDS_MAX)}`;
    return new UpstreamError(said.code, message, { answered: true });
  }
  const got = `HTTP status ${status} with content type ${contentType.slice(0, WORDS_MAX) || "none"}`;
  const message = `Cannot use what ${upstream} answered: must be Connect, got ${got}`;
  return new UpstreamError(status === 200 ? "answer" : (CODE_OF_STATUS[status] ?? "unknown"), message);
}

/** Connect sends errors as JSON, whatever the request was. Undefined: it is none of Connect's. */
function parseError(body: Uint8Array): { readonly code: string; readonly message: string } | undefined {
  try {
    const error: unknown = JSON.parse(Buffer.from(body).toString());
    if (typeof error !== "object" || error === null) return undefined;
    const { code, message = "" } = error as { readonly code?: unknown; readonly message?: unknown };
    return typeof code === "string" ? { code, message: String(message) } : undefined;
  } catch {
    return undefined;
  }
}
