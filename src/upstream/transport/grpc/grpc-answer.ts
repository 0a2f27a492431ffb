import type { IncomingHttpHeaders, IncomingHttpStatusHeader } from "node:http2";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { UpstreamError } from "../../upstream-error.ts";
import { codeOfHttpStatus } from "../http-status.ts";
import { type InflateOptions, inflate } from "../inflate.ts";
import { parseMessage } from "../parse-message.ts";
import type { Speaker } from "../upstream-words.ts";
import { codeOfStatus } from "./codes.ts";
import { fromFrame } from "./frame.ts";

/** What came back for a call that was answered to its end. */
export interface GrpcAnswer {
  readonly response: IncomingHttpHeaders & IncomingHttpStatusHeader;
  /** Undefined: all there was to say stood in the response. */
  readonly trailers: IncomingHttpHeaders | undefined;
  readonly body: Buffer;
}

/**
 * The message in an answer of gRPC. Rejects with the error that is there instead, as an UpstreamError; with the
 * signal's reason if it aborts while a compressed message is unpacked.
 */
export async function fromGrpcAnswer<O extends DescMessage>(
  schema: O,
  answer: GrpcAnswer,
  options: Pick<InflateOptions, "target" | "words" | "offered" | "signal">,
): Promise<MessageShape<O>> {
  const { target } = options;
  const refusal = toRefusal(options, answer);
  if (refusal !== undefined) throw refusal;
  const frame = fromFrame(answer.body);
  if (frame.kind === "nonsense") throw cannotUse(target, "one message of gRPC", frame.got);
  if (!frame.isCompressed) return parseMessage(target, schema, frame.message);
  const encoding = textOf(answer.response["grpc-encoding"]);
  if (encoding === undefined || encoding === "identity")
    throw cannotUse(target, "one message of gRPC", "a compressed one that does not say how");
  return parseMessage(target, schema, await inflate(frame.message, { ...options, encoding }));
}

/** The error with which a call ended, or why what came is no answer of gRPC. Undefined: it succeeded. */
export function toRefusal(upstream: Speaker, answer: Omit<GrpcAnswer, "body">): UpstreamError | undefined {
  const { target, words } = upstream;
  const { response } = answer;
  const status = statusOf(answer);
  if (status === undefined) {
    const httpStatus = response[":status"] ?? 0;
    const type = words(response["content-type"] ?? "") || "none";
    const got = isGrpc(response) ? "no grpc-status" : `HTTP status ${httpStatus} with content type ${type}`;
    return cannotUse(target, "gRPC", got, httpStatus === 200 ? "answer" : codeOfHttpStatus(httpStatus));
  }
  const code = codeOfStatus(status);
  if (code === "ok") return undefined;
  const said = words(decodeWords(wordsOf(answer)));
  return new UpstreamError(code, `${target} answered ${code}: ${said}`, { answered: true });
}

function cannotUse(target: string, expected: string, got: string, code = "answer"): UpstreamError {
  return new UpstreamError(code, `Cannot use what ${target} answered: must be ${expected}, got ${got}`);
}

/** Undefined: nobody who speaks gRPC said how the call ended. */
export function statusOf({ response, trailers }: Omit<GrpcAnswer, "body">): string | undefined {
  if (!isGrpc(response)) return undefined;
  return textOf(trailers?.["grpc-status"]) ?? textOf(response["grpc-status"]);
}

function wordsOf({ response, trailers }: Omit<GrpcAnswer, "body">): string {
  return textOf(trailers?.["grpc-message"]) ?? textOf(response["grpc-message"]) ?? "";
}

/** Whether somebody answered who speaks gRPC. */
export function isGrpc(response: IncomingHttpHeaders): boolean {
  return /^application\/grpc(\+|;|$)/.test(response["content-type"] ?? "");
}

function textOf(value: string | string[] | undefined): string | undefined {
  return typeof value === "string" ? value : value?.[0];
}

/** What is not encoded as it should be stays as it is: half a text is better than none. */
function decodeWords(text: string): string {
  const bytes = text.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(bytes, "latin1").toString("utf8");
}
