import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { UpstreamError } from "../../upstream-error.ts";
import { codeOfHttpStatus } from "../http-status.ts";
import { parseMessage } from "../parse-message.ts";

/** What came back, as it is read: in one piece and not compressed. */
export interface HttpAnswer {
  readonly status: number;
  /** Empty if there is none. */
  readonly contentType: string;
  readonly body: Uint8Array;
}

/** The message in an answer of Connect's unary protocol. Throws the error that is there instead, as an UpstreamError. */
export function fromAnswer<O extends DescMessage>(
  upstream: string,
  schema: O,
  answer: HttpAnswer,
): MessageShape<O> {
  if (answer.status !== 200 || !answer.contentType.startsWith("application/proto"))
    throw toError(upstream, answer);
  return parseMessage(upstream, schema, answer.body);
}

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
  return new UpstreamError(status === 200 ? "answer" : codeOfHttpStatus(status), message);
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
