import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { RPC_CODES } from "../../../system/rpc-codes.ts";
import { UpstreamError } from "../../upstream-error.ts";
import { codeOfHttpStatus } from "../http-status.ts";
import { parseMessage } from "../parse-message.ts";
import type { Speaker } from "../upstream-words.ts";

/** What came back, as it is read: in one piece and not compressed. */
export interface HttpAnswer {
  readonly status: number;
  /** Empty if there is none. */
  readonly contentType: string;
  readonly body: Uint8Array;
}

/** The message in an answer of Connect's unary protocol. Throws the error that is there instead, as an UpstreamError. */
export function fromAnswer<O extends DescMessage>(
  upstream: Speaker,
  schema: O,
  answer: HttpAnswer,
): MessageShape<O> {
  if (answer.status !== 200 || !answer.contentType.startsWith("application/proto"))
    throw toError(upstream, answer);
  return parseMessage(upstream.target, schema, answer.body);
}

/** What is wrong with an answer that is not what was asked for. */
export function toError(upstream: Speaker, { status, contentType, body }: HttpAnswer): UpstreamError {
  const error = status !== 200 && contentType.startsWith("application/json") ? parseJson(body) : undefined;
  const refusal = toRefusal(upstream, error);
  if (refusal !== undefined) return refusal;
  const got = `HTTP status ${status} with content type ${upstream.words(contentType) || "none"}`;
  const message = `Cannot use what ${upstream.target} answered: must be Connect, got ${got}`;
  return new UpstreamError(status === 200 ? "answer" : codeOfHttpStatus(status), message);
}

/** How a stream of Connect ended, by its last envelope. Undefined: with success. */
export function toStreamError(upstream: Speaker, lastEnvelope: Uint8Array): UpstreamError | undefined {
  const end = parseJson(lastEnvelope);
  if (typeof end !== "object" || end === null) {
    const message = `Cannot use what ${upstream.target} answered: must end as Connect does, got ${lastEnvelope.length} other bytes`;
    return new UpstreamError("answer", message);
  }
  if (!("error" in end)) return undefined;
  return (
    toRefusal(upstream, end.error) ?? new UpstreamError("unknown", `${upstream.target} answered unknown`)
  );
}

/** Connect sends errors as JSON, whatever the request was. Undefined: it is none of Connect's. */
function toRefusal({ target, words }: Speaker, error: unknown): UpstreamError | undefined {
  if (typeof error !== "object" || error === null) return undefined;
  const { code, message = "" } = error as { readonly code?: unknown; readonly message?: unknown };
  // Else anything might go into metrics as one.
  if (!RPC_CODES.some((known) => known === code && known !== "ok")) return undefined;
  return new UpstreamError(String(code), `${target} answered ${String(code)}: ${words(String(message))}`, {
    answered: true,
  });
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString());
  } catch {
    return undefined;
  }
}
