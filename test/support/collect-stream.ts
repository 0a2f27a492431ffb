import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { StreamMethod, Transport } from "../../src/upstream/transport/transport.ts";
import { eventually } from "./eventually.ts";

/** What a stream has said so far, and how it ended. */
export interface CollectedStream<T> extends AsyncDisposable {
  readonly messages: readonly T[];
  /** Undefined while it is open. `error` is undefined if it ended in order. */
  readonly end: { readonly error: unknown } | undefined;
  /** The message with this index, once it has come. */
  at(index: number): Promise<T>;
  readonly ended: Promise<unknown>;
  /** Ends it from this side. */
  leave(): void;
}

/** Reads a stream in the background. */
export function collectStream<I extends DescMessage, O extends DescMessage>(
  transport: Transport,
  method: StreamMethod<I, O>,
  request: MessageInitShape<I>,
): CollectedStream<MessageShape<O>> {
  const messages: MessageShape<O>[] = [];
  const leaving = new AbortController();
  let end: { readonly error: unknown } | undefined;
  const read = async () => {
    for await (const message of transport.stream(method, request, leaving.signal)) messages.push(message);
  };
  const close = (error: unknown) => {
    end = { error };
    return error;
  };
  const ended = read().then(() => close(undefined), close);
  return {
    messages,
    get end() {
      return end;
    },
    ended,
    async at(index) {
      await eventually(() => messages.length > index || end !== undefined, { what: `message ${index}` });
      const message = messages[index];
      if (message === undefined) throw new Error(`ended before message ${index}: ${String(end?.error)}`);
      return message;
    },
    leave: () => leaving.abort(new Error("left")),
    async [Symbol.asyncDispose]() {
      leaving.abort(new Error("left"));
      await ended;
    },
  };
}
