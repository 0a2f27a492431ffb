import type { IncomingHttpHeaders } from "node:http";
import { isLater, type MaybeLater } from "../../evaluation/evaluator.ts";
import type { Clock } from "../../system/clock.ts";
import type { Rpc } from "../../telemetry/call-counts.ts";
import type { TracedRpc, Tracing } from "../../telemetry/tracing.ts";
import type { ByteText } from "../byte-text.ts";
import { textOf } from "../listener/exchange.ts";
import type { Permit } from "../rpc/permit.ts";
import type { Worth, WorthNow } from "../worth.ts";
import { acceptedBy, compress, isWorthCompressing, type KeptAnswer } from "./compression.ts";
import type { FastRpc, Form } from "./fast-rpcs.ts";
import type { Dialect } from "./plain-call.ts";

export interface FastCallOptions {
  readonly worth: Pick<Worth, "now">;
  readonly permit: Permit;
  readonly clock: Pick<Clock, "now" | "after">;
  readonly tracing: Pick<Tracing, "traceRpc"> | undefined;
  readonly bodyBytesMax: number;
  readonly requestTimeoutMs: number;
  readonly onRpc: (rpc: Rpc) => void;
  readonly onInternalError: (error: unknown, procedure: string) => void;
}

/** A call whose message is there. */
export interface FastCall {
  readonly rpc: FastRpc;
  readonly dialect: Dialect;
  readonly form: Form;
  readonly headers: IncomingHttpHeaders;
  readonly message: Buffer;
  readonly send: (answer: FastAnswer) => void;
  /** Has Connect's implementation answer it. Nothing has been sent then. */
  readonly fallThrough: () => void;
  /** Gives up. */
  readonly destroy: () => void;
}

/** What is sent. */
export interface FastAnswer {
  readonly body: ByteText;
  readonly worth: WorthNow | undefined;
  /** The encoding that the client accepts of those that we have. */
  readonly encoding: string | undefined;
  readonly isCompressed: boolean;
}

/**
 * Of a message. What is longer asks for thousands of flags: answered at once, as everything here is, several of those
 * would hold up all others.
 */
export const MESSAGE_BYTES_MAX = 64 * 1_024;

/** Answers a call, or lets it fall through: whatever is refused or goes wrong is told in one place, and that is not here. */
export function serveFast(call: FastCall, options: FastCallOptions): void {
  const { rpc, dialect, headers, message, fallThrough } = call;
  const { worth, permit, clock, bodyBytesMax, onRpc } = options;
  const { procedure } = rpc;
  const startedAt = clock.now();
  const header = (name: string) => textOf(headers[name]);
  const isTooLarge = message.length > Math.min(bodyBytesMax, MESSAGE_BYTES_MAX);
  if (isTooLarge || permit({ procedure, header }) !== undefined) {
    fallThrough();
    return;
  }
  // Before the answer is made: it is at least as new as its headers say.
  const told = worth.now();
  const finish = (body: ByteText | KeptAnswer | undefined) => {
    if (body === undefined) {
      fallThrough();
      return;
    }
    const durationMs = clock.now() - startedAt;
    onRpc({ procedure, protocol: dialect.protocol, code: "ok", durationMs, isFast: true });
    send(call, body, told, options);
  };
  const answer = traceAnswer(call, options.tracing, header);
  if (isLater(answer)) void answer.then(finish);
  else finish(answer);
}

function traceAnswer(
  call: FastCall,
  tracing: FastCallOptions["tracing"],
  header: TracedRpc["header"],
): MaybeLater<ByteText | KeptAnswer | undefined> {
  if (tracing === undefined) return tryAnswer(call);
  const { procedure } = call.rpc;
  const { protocol } = call.dialect;
  return tracing.traceRpc({ procedure, protocol, header, codeOf: () => "internal" }, () => tryAnswer(call));
}

/** Undefined where Connect's implementation is to answer. It meets the same errors, and reports them: this neither throws nor rejects. */
function tryAnswer({
  rpc,
  message,
  form,
}: Pick<FastCall, "rpc" | "message" | "form">): MaybeLater<ByteText | KeptAnswer | undefined> {
  try {
    const answer = rpc.answer(message, form);
    return isLater(answer) ? answer.catch(() => undefined) : answer;
  } catch {
    return undefined;
  }
}

function send(
  { rpc, dialect, form, headers, send, destroy }: FastCall,
  answer: ByteText | KeptAnswer,
  worth: WorthNow | undefined,
  { onInternalError }: FastCallOptions,
): void {
  const body = typeof answer === "string" ? answer : answer.text;
  const encoding = acceptedBy(textOf(headers[dialect.accepts]));
  if (encoding === undefined || !isWorthCompressing(body, form)) {
    send({ body, worth, encoding, isCompressed: false });
    return;
  }
  const finish = (compressed: ByteText) => send({ body: compressed, worth, encoding, isCompressed: true });
  const compressed = typeof answer === "string" ? compress(answer, form) : answer.compressed();
  if (!isLater(compressed)) {
    finish(compressed);
    return;
  }
  compressed.then(finish, (error: unknown) => {
    onInternalError(error, rpc.procedure);
    destroy();
  });
}
