import type { IncomingHttpHeaders, IncomingHttpStatusHeader } from "node:http2";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { UpstreamError } from "../../upstream-error.ts";
import { codeOfHttpStatus } from "../http-status.ts";
import { type InflateOptions, inflate } from "../inflate.ts";
import { parseMessage } from "../parse-message.ts";
import { codeOfStatus } from "./codes.ts";
import { fromFrame } from "./frame.ts";

/** What came back for a call that was answered to its end. */
export interface GrpcAnswer {
  readonly response: IncomingHttpHeaders & IncomingHttpStatusHeader;
  /** Undefined: all there was to say stood in the response. */
  readonly trailers: IncomingHttpHeaders | undefined;
  readonly body: Buffer;
}

/** An upstream's words go into logs: as many of them as help. */
const WORDS_MAX = 500;

/**
 * The message in an answer of gRPC. Rejects with the error that is there instead, as an UpstreamError; with the
 * signal's reason if it aborts while a compressed message is unpacked.
 */
export async function fromGrpcAnswer<O extends DescMessage>(
  schema: O,
  answer: GrpcAnswer,
  options: Pick<InflateOptions, "target" | "offered" | "signal">,
): Promise<MessageShape<O>> {
  const { target } = options;
  const cannotUse = (expected: string, got: string, code = "answer") =>
    new UpstreamError(code, `Cannot use what ${target} answered: must be ${expected}, got ${got}`);

  const { response, body } = answer;
  const status = statusOf(answer);
  if (status === undefined) {
    const httpStatus = response[":status"] ?? 0;
    const type = response["content-type"]?.slice(0, WORDS_MAX) || "none";
    const got = isGrpc(response) ? "no grpc-status" : `HTTP status ${httpStatus} with content type ${type}`;
    throw cannotUse("gRPC", got, httpStatus === 200 ? "answer" : codeOfHttpStatus(httpStatus));
  }
  const code = codeOfStatus(status);
  if (code !== "ok") {
    const words = decodeWords(wordsOf(answer)).slice(0, WORDS_MAX);
    throw new UpstreamError(code, `${target} answered ${code}: ${words}`, { answered: true });
  }
  const frame = fromFrame(body);
  if (frame.kind === "nonsense") throw cannotUse("one message of gRPC", frame.got);
  if (!frame.isCompressed) return parseMessage(target, schema, frame.message);
  const encoding = textOf(response["grpc-encoding"]);
  if (encoding === undefined || encoding === "identity")
    throw cannotUse("one message of gRPC", "a compressed one that does not say how");
  return parseMessage(target, schema, await inflate(frame.message, { ...options, encoding }));
}

/** Undefined: nobody who speaks gRPC said how the call ended. */
export function statusOf({ response, trailers }: Omit<GrpcAnswer, "body">): string | undefined {
  if (!isGrpc(response)) return undefined;
  return textOf(trailers?.["grpc-status"]) ?? textOf(response["grpc-status"]);
}

function wordsOf({ response, trailers }: GrpcAnswer): string {
  return textOf(trailers?.["grpc-message"]) ?? textOf(response["grpc-message"]) ?? "";
}

function isGrpc(response: IncomingHttpHeaders): boolean {
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
