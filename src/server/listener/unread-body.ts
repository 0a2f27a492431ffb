import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../../system/clock.ts";

/** How long a client that was answered early may go on sending, so that it gets to read the answer. */
const LINGER_MS = 1_000;
/** How much of that is read. A client that sends more without listening does not get to know. */
const LINGER_BYTES_MAX = 2 * 1_024 * 1_024;
/** What a piece of a body costs beside its bytes, in bytes: some clients send one at a time. */
const PIECE_BYTES = 400;

/**
 * Sees to requests of HTTP/1.1 that are answered before all of their body has come. The rest is thrown away for a moment:
 * closing at once would reset the connection and take the answer along. Then the connection is closed.
 */
export function endUnread(
  request: IncomingMessage,
  response: ServerResponse,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): void {
  const { socket } = request;

  async function linger(): Promise<void> {
    let bytesLeft = LINGER_BYTES_MAX;
    request.on("data", (chunk: Buffer) => {
      bytesLeft -= chunk.length + PIECE_BYTES;
      if (bytesLeft < 0) request.pause();
    });
    request.resume();
    await clock.sleep(LINGER_MS, signal);
    if (!request.complete) socket.destroy();
  }

  response.on("finish", () => {
    // A wait that is cut short ends with the server, which has closed the connection.
    if (!request.complete) linger().catch(() => {});
  });
}
