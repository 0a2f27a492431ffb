import { fromBinary } from "@bufbuild/protobuf";
import {
  type WatchRequest,
  type WatchResponse,
  WatchResponseSchema,
} from "../../src/gen/pbflagd/v1/watch_pb.ts";
import type { HttpResponse } from "../../src/server/listener/exchange.ts";
import { fromRequest } from "../../src/server/state-service.ts";
import { type FollowerOptions, follow } from "../../src/server/watch/follower.ts";
import { framingOf } from "../../src/server/watch/framing.ts";

export type WatchedFrom = Pick<FollowerOptions, "events" | "followers" | "clock" | "stopping">;

/** A follower's stream without sockets, which takes a piece when it is asked for the next message. Rejects when `signal` aborts. */
export async function* watchInMemory(
  { since, omitKills }: Pick<WatchRequest, "since" | "omitKills">,
  daemon: WatchedFrom,
  signal: AbortSignal,
): AsyncGenerator<WatchResponse> {
  const framing = framingOf("application/grpc");
  if (framing === undefined) throw new Error("gRPC is not served");
  const left = new AbortController();
  const taking = new TakingResponse();
  const leave = () => taking.destroy();
  signal.addEventListener("abort", leave, { once: true });
  follow({
    ...daemon,
    response: taking,
    framing,
    since: fromRequest(since),
    omitsKills: omitKills,
    timeoutMs: undefined,
    stallTimeoutMs: Infinity,
    left: left.signal,
    onStalled: () => {},
    onEnd: () => {},
  });
  try {
    yield* taking.messages();
  } finally {
    signal.removeEventListener("abort", leave);
    left.abort();
  }
  signal.throwIfAborted();
}

/** A flag and four bytes of length. */
const PREFIX_BYTES = 5;

class TakingResponse implements HttpResponse {
  readonly headersSent = false;
  readonly #pieces: { readonly piece: Uint8Array; readonly written: () => void }[] = [];
  #isOver = false;
  #wake: () => void = () => {};

  writeHead(): void {}
  addTrailers(): void {}
  once(): void {}

  write(piece: Uint8Array, written: () => void): void {
    this.#pieces.push({ piece, written });
    this.#wake();
  }

  end(): void {
    this.destroy();
  }

  destroy(): void {
    this.#isOver = true;
    this.#wake();
  }

  async *messages(): AsyncGenerator<WatchResponse> {
    let taken = Buffer.alloc(0);
    for (;;) {
      const next = this.#pieces.shift();
      if (next !== undefined) {
        taken = Buffer.concat([taken, next.piece]);
        next.written();
      } else if (this.#isOver) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      const end = taken.length < PREFIX_BYTES ? Infinity : PREFIX_BYTES + taken.readUInt32BE(1);
      if (taken.length < end) continue;
      yield fromBinary(WatchResponseSchema, taken.subarray(PREFIX_BYTES, end));
      taken = taken.subarray(end);
    }
  }
}
