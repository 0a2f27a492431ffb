import { request as httpRequest, type IncomingMessage } from "node:http";
import { text as readText } from "node:stream/consumers";
import { type Address, formatAddress } from "../config/address.ts";
import type { Clock } from "../system/clock.ts";
import { Envelopes, toEnvelope } from "../upstream/transport/envelopes.ts";
import { linkSignals } from "../upstream/transport/linked-signal.ts";
import { reasonOf, targetOf } from "./ask-daemon.ts";
import { CommandError } from "./failure.ts";

export interface FollowQuestion {
  readonly path: string;
  /** Sent as JSON. */
  readonly body: object;
  /** How long the daemon may be silent. Asked before each wait. */
  readonly silenceMaxMs: () => number;
}

/** Connect's flag of the last envelope, which says how the stream ended. */
const END_FLAG = 2;

/**
 * The messages of a streaming RPC, as they come. Ends in order once `signal` aborts. Fails with exit code 3 if nobody
 * answers, or the daemon ends it or falls silent; with another one for what the daemon has to say against it.
 */
export async function* followDaemon(
  address: Address,
  question: FollowQuestion,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): AsyncGenerator {
  const silence = new AbortController();
  using linked = linkSignals(signal, silence.signal);
  const place = formatAddress(address);
  const within = async <T>(answer: Promise<T>): Promise<T> => {
    const heard = new AbortController();
    const limitMs = question.silenceMaxMs();
    clock.sleep(limitMs, heard.signal).then(
      () => silence.abort(new Error(`nothing heard for ${limitMs / 1_000} s`)),
      () => {},
    );
    return answer.finally(() => heard.abort());
  };
  try {
    const response = await within(open(address, question, linked.signal));
    if (response.statusCode !== 200) throw await notServed(response, place);
    const pieces: AsyncIterator<Buffer> = response[Symbol.asyncIterator]();
    const envelopes = new Envelopes(place);
    for (;;) {
      const { done, value } = await within(pieces.next());
      if (done === true) throw new Error("it closed the connection");
      for (const { flags, bytes } of envelopes.take(value)) {
        const message: unknown = JSON.parse(bytes.toString());
        if (flags === END_FLAG) throw ended(message, place);
        yield message;
      }
    }
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof CommandError) throw error;
    const reason = reasonOf(error, silence.signal);
    throw new CommandError(3, `Cannot follow pbflagd at ${place}: ${reason}. Is it running there?`, {
      cause: error,
    });
  }
}

function open(
  address: Address,
  { path, body }: FollowQuestion,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const payload = toEnvelope(Buffer.from(JSON.stringify(body)));
  const headers = { "content-type": "application/connect+json", "content-length": payload.length };
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      ...targetOf(address),
      method: "POST",
      path,
      headers,
      signal,
      agent: false,
    });
    request.on("error", reject);
    request.once("response", resolve);
    request.end(payload);
  });
}

async function notServed(response: IncomingMessage, place: string): Promise<CommandError> {
  await readText(response);
  return new CommandError(
    1,
    `Cannot follow: no pbflagd that tells what changes answers at ${place}, got HTTP ${response.statusCode}`,
  );
}

/** What the last envelope says. */
function ended(message: unknown, place: string): CommandError {
  const error = typeof message === "object" && message !== null && "error" in message ? message.error : null;
  if (typeof error !== "object" || error === null)
    return new CommandError(3, `pbflagd at ${place} has ended the stream: it is stopping`);
  const code = "code" in error ? String(error.code) : "unknown";
  const words = "message" in error ? String(error.message) : "";
  const exitCode = { invalid_argument: 2, unavailable: 3 }[code] ?? 1;
  return new CommandError(exitCode, `Cannot follow: ${code}: ${words}`);
}
