import type { DescMessage, DescMethod, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Deadline } from "./deadline.ts";

/** Calls the RPCs of one upstream, whatever they travel over. */
export interface Transport extends AsyncDisposable {
  /** Its URL, without credentials: for people. */
  readonly target: string;
  /**
   * Makes one call that changes nothing. Rejects with an UpstreamError that names the target and shows no secret, or
   * with the reason of the deadline's signal.
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    deadline: Deadline,
  ): Promise<MessageShape<O>>;
  /**
   * Makes one call whose answer is many messages, on a connection of its own. It has no time limit and waits for ever
   * where nothing comes. Ends when the upstream ends it with success; rejects with an UpstreamError as `call` does, or
   * with the signal's reason. Whoever stops reading ends the call.
   */
  stream<I extends DescMessage, O extends DescMessage>(
    method: StreamMethod<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): AsyncIterable<MessageShape<O>>;
}

/** A method as a generated service has it, with one answer. */
export type UnaryMethod<I extends DescMessage, O extends DescMessage> = Pick<
  DescMethod,
  "name" | "parent"
> & {
  readonly input: I;
  readonly output: O;
};

/** The same with many. */
export type StreamMethod<I extends DescMessage, O extends DescMessage> = UnaryMethod<I, O>;
